#!/usr/bin/env bash
# Kafka as a sink, exactly once: two topics on a real Kafka, rows and records set apart, while the TaskManager is killed again and
# again, each time just when a checkpoint is complete; then the job is stopped with a savepoint, and a reader of what is
# committed counts rows and ranges. With LOST=1 the transactions are ended by somebody else while the TaskManager is away, and
# the job has to fail and say so. Takes two to three minutes.
#   sink.sh WORK FLINK KAFKA EXTRA   as of run.sh, without Parquet and Hadoop
#   KILLS                            how often the TaskManager is killed, 5 unless said
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd) SQL=sink.sql
RECORDS=${RECORDS:-200000} SECONDS_LONG=${SECONDS_LONG:-60} KILLS=${KILLS:-5}
. "$HERE/lib.sh"

completed() { rest "/jobs/$JOB/checkpoints" | jq .counts.completed; }
completes() { [ "$(completed)" -gt "$1" ]; }
read_all() { kcat -b 127.0.0.1:49092 -C -t "$1" -o beginning -e -q -X "isolation.level=$2" "${@:3}"; }
fence() { java -Xmx256m "${JVM[@]}" -cp "$CLASSES/test-classes:$CLASSES/classes:$EXTRA/*:$FLINK/lib/*" org.isolane.flink.Fence 127.0.0.1:49092 e2e-good; }
says_lost() { rest "/jobs/$JOB/exceptions" | grep -q 'a transaction of topic good whose checkpoint is complete cannot be committed'; }
rows() { [ "$(($(read_all good read_committed -f 'x\n' | wc -l) + $(read_all apart read_committed -f 'x\n' | wc -l)))" -ge "$1" ]; }

up
offer 0 0 true; TOPIC=good offer 0 0 true; TOPIC=apart offer 0 0 true
submit "" ""
until_ok "the job" 120 running
say "offering $RECORDS records in $SECONDS_LONG s"
offer "$RECORDS" "$SECONDS_LONG" false >"$WORK/offered.json" & OFFER=$!
for n in $(seq "$KILLS"); do
  # The second complete one since the job runs: there are rows in its transactions, and it is then that they are committed.
  until_ok "the job" 120 running; BEFORE=$(($(completed) + 1)); until_ok "a checkpoint" 240 completes "$BEFORE"
  kill_hard tm
  say "kill $n -9 of the TaskManager; completed checkpoints: $(completed), committed rows: $(read_all good read_committed -f 'x\n' | wc -l)"
  if [ -n "${LOST:-}" ]; then
    say "transactions ended meanwhile: $(fence)"; tm
    until_ok "the job's failure" 120 says_lost
    say "the job fails: $(rest "/jobs/$JOB/exceptions" | grep -o 'a transaction of topic good[^.]*' | head -1)"; say "done"; exit 0
  fi
  tm
done
wait "$OFFER"; say "offered: $(cat "$WORK/offered.json")"
until_ok "all rows" 160 rows "$(jq .records "$WORK/offered.json")"
until_ok "the job" 60 running; say "restarts: $(rest "/jobs/$JOB/checkpoints" | jq -c '.counts')"; say "metrics: $(counts)"
say "stop with savepoint: $(stop)"
for topic in good good.ranges apart apart-holds; do
  read_all "$topic" read_committed -J >"$WORK/$topic.ndjson"
  read_all "$topic" read_uncommitted -f 'x\n' | wc -l >"$WORK/$topic.written"
done
"$PYTHON" "$HERE/sink.py" "$WORK" "$WORK/offered.json"
say "done"
