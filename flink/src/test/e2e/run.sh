#!/usr/bin/env bash
# The connector on a real Kafka (two clusters) and a real Flink: doubles of both clusters, broken values, a TaskManager killed
# in the middle, stopped with a savepoint, and gone on from the hand-over object by another job. With OUTAGE=start the
# failover cluster is away from before the job's start until all is delivered, and then comes back; with OUTAGE=later it goes
# away while the job runs. Takes one to two minutes.
#   run.sh WORK FLINK KAFKA EXTRA   an empty folder; Flink's distribution; Kafka's jars; jars beside Flink's: flink-connector-kafka,
#                                   kafka-clients, flink-sql-gateway and flink-sql-gateway-api (for the SQL client), flink-parquet,
#                                   parquet-hadoop and hadoop-client-runtime with what they need, the connector
#   PYTHON                          a Python with pyarrow, which reads what came out
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/common.sh"
RECORDS=${RECORDS:-200000} SECONDS_LONG=${SECONDS_LONG:-25}
submit() { sed "s#@WORK@#$WORK#g; s#@TOPIC@#$TOPIC#; s#@MORE@#$1#; s#@SET@#$2#" "$HERE/job.sql" >"$WORK/job.sql"
  java -Xmx384m "${JVM[@]}" "-Dlog4j.configurationFile=$HERE/log4j.properties" -cp "$FLINK/lib/*:$FLINK/opt/*:$EXTRA/*" org.apache.flink.table.client.SqlClient -f "$WORK/job.sql" >"$WORK/log/sql.log" 2>&1 || { tail -40 "$WORK/log/sql.log"; return 1; }
  JOB=$(grep -o 'Job ID: [0-9a-f]*' "$WORK/log/sql.log" | tail -1 | cut -d' ' -f3); [ -n "$JOB" ] || { tail -40 "$WORK/log/sql.log"; return 1; }; say "job $JOB"; }
stop() { local trigger; trigger=$(curl -sf -XPOST "http://127.0.0.1:48081/jobs/$JOB/stop" -d '{"drain":false}' | jq -r '."request-id"')
  until_ok "stop" 60 eval "rest /jobs/$JOB/savepoints/$trigger | jq -e '.status.id == \"COMPLETED\"'"
  rest "/jobs/$JOB/savepoints/$trigger" | jq -c .operation; }
counts() { local vertex; for vertex in $(rest "/jobs/$JOB" | jq -r '.vertices[].id'); do
  rest "/jobs/$JOB/vertices/$vertex/metrics" | jq -r '.[].id' | grep -E 'isolane\.(rows|doubles|dropped|quarantined|foreign|hand_overs_failed)$|\.lag$' | while read -r id; do
    echo "$id=$(rest "/jobs/$JOB/vertices/$vertex/metrics?get=$id" | jq -r '.[0].value')"; done; done | sed 's/isolane-take: [^.]*//' | sort | tr '\n' ' ' || true; echo; }

up
offer 0 0 true
[ "${OUTAGE:-}" != later ] || offer 20000 0 false >/dev/null
[ "${OUTAGE:-}" != start ] || { end kafka-failover; say "the failover cluster is away"; }
submit "" ""
until_ok "the job" 120 running
[ -z "${OUTAGE:-}" ] || SERVERS=127.0.0.1:49092
say "offering $RECORDS records in $SECONDS_LONG s"
offer "$RECORDS" "$SECONDS_LONG" false >"$WORK/offered.json" & OFFER=$!
sleep $((SECONDS_LONG / 2)); until_ok "the first committed files" 60 eval 'ls "$WORK"/good/[!._]*'
[ "${OUTAGE:-}" != later ] || { end kafka-failover; say "the failover cluster is away"; sleep 12; }
say "kill -9 of the TaskManager; completed checkpoints: $(rest "/jobs/$JOB/checkpoints" | jq .counts.completed), committed files so far: $(ls "$WORK/good" | wc -l)"
kill -9 "$(cat "$PIDS/tm")"; rm "$PIDS/tm"; tm
wait "$OFFER"; say "offered: $(cat "$WORK/offered.json")"
until_ok "all rows" 160 "$PYTHON" "$HERE/verify.py" "$WORK" "$WORK/offered.json" wait
counts >/dev/null; sleep 3; until_ok "the job" 60 running; say "restarts: $(rest "/jobs/$JOB/checkpoints" | jq -c '.counts')"; say "metrics: $(counts)"
doubles() { counts | grep -o 'doubles=[0-9]*' | cut -d= -f2 | paste -sd+ | bc; }
if [ -n "${OUTAGE:-}" ]; then
  KNOWN=$(doubles); kafka failover 49192; until_ok "failover" 60 kcat -b 127.0.0.1:49192 -L -m 2; SERVERS="127.0.0.1:49092 127.0.0.1:49192"
  say "the failover cluster is back; everything is offered again, to both"; offer "$RECORDS" 0 false >"$WORK/again.json"
  WANT=$((KNOWN + $(jq '.records + .copies + .marks' "$WORK/again.json")))
  until_ok "all doubles" 120 eval '[ "$(doubles)" = "$WANT" ]' || true; DOUBLES=$(doubles)
  say "doubles dropped: $DOUBLES, offered: $WANT; $(rest "/jobs/$JOB/checkpoints" | jq -c '.counts')"
  say "stop with savepoint: $(stop)"; "$PYTHON" "$HERE/verify.py" "$WORK" "$WORK/offered.json"; [ "$DOUBLES" = "$WANT" ]; say "done"; exit 0
fi
say "stop with savepoint: $(stop)"
"$PYTHON" "$HERE/verify.py" "$WORK" "$WORK/offered.json"

FROM=$(ls -t "$WORK"/hand-over/*.json | head -1); say "another job, parallelism 1, from $(basename "$FROM") ($(stat -c %s "$FROM") bytes)"
# Everything is offered once more, to other partitions: all of it is known, and not one row may come of it.
offer "$RECORDS" 0 false >/dev/null
submit ", 'hand-over.from' = 'file://$FROM'" "SET 'parallelism.default' = '1';"
until_ok "the job" 120 running
WANT=$(jq '.records + .copies + .marks' "$WORK/offered.json")
until_ok "all doubles" 120 eval '[ "$(doubles)" = "$WANT" ]' || true
DOUBLES=$(doubles); say "doubles dropped: $DOUBLES, offered again: $WANT; metrics: $(counts)"
say "stop with savepoint: $(stop)"
"$PYTHON" "$HERE/verify.py" "$WORK" "$WORK/offered.json"
[ "$DOUBLES" = "$WANT" ]
say "done"
