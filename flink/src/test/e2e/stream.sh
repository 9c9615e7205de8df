#!/usr/bin/env bash
# A stream with engine = "flink", the whole way: made by `isolane stream create` on a deployment whose journal is a real Kafka, its
# records sent over HTTP, run by a real Flink into Parquet files and a Kafka topic, while the TaskManager, the engine role and, ten times,
# admin are killed with -9. What is read from files and topic, and what ledger and status say, must be what was offered. Two to three minutes.
#   stream.sh WORK FLINK KAFKA EXTRA   as in run.sh
#   ISOLANE                            the program, built with the feature kafka
#   LEGS=separate                      a job for each of the two sinks
#   PYTHON                             a Python with pyarrow
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/lib.sh"
ROUNDS=${ROUNDS:-20} EACH=${EACH:-5000} LEGS=${LEGS:-together} ID=shop.web.clicks
trap 'end engine isolane; finish' EXIT
JOBS=1; [ "$LEGS" = together ] || JOBS=2; SLOTS=$((2 * JOBS))
is_running() { are '.state == "running" and .checkpoint > 0'; }
stand() { are '.state == "idle"'; }
agrees() { ledger; committed; "$PYTHON" "$HERE/stream.py" "$WORK" "$LEGS" "$(status '.jobs | map(.state) | unique | join(",")')" "$(status .fates.delivered)"; }

deployment
cat >"$WORK/stream.json" <<J
{"id": "$ID", "engine": "flink", "legs": "$LEGS", "format": "json", "partitions": 2, "limits": {"checkpoint_ms": 1000},
 "sinks": [{"name": "files", "kind": "files", "success_file": "partition_time", "compaction": true},
  {"name": "topic", "kind": "kafka", "brokers": "127.0.0.1:49092", "topic": "clean", "key": "name", "headers": ["even"]}],
 "sql": "CREATE TABLE clicks (id INT, name STRING, at_ TIMESTAMP(3), WATERMARK FOR at_ AS at_) WITH ('format' = 'json'); EXECUTE STATEMENT SET BEGIN INSERT INTO files SELECT id, UPPER(name) AS name, CAST(CASE WHEN MOD(id, 1000) = 11 THEN name ELSE '7' END AS INT) AS n FROM clicks WHERE MOD(id, 10) <> 0; INSERT INTO topic SELECT id, name, CASE WHEN MOD(id, 2) = 0 THEN 'yes' END AS even FROM clicks WHERE CAST(CASE WHEN MOD(id, 1000) = 13 THEN name ELSE '7' END AS INT) = 7; END"}
J
jq '.sql |= sub("UPPER\\(name\\)"; "1 / id")' "$WORK/stream.json" >"$WORK/refused.json"
if "$ISOLANE" stream create --file "$WORK/refused.json" 2>"$WORK/refused.txt"; then say "a division that fails the job was taken"; exit 1; fi
grep -q "line 1, column .*NULLIF" "$WORK/refused.txt"; say "refused: $(cat "$WORK/refused.txt")"
"$ISOLANE" stream create --file "$WORK/stream.json" 2>"$WORK/warned.txt"; grep -q json-rest "$WORK/warned.txt"; engine
until_ok "the job" 160 is_running; say "on Flink, legs $LEGS: $("$ISOLANE" status "$ID" | grep '^job on Flink' | tr '\n' ';')"
for round in $(seq "$ROUNDS"); do
  seq $(((round - 1) * EACH)) $((round * EACH - 1)) | awk '{ at = sprintf("2026-03-01 %02d:%02d:%02d", $1 / 36000, $1 / 600 % 60, $1 / 10 % 60)
    if ($1 % 1000 == 7) print "{\"id\": " $1 ", oh"; else print "{\"id\": " $1 ", \"name\": \"n" $1 "\", \"at_\": \"" at "\"}" }' >"$WORK/lines"
  cat "$WORK/lines" >>"$WORK/offered"; "$ISOLANE" send "$ID" "$WORK/lines" >/dev/null
  [ $((round % 2)) = 1 ] || kill_child admin
  case $round in
    5) say "kill -9 of the TaskManager"; kill_hard tm; tm ;;
    10) say "kill -9 of the engine role"; kill_hard engine; engine ;;
  esac
done
say "sent $(wc -l <"$WORK/offered") records"
until_ok "everything accounted for" 240 agrees; agrees
until_ok "no lag" 80 are '.lag_records == 0'
say "put together: $(find "$WORK/out/$ID/files" -name 'compacted-*' | wc -l) files, hidden ones left: $(find "$WORK/out/$ID/files" -name '.uncompacted-*' | wc -l)"
"$ISOLANE" status "$ID"; "$ISOLANE" ledger "$ID" --verify --data-dir "$WORK" || { say "the files differ"; exit 1; }
leave() { "$ISOLANE" stream set "$ID" engine=embedded suspended=false "sinks=$(jq -c '.sinks | map(del(.success_file, .compaction))' "$WORK/stream.json")" 2>"$WORK/refused.txt"; }
if leave; then say "the other engine would have begun while the jobs run"; exit 1; fi
grep -q suspended=true "$WORK/refused.txt"; say "refused: $(cat "$WORK/refused.txt")"
"$ISOLANE" stream set "$ID" suspended=true; until_ok "idle jobs" 120 stand
if leave; then say "the other engine would have begun from nothing"; exit 1; fi
grep -q hand-over "$WORK/refused.txt"; say "refused: $(cat "$WORK/refused.txt")"
"$ISOLANE" stream set "$ID" suspended=false; until_ok "the job again" 160 is_running
more() { sed "s/\"id\": /&$1/" "$WORK/lines" >"$WORK/more"; "$ISOLANE" send "$ID" "$WORK/more" >/dev/null; cat "$WORK/more" >>"$WORK/offered"; }
more 5; taken() { ledger; jq -e --argjson all "$(stat -c %s "$WORK/offered")" '.collected.acknowledged == $all and (.legs | map(.in_flight) | add == 0)' "$WORK/ledger.json"; }; until_ok "more rows" 120 taken
# As if it had still to be put together: the stop must show it.
BACK=$(find "$WORK/out/$ID/files" -name 'compacted-*' | head -1); mv "$BACK" "$(dirname "$BACK")/.uncompacted-part-again-0-0"
"$ISOLANE" stream delete "$ID"; "$ISOLANE" stream create --file "$WORK/stream.json" 2>/dev/null; more 6
until_ok "the second life" 240 is_running; say "deleted, and created again at once: $(find "$WORK/engine/jobs" -name '*.json' | wc -l) jobs are remembered"
whole() { "$PYTHON" "$HERE/again.py" "$WORK" "$WORK/offered"; }; until_ok "its rows" 120 whole; whole
"$ISOLANE" stream set "$ID" suspended=true; until_ok "idle jobs" 120 stand
"$ISOLANE" stream delete "$ID"; stopped() { [ "$(rest /jobs/overview | jq '[.jobs[] | select(.state == "FINISHED")] | length')" = $((3 * JOBS)) ] && [ -z "$(ls "$WORK/engine/jobs")" ]; }
until_ok "the job's end" 120 stopped; say "deleted: what ran has stopped with a savepoint and is forgotten"
say "done"
