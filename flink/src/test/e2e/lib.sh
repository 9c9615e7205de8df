# What the end-to-end runs have in common: a real Kafka, a real Flink, a job, load, and how each is started and ended. Sourced,
# with WORK FLINK KAFKA EXTRA as arguments; HERE is this folder, SQL the job's file, if it is submitted by hand.
# Ends only what it started, by process id.
WORK=$1 FLINK=$2 KAFKA=$3 EXTRA=$4
PYTHON=${PYTHON:-python3}
TOPIC=a.b.c.000000000000001f SERVERS="127.0.0.1:49092 127.0.0.1:49192"
CLASSES=$HERE/../../../target; PIDS=$WORK/pids; mkdir -p "$WORK"/{conf,log,tmp} "$PIDS"
say() { echo "$(date +%T) $*"; }
OPENS=(); for p in lang lang.reflect net io nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks; do
  OPENS+=("--add-opens=java.base/java.$p=ALL-UNNAMED"); done
JVM=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir="$WORK/tmp" "${OPENS[@]}")
bg() { local name=$1; shift; setsid "$@" >>"$WORK/log/$name.log" 2>&1 </dev/null & echo $! >"$PIDS/$name"; }
end() { local pid; for name in "$@"; do [ -f "$PIDS/$name" ] || continue; pid=$(cat "$PIDS/$name"); kill "$pid" 2>/dev/null || true
  for _ in $(seq 40); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done; kill -9 "$pid" 2>/dev/null || true; rm -f "$PIDS/$name"; done; }
# Until it is gone: its ports are free then.
kill_hard() { local pid; pid=$(cat "$PIDS/$1"); kill -9 "$pid"; wait "$pid" 2>/dev/null || true; rm "$PIDS/$1"; }
finish() { end engine query admin offer sql gw tm jm zk kafka-normal kafka-failover; }
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
gw() { bg gw java -Xms128m -Xmx384m "${JVM[@]}" "$LOG" -cp "$FLINK/lib/*:$FLINK/opt/*:$EXTRA/*" org.apache.flink.table.gateway.SqlGateway \
  -Dsql-gateway.endpoint.type=rest -Dsql-gateway.endpoint.rest.address=127.0.0.1 -Dsql-gateway.endpoint.rest.port=48083; }
# The ZooKeeper that Flink brings along.
zk() { mkdir -p "$WORK/zk"; bg zk java -Xmx128m "${JVM[@]}" "$LOG" -cp "$FLINK/lib/*" \
  org.apache.flink.shaded.zookeeper3.org.apache.zookeeper.server.ZooKeeperServerMain 42181 "$WORK/zk"; }
ha() { cat <<P
high-availability.type: zookeeper
high-availability.zookeeper.quorum: 127.0.0.1:42181
high-availability.storageDir: file://$WORK/ha
high-availability.zookeeper.client.session-timeout: 6000
P
}
running() { [ "$(rest "/jobs/$JOB" | jq -r '[.state, (.vertices[].status)] | unique | join(",")')" = RUNNING ]; }
submit() { sed "s#@WORK@#$WORK#g; s#@TOPIC@#$TOPIC#; s#@MORE@#$1#; s#@SET@#$2#" "$HERE/$SQL" >"$WORK/job.sql"; submit_job; }
submit_job() {
  java -Xmx384m "${JVM[@]}" "-Dlog4j.configurationFile=$HERE/log4j.properties" -cp "$FLINK/lib/*:$FLINK/opt/*:$EXTRA/*" org.apache.flink.table.client.SqlClient -f "$WORK/job.sql" >"$WORK/log/sql.log" 2>&1 || { tail -40 "$WORK/log/sql.log"; return 1; }
  JOB=$(grep -o 'Job ID: [0-9a-f]*' "$WORK/log/sql.log" | tail -1 | cut -d' ' -f3); [ -n "$JOB" ] || { tail -40 "$WORK/log/sql.log"; return 1; }; say "job $JOB"; }
