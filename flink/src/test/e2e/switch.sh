#!/usr/bin/env bash
# A stream that goes to Flink and back by its settings, ROUNDS times, while records flow: `isolane up` and an engine role on a real Kafka
# (two clusters) and a real Flink, two legs, one into Parquet, one into a topic; a job for each on Flink (`legs = "separate"`). Each request is
# sent again a while later, under its key: mostly after the next switch, and after a kill -9 of the gateway, which remembers keys. Every record
# once, in both engines' files together and in the topic. In every other round Flink puts its files together. Three minutes.
#   switch.sh WORK FLINK KAFKA EXTRA   as in run.sh
#   ISOLANE                            the program, built with the feature kafka
#   PYTHON                             a Python with pyarrow
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/lib.sh"
ROUNDS=${ROUNDS:-3} PHASE=${PHASE:-10} EACH=200 AGAIN=${AGAIN:-60} ID=shop.web.clicks JOBS=2 SLOTS=4
OUT=$WORK/data/out/$ID/files
OFFER=; trap 'kill $OFFER 2>/dev/null || true; end engine isolane; finish' EXIT
sinks() { jq -nc --arg files "${1:-}" --arg topic "${2:-}" --argjson more "${3:-{\}}" '[{name: "files", kind: "files"} + $more, {name: "topic", kind: "kafka",
  brokers: "127.0.0.1:49092", topic: "clean"}] | if $files == "" then . else .[0].begin_from = $files | .[1].begin_from = $topic end'; }
post() { seq $(($1 * EACH)) $(($1 * EACH + EACH - 1)) | sed 's/.*/{"id": &, "name": "n&"}/' | curl -sf --retry 60 --retry-all-errors --retry-delay 1 -o /dev/null \
  -H "Idempotency-Key: r$1" --data-binary @- "$ISOLANE_GATEWAY/v1/streams/$ID/records"; }
# Requests one after the other until it is told to end; then what was not yet sent again is.
offer() { local next=0 again=0
  until [ -f "$WORK/enough" ]; do post $next; next=$((next + 1)); [ $next -le "$AGAIN" ] || { post $again; again=$((again + 1)); }; sleep 0.1; done
  while [ $again -lt $next ]; do post $again; again=$((again + 1)); done; echo $((next * EACH)) >"$WORK/offered"; }
hand_over() { "$ISOLANE" hand-over "$OUT" >"$WORK/objects/files-$1.json" && "$ISOLANE" hand-over "$ID.$INCARNATION.topic" --brokers 127.0.0.1:49092 >"$WORK/objects/topic-$1.json"; }
object() { status ".jobs[] | select(.leg == \"$1\") | .object"; }
rows() { status .fates.delivered; }
grows() { [ "$(rows)" -gt "$1" ]; }
is_running() { are '.state == "running" and .checkpoint > 0'; }
stand() { are '.state == "idle"'; }
there() { BEFORE=$(rows)
  until_ok "the legs' objects" 60 hand_over "$1"
  "$ISOLANE" stream set "$ID" engine=flink legs=separate \
    "sinks=$(sinks "$WORK/objects/files-$1.json" "$WORK/objects/topic-$1.json" "{\"compaction\": $([ $(($1 % 2)) = 1 ] && echo true || echo false)}")"
  kill_child gateway; until_ok "the jobs" 160 is_running; }
# The legs' rows, counted on from where they were handed over.
back() {
  "$ISOLANE" stream set "$ID" suspended=true; until_ok "idle jobs" 120 stand
  HIDDEN=$(find "$WORK/out" -name '.uncompacted-*'); [ -z "$HIDDEN" ] || { say "hidden files are left: $HIDDEN"; exit 1; }
  "$ISOLANE" stream set "$ID" engine=embedded suspended=false "sinks=$(sinks "$(object files)" "$(object topic)")"
  kill_child gateway
  are_legs() { [ "$(status '.jobs | length')" = 0 ] && grows "$BEFORE"; }; until_ok "rows from the legs" 120 are_legs; }
taken() { for port in 49092 49192; do kcat -b 127.0.0.1:$port -C -t "$ID.$INCARNATION" -o beginning -e -q -f 'x\n'; done | wc -l; }
agrees() { ledger; committed; "$PYTHON" "$HERE/switch.py" "$WORK" "$ID" "$(taken)"; }

mkdir -p "$WORK/objects"; deployment; engine
jq -n --arg id "$ID" --argjson sinks "$(sinks)" '{id: $id, format: "json", partitions: 2, limits: {checkpoint_ms: 1000}, sinks: $sinks,
  sql: "CREATE TABLE clicks (id INT, name STRING) WITH (\u0027format\u0027 = \u0027json\u0027); EXECUTE STATEMENT SET BEGIN INSERT INTO files SELECT id, name FROM clicks; INSERT INTO topic SELECT id, name FROM clicks; END"}' >"$WORK/stream.json"
"$ISOLANE" stream create --file "$WORK/stream.json"; INCARNATION=$("$ISOLANE" stream show "$ID" | jq -r .incarnation)
offer & OFFER=$!
until_ok "rows from the legs" 60 grows 0
for round in $(seq "$ROUNDS"); do
  sleep "$PHASE"; there "$round"; say "round $round: on Flink; $("$ISOLANE" status "$ID" | grep '^job on Flink' | tr '\n' ';')"
  sleep "$PHASE"; back; say "round $round: on the embedded engine"
done
sleep "$PHASE"; touch "$WORK/enough"; wait "$OFFER"; OFFER=; say "offered $(cat "$WORK/offered") records, each twice"
until_ok "everything accounted for" 120 agrees || true; agrees
"$ISOLANE" ledger "$ID"; say "done"
