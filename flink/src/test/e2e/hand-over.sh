#!/usr/bin/env bash
# A stream handed over while it flows, from the embedded engine to Flink and back, ROUNDS times: real roles, a real Kafka (two
# clusters), a real Flink. One leg writes Parquet, one a topic. Each is handed over with an object of its own, to a job of its own.
# Records are offered without pause; some come again later, in the other cluster too, so that a switch lies between. In every second
# round the role and the TaskManager are killed with -9 before they hand over. A leg that is started although it was handed over has
# to stand still, and so has a job whose object was taken. Every record once in files and topic. Takes five minutes.
#   hand-over.sh WORK FLINK KAFKA EXTRA   as in run.sh
#   ISOLANE                               the program, with Kafka
#   PYTHON                                a Python with pyarrow
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd) SQL=hand-over.sql ROLES_PORTS="47700 47710 47714"
. "$HERE/lib.sh"
"$PYTHON" -c 'import pyarrow.parquet'
ROUNDS=${ROUNDS:-3} RECORDS=${RECORDS:-240000} SECONDS_LONG=${SECONDS_LONG:-240} PHASE=${PHASE:-12} LATER=${LATER:-300}
STREAM=a.b.c OUT=$WORK/out/a.b.c/files CLUSTERS="normal=127.0.0.1:49092;failover=127.0.0.1:49192"
JOURNAL="kafka=127.0.0.1:49092;failover=127.0.0.1:49192"
export ISOLANE_ADMIN=http://127.0.0.1:47700
mkdir -p "$WORK"/{roles,objects,hand-over/{files,topic},flink/{files,set-apart}}

cat >"$WORK/roles/admin.toml" <<P
listen = "127.0.0.1:47700"
ops_listen = "127.0.0.1:47710"
state_dir = "$WORK/roles/admin"
journal = "$JOURNAL"
P
cat >"$WORK/roles/query.toml" <<P
ops_listen = "127.0.0.1:47714"
state_dir = "$WORK/roles/query"
out_dir = "$WORK/out"
journal = "$JOURNAL"
admin = "$ISOLANE_ADMIN"
P
role() { bg "$1" "$ISOLANE" "$1" --config "$WORK/roles/$1.toml"; }
leave() { local pid; pid=$(cat "$PIDS/$1"); kill "$pid"; wait "$pid"; rm "$PIDS/$1"; }
kill_one() { say "  kill -9 of $1"; kill_hard "$1"; }
is_even() { [ $((round % 2)) = 0 ]; }
sinks() { jq -nc --arg files "${1:-}" --arg topic "${2:-}" '[{name: "files", kind: "files"}, {name: "topic", kind: "kafka", brokers: "127.0.0.1:49092",
  topic: "out", partitions: 2}] | if $files == "" then . else .[0].begin_from = $files | .[1].begin_from = $topic end'; }
INSERT_FILES="INSERT INTO files SELECT id, name, kept FROM records;" INSERT_TOPIC="INSERT INTO topic SELECT id, name FROM records;"
text() { echo "CREATE TABLE records (id INT, name STRING, kept STRING METADATA FROM 'il' VIRTUAL) WITH ('format' = 'json');"; printf '%s\n' "$@"; }

# What each leg has said in the log of the role, and how often both have.
said() { grep -F "$1" "$WORK/log/query.log" | grep -cF "\"leg\":\"$2\""; }
both_said() { [ "$(said "$1" files)" -gt "$2" ] && [ "$(said "$1" topic)" -gt "$3" ]; }
read_all() { kcat -b "127.0.0.1:${3:-49092}" -C -t "$1" -o beginning -e -q -X isolation.level=read_committed -f "$2"; }
files_of() { find "$1" -name '[!._]*' -type f -not -path '*/_*' | wc -l; }
rows_of() { { read_all "$1" 'x\n' 2>/dev/null || true; } | wc -l; }
both_grow() { [ "$(files_of "$1")" -gt "$2" ] && [ "$(rows_of "$3")" -gt "$4" ]; }
newest() { ls "$WORK/hand-over/$1/$2"-*.json | sort -V | tail -1; }
switch() { date +%s%3N >>"$WORK/switches"; }

restored() { running && [ "$(rest "/jobs/$JOB/checkpoints" | jq .counts.restored)" -gt 0 ]; }

# A job for each leg: what `isolane sql flink` writes for the files, and a text of its own for the topic.
submit_files() {
  { printf "SET '%s' = '%s';\n" pipeline.name files parallelism.default 1
    "$ISOLANE" sql flink "$WORK/files.sql" --sink files --clusters "$CLUSTERS" --topic "$TOPIC" --out "file://$WORK/flink" \
      --hand-over-from "file://$1" --hand-over-to "file://$WORK/hand-over/files"
  } >"$WORK/job.sql"; submit_job; FILES=$JOB; }
