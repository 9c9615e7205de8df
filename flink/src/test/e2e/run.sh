#!/usr/bin/env bash
# The connector on a real Kafka (two clusters) and a real Flink: doubles of both clusters, broken values, a TaskManager killed
# in the middle, stopped with a savepoint, and gone on from the hand-over object by another job; then the topic is made anew, and a
# third job must not begin from an object of the old one. With OUTAGE=start the
# failover cluster is away from before the job's start until all is delivered, and then comes back; with OUTAGE=later it goes
# away while the job runs. Takes one to two minutes.
#   run.sh WORK FLINK KAFKA EXTRA   an empty folder; Flink's distribution; Kafka's jars; jars beside Flink's: flink-connector-kafka,
#                                   kafka-clients, flink-sql-gateway and flink-sql-gateway-api (for the SQL client), flink-parquet,
#                                   parquet-hadoop and hadoop-client-runtime with what they need, the connector
#   PYTHON                          a Python with pyarrow, which reads what came out
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd) SQL=job.sql
RECORDS=${RECORDS:-200000} SECONDS_LONG=${SECONDS_LONG:-25}
. "$HERE/lib.sh"
"$PYTHON" -c 'import pyarrow.parquet'

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
kill_hard tm; tm
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

FROM=$(ls -t "$WORK"/hand-over/*.json | head -1); say "the topic is deleted and made again, and a third job begins from $(basename "$FROM")"
offer 1000 0 true >/dev/null
submit ", 'hand-over.from' = 'file://$FROM'" ""
another() { rest "/jobs/$JOB/exceptions" | grep -q 'was deleted and made again: partition'; }
until_ok "the job's failure" 120 another
say "it fails: $(rest "/jobs/$JOB/exceptions" | grep -o 'topic [^ ]* of cluster [^ ]* was deleted and made again: [^,]*, and[^.]*' | head -1)"
say "done"
