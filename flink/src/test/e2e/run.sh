#!/usr/bin/env bash
# The connector on a real Kafka (two clusters) and a real Flink: doubles of both clusters, broken values, a TaskManager killed
# in the middle, stopped with a savepoint, and gone on from the hand-over object by another job. With OUTAGE=start the
# failover cluster is away from before the job's start until all is delivered, and then comes back; with OUTAGE=later it goes
# away while the job runs. Takes one to two minutes.
#   run.sh WORK FLINK KAFKA EXTRA   an empty folder; Flink's distribution; Kafka's jars; jars beside Flink's: flink-connector-kafka,
#                                   kafka-clients, flink-sql-gateway and flink-sql-gateway-api (for the SQL client), flink-parquet,
#                                   parquet-hadoop and hadoop-client-runtime with what they need, the connector
#   PYTHON                          a Python with pyarrow, which reads what came out
# Ends only what it started, by process id.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd); WORK=$1 FLINK=$2 KAFKA=$3 EXTRA=$4
PYTHON=${PYTHON:-python3}; "$PYTHON" -c 'import pyarrow.parquet'
RECORDS=${RECORDS:-200000} SECONDS_LONG=${SECONDS_LONG:-25}
CLASSES=$HERE/../../../target; PIDS=$WORK/pids; mkdir -p "$WORK"/{conf,log,tmp} "$PIDS"
say() { echo "$(date +%T) $*"; }
OPENS=(); for p in lang lang.reflect net io nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks; do
  OPENS+=("--add-opens=java.base/java.$p=ALL-UNNAMED"); done
JVM=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir="$WORK/tmp" "${OPENS[@]}")
bg() { local name=$1; shift; setsid "$@" >>"$WORK/log/$name.log" 2>&1 </dev/null & echo $! >"$PIDS/$name"; }
end() { local pid; for name in "$@"; do [ -f "$PIDS/$name" ] || continue; pid=$(cat "$PIDS/$name"); kill "$pid" 2>/dev/null || true
  for _ in $(seq 40); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done; kill -9 "$pid" 2>/dev/null || true; rm -f "$PIDS/$name"; done; }
finish() { end offer sql tm jm kafka-normal kafka-failover; }
trap finish EXIT
until_ok() { local what=$1 tries=$2; shift 2; for _ in $(seq "$tries"); do "$@" >/dev/null 2>&1 && return 0; sleep 0.5; done; say "timeout: $what"; return 1; }

kafka() { local name=$1 port=$2 dir=$WORK/kafka-$1; mkdir -p "$dir"
  cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
log.dirs=$dir/data
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=8388608
P
  local run=(java -Xms64m -Xmx384m "${JVM[@]}" -cp "$KAFKA/*" "-Dlog4j2.configurationFile=$KAFKA/log4j2.properties" "-Dkafka.logs.dir=$dir")
  [ -d "$dir/data" ] || "${run[@]}" kafka.tools.StorageTool format -t aXNvbGFuZS1lMmUtMDAwMQ -c "$dir/server.properties" >/dev/null
  bg "kafka-$name" "${run[@]}" kafka.Kafka "$dir/server.properties"; }
export FLINK_CONF_DIR=$WORK/conf FLINK_LIB_DIR=$FLINK/lib FLINK_OPT_DIR=$FLINK/opt FLINK_PLUGINS_DIR=$WORK/plugins FLINK_HOME=$FLINK
mkdir -p "$WORK/plugins"; LOG=-Dlog4j.configurationFile=$HERE/log4j.properties
jm() { bg jm java -Xms128m -Xmx384m "${JVM[@]}" "$LOG" -cp "$FLINK/lib/*:$EXTRA/*" org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint -c "$WORK/conf"; }
tm() { bg tm java -Xms128m -Xmx512m -XX:MaxDirectMemorySize=192m "${JVM[@]}" "$LOG" -cp "$FLINK/lib/*:$EXTRA/*" org.apache.flink.runtime.taskexecutor.TaskManagerRunner -c "$WORK/conf"; }
rest() { curl -sfg "http://127.0.0.1:48081$1"; }
slots() { [ "$(rest /overview | jq '."slots-available"')" -ge "$1" ]; }
running() { [ "$(rest "/jobs/$JOB" | jq -r '[.state, (.vertices[].status)] | unique | join(",")')" = RUNNING ]; }
submit() { sed "s#@WORK@#$WORK#g; s#@TOPIC@#$TOPIC#; s#@MORE@#$1#; s#@SET@#$2#" "$HERE/job.sql" >"$WORK/job.sql"
  java -Xmx384m "${JVM[@]}" "-Dlog4j.configurationFile=$HERE/log4j.properties" -cp "$FLINK/lib/*:$FLINK/opt/*:$EXTRA/*" org.apache.flink.table.client.SqlClient -f "$WORK/job.sql" >"$WORK/log/sql.log" 2>&1 || { tail -40 "$WORK/log/sql.log"; return 1; }
  JOB=$(grep -o 'Job ID: [0-9a-f]*' "$WORK/log/sql.log" | tail -1 | cut -d' ' -f3); [ -n "$JOB" ] || { tail -40 "$WORK/log/sql.log"; return 1; }; say "job $JOB"; }
SERVERS="127.0.0.1:49092 127.0.0.1:49192"
offer() { java -Xmx256m "${JVM[@]}" -cp "$CLASSES/test-classes:$CLASSES/classes:$EXTRA/*:$FLINK/lib/*" org.isolane.flink.Offer "$TOPIC" "$@" $SERVERS; }
stop() { local trigger; trigger=$(curl -sf -XPOST "http://127.0.0.1:48081/jobs/$JOB/stop" -d '{"drain":false}' | jq -r '."request-id"')
  until_ok "stop" 60 eval "rest /jobs/$JOB/savepoints/$trigger | jq -e '.status.id == \"COMPLETED\"'"
  rest "/jobs/$JOB/savepoints/$trigger" | jq -c .operation; }
counts() { local vertex; for vertex in $(rest "/jobs/$JOB" | jq -r '.vertices[].id'); do
  rest "/jobs/$JOB/vertices/$vertex/metrics" | jq -r '.[].id' | grep -E 'isolane\.(rows|doubles|dropped|quarantined|foreign|hand_overs_failed)$|\.lag$' | while read -r id; do
    echo "$id=$(rest "/jobs/$JOB/vertices/$vertex/metrics?get=$id" | jq -r '.[0].value')"; done; done | sed 's/isolane-take: [^.]*//' | sort | tr '\n' ' ' || true; echo; }

for port in 46123 48081 49092 49093 49192 49193; do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && { say "port $port is taken"; exit 1; }; done
sed "s#@WORK@#$WORK#g" "$HERE/config.yaml.in" >"$WORK/conf/config.yaml"
TOPIC=a.b.c.000000000000001f
kafka normal 49092; kafka failover 49192; jm; tm
until_ok "Flink" 120 slots 2; until_ok "normal" 60 kcat -b 127.0.0.1:49092 -L -m 2; until_ok "failover" 60 kcat -b 127.0.0.1:49192 -L -m 2
say "two clusters and Flink are up"
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