submit_topic() { submit ", 'hand-over.from' = 'file://$1'" "SET 'parallelism.default' = '1';"; ON_TOPIC=$JOB; }

there() {
  if is_even; then kill_one query; else leave query; fi; switch
  "$ISOLANE" hand-over "$OUT" >"$WORK/objects/files.json"
  "$ISOLANE" hand-over "$STREAM.$INCARNATION.topic" --brokers 127.0.0.1:49092 >"$WORK/objects/topic.json"
  local files topic; files=$(said "was handed over" files || true) topic=$(said "was handed over" topic || true)
  role query; until_ok "the old legs' refusal" 60 both_said "was handed over" "$files" "$topic"; say "  both legs stand still when they are started"
  local before rows; before=$(files_of "$WORK/flink/files") rows=$(rows_of out.ranges)
  submit_files "$WORK/objects/files.json"; submit_topic "$WORK/objects/topic.json"
  until_ok "rows from Flink" 120 both_grow "$WORK/flink/files" "$before" out.ranges "$rows"; }
back() {
  JOB=$FILES; stop >/dev/null; JOB=$ON_TOPIC; SAVEPOINT=$(stop | jq -r .location); switch
  local files topic before rows; files=$(said "goes on where another stood" files || true) topic=$(said "goes on where another stood" topic || true)
  before=$(files_of "$OUT") rows=$(rows_of out)
  "$ISOLANE" stream set "$STREAM" "sinks=$(sinks "$(newest files "$FILES")" "$(newest topic "$ON_TOPIC")")" >/dev/null
  until_ok "the legs' beginning" 60 both_said "goes on where another stood" "$files" "$topic"
  until_ok "rows from the legs" 60 both_grow "$OUT" "$before" out "$rows"; }

up
role admin; until_ok "admin" 60 curl -sf "$ISOLANE_ADMIN/health"
text "$INSERT_FILES" >"$WORK/files.sql"
jq -n --arg id "$STREAM" --arg sql "$(text "$INSERT_FILES" "$INSERT_TOPIC")" --argjson sinks "$(sinks)" \
  '{id: $id, format: "json", partitions: 4, sql: $sql, sinks: $sinks, limits: {checkpoint_ms: 1000}}' >"$WORK/stream.json"
"$ISOLANE" stream create --file "$WORK/stream.json"
INCARNATION=$("$ISOLANE" stream show "$STREAM" | jq -r .incarnation); TOPIC=$STREAM.$INCARNATION
for port in 49092 49192; do until_ok "the topic" 60 eval "kcat -b 127.0.0.1:$port -L -t $TOPIC | grep -q '4 partitions'"; done
role query
OFFER=; trap 'kill $OFFER 2>/dev/null || true; finish' EXIT
say "offering $RECORDS records in $SECONDS_LONG s"
offer "$RECORDS" "$SECONDS_LONG" false >"$WORK/offered.json" & OFFER=$!
until_ok "rows from the legs" 60 both_grow "$OUT" 0 out 0
for round in $(seq "$ROUNDS"); do
  sleep "$PHASE"; there; say "round $round: Flink goes on; rows in the topic so far: $(rows_of out)"
  is_even && { kill_one tm; tm; for JOB in "$FILES" "$ON_TOPIC"; do until_ok "the job" 120 restored; done; }
  sleep "$PHASE"; back; say "round $round: the legs go on; rows in the topic so far: $(rows_of out)"
done
# And the other way: the job that was stopped is started again where it stood.
submit "" "SET 'parallelism.default' = '1';\nSET 'execution.state-recovery.path' = '$SAVEPOINT';"
is_refused() { rest "/jobs/$JOB/exceptions" | grep -q 'has begun from a hand-over object of this job'; }
until_ok "the old job's refusal" 120 is_refused; say "the old job delivers nothing when it is started again"
curl -sf -XPATCH "http://127.0.0.1:48081/jobs/$JOB?mode=cancel" >/dev/null
sleep "$PHASE"; kill -0 "$OFFER" || { say "the load ended before the last switch"; exit 1; }
wait "$OFFER"; say "offered: $(cat "$WORK/offered.json")"
collect() {
  read_all out '%h\t%s\n' >"$WORK/out.tsv"; read_all out.ranges '%s\n' >"$WORK/ranges.ndjson"
  read_all "$STREAM.$INCARNATION.topic.quarantine" '%h\n' >"$WORK/quarantine.tsv"; }
all() { [ "$(rows_of out)" -ge "$(jq '.records - .broken' "$WORK/offered.json")" ] && collect && "$PYTHON" "$HERE/hand_over.py" "$WORK" wait; }
until_ok "all rows" 60 all || true
leave query; collect
for one in "normal 49092" "failover 49192"; do set -- $one; read_all "$TOPIC" '%T\t%h\n' "$2" >"$WORK/$1.tsv"; done
"$PYTHON" "$HERE/hand_over.py" "$WORK"
say "done"