offer() { java -Xmx256m ${LATER:+-Dlater=$LATER} "${JVM[@]}" -cp "$CLASSES/test-classes:$CLASSES/classes:$EXTRA/*:$FLINK/lib/*" org.isolane.flink.Offer "$TOPIC" "$@" $SERVERS; }
stop() { local trigger; trigger=$(curl -sf -XPOST "http://127.0.0.1:48081/jobs/$JOB/stop" -d '{"drain":false}' | jq -r '."request-id"')
  until_ok "stop" 60 eval "rest /jobs/$JOB/savepoints/$trigger | jq -e '.status.id == \"COMPLETED\"'"
  rest "/jobs/$JOB/savepoints/$trigger" | jq -c .operation; }
# A deployment whose journal are the two clusters, an engine role beside it, and how the stream ID stands there: as a user has them.
deployment() { local journal="kafka=127.0.0.1:49092;failover=127.0.0.1:49192"
  export ISOLANE_ADMIN=http://127.0.0.1:48700 ISOLANE_GATEWAY=http://127.0.0.1:48701
  up; gw; until_ok "the gateway" 120 curl -sf http://127.0.0.1:48083/v2/info
  bg isolane "$ISOLANE" up --data-dir "$WORK/data" --no-first-stream --journal "$journal" --ui-port 48700 --http-port 48701 --grpc-port 48702
  until_ok "isolane" 120 curl -sf "$ISOLANE_GATEWAY/health"
  cat >"$WORK/engine.toml" <<P
ops_listen = "127.0.0.1:48716"
state_dir = "$WORK/engine"
checkpoint_dir = "$WORK/flink"
out_dir = "$WORK/out"
sql_gateway = "127.0.0.1:48083"
job_manager = "127.0.0.1:48081"
journal = "$journal"
admin = "$ISOLANE_ADMIN"
P
}
# A role that `up` has started, and its end: `up` starts it again.
child() { pgrep -P "$(cat "$PIDS/isolane")" -f " $1 "; }
kill_child() { until_ok "the start of $1" 60 child "$1"; kill -9 "$(child "$1")"; say "kill -9 of $1"; }
engine() { bg engine "$ISOLANE" engine --config "$WORK/engine.toml"; }
ledger() { "$ISOLANE" ledger "$ID" --json >"$WORK/ledger.json" || true; }
status() { "$ISOLANE" status "$ID" --json | jq -r ".streams[0]$1"; }
are() { [ "$(status ".jobs | map(select($1)) | length")" = "$JOBS" ]; }
committed() { timeout 30 kcat -b 127.0.0.1:49092 -C -t clean -o beginning -e -q -X isolation.level=read_committed -J >"$WORK/topic.ndjson"; }
counts() { local vertex; for vertex in $(rest "/jobs/$JOB" | jq -r '.vertices[].id'); do
  rest "/jobs/$JOB/vertices/$vertex/metrics" | jq -r '.[].id' | grep -E 'isolane\.(rows|doubles|dropped|quarantined|foreign|hand_overs_failed|sources|ranges|range_set_bytes|lost_transactions)$|\.lag$' | while read -r id; do
    echo "$id=$(rest "/jobs/$JOB/vertices/$vertex/metrics?get=$id" | jq -r '.[0].value')"; done; done | sed 's/isolane-take: [^.]*//' | sort | tr '\n' ' ' || true; echo; }
up() { local port
  for port in ${ROLES_PORTS:-} 42181 46123 48081 48083 49092 49093 49192 49193; do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && { say "port $port is taken"; exit 1; }; done
  sed "s#@WORK@#$WORK#g; s#@SLOTS@#${SLOTS:=2}#" "$HERE/config.yaml.in" >"$WORK/conf/config.yaml"
  [ -z "${HA:-}" ] || { zk; ha >>"$WORK/conf/config.yaml"; until_ok "ZooKeeper" 60 eval '(exec 3<>/dev/tcp/127.0.0.1/42181)'; }
  kafka normal 49092; kafka failover 49192; jm; tm
  until_ok "Flink" 120 slots "$SLOTS"; until_ok "normal" 60 kcat -b 127.0.0.1:49092 -L -m 2; until_ok "failover" 60 kcat -b 127.0.0.1:49192 -L -m 2
  say "two clusters and Flink are up"; }
