#!/usr/bin/env bash
# The engine (crates/flink) on a real Kafka and a real Flink, under load: TaskManager, JobManager, SQL Gateway and the
# engine killed with -9 in turn, ROUNDS times; then a text changed, then its sinks, then stopped and resumed; then an older
# checkpoint offered in place of the newest. Every record once, and never two copies of the job. Takes three to five minutes.
# With HA=1 a ZooKeeper is there: then it is Flink that brings the job back, and nothing may be submitted. With COMPACT=1 the files
# of a checkpoint are put together: what a stop leaves hidden is shown, and the job goes on from its hand-over object.
#   engine.sh WORK FLINK KAFKA EXTRA   as in run.sh
#   KEEP                               the program that keeps the job: crates/flink/examples/keep.rs
#   PYTHON                             a Python with pyarrow
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/lib.sh"
"$PYTHON" -c 'import pyarrow.parquet'
ROUNDS=${ROUNDS:-1} RECORDS=${RECORDS:-200000} SECONDS_LONG=${SECONDS_LONG:-120}
KEY=a.b.c@000000000000001f ROOT=$WORK/flink STATE=$WORK/state; mkdir -p "$ROOT" "$WORK"/{good,set-apart}; ln -sfn set-apart "$WORK/apart"
engine() { bg engine "$KEEP" 127.0.0.1:48083 127.0.0.1:48081 "$ROOT" "$STATE" "$WORK/wanted.json"; }
# What is wanted: the text that crates/query writes for engine.sql, with another expression and with sinks packed otherwise, which
# are other sinks as far as the engine knows.
text() { jq --arg key "$KEY" '{($key): (. + {settings: [["execution.checkpointing.interval", "1 s"]]})}' "$HERE/engine.json" | compacted |
  sed "s#@WORK@#$WORK#g; s#TRIM(name)#$1#g; s#ZSTD#$2#g"; }
compacted() { if [ -z "${COMPACT:-}" ]; then cat; else
  jq '.[].legs[0] |= (.sink_table |= rtrimstr(")") + ", '"'auto-compaction' = 'true'"')" | .hidden_in = "@WORK@/good")'; fi; }
want() { "$@" >"$WORK/.wanted" && mv "$WORK/.wanted" "$WORK/wanted.json"; }
stopped() { jq -n --arg key "$KEY" '{($key): null}'; }
remembered() { jq -r "$@" "$STATE/$KEY.json"; }
at() { [ "$(remembered .state.state)" = "$1" ]; }
stands() { at idle && { [ -z "${COMPACT:-}" ] || [ "$(remembered .state.end)" = shown ]; }; }
# Whether the job runs as it is wanted, in an attempt that is not $1, and has completed a checkpoint since it began.
runs() { local job; job=$(remembered .state.attempt.job); at running && [ "$job" != "${1:-}" ] &&
  [ "$(remembered -Sc .state.attempt.text)" = "$(jq -Sc --arg key "$KEY" '.[$key]' "$WORK/wanted.json")" ] &&
  [ "$(rest "/jobs/$job" | jq -r '[.state, (.vertices[].status)] | unique | join(",")')" = RUNNING ] &&
  rest "/jobs/$job/checkpoints" | jq -e '.latest.completed.id > (.latest.restored.id // 0)'; }
job() { remembered .state.attempt.job; }
restored() { rest "/jobs/$(job)/checkpoints" | jq .counts.restored; }
# How many copies the cluster shows, again and again; the most is what counts.
watch_copies() { while sleep 0.3; do rest /jobs/overview | jq '[.jobs[] | select(.state | IN("FINISHED", "FAILED", "CANCELED") | not)] | length' || true; done >>"$WORK/copies"; }
took() { local began; began=$(date +%s); until_ok "$@" || { tail -5 "$WORK/log/engine.log"; exit 1; }; TOOK="$(($(date +%s) - began)) s"; }

up; gw; until_ok "the gateway" 120 curl -sf http://127.0.0.1:48083/v2/info; say "the SQL Gateway is up"
offer 0 0 true
want text "TRIM(name)" ZSTD; engine
took "the job" 160 runs; say "the job runs after $TOOK"
watch_copies 2>/dev/null & COPIES=$! OFFER=; trap 'kill $COPIES $OFFER 2>/dev/null || true; finish' EXIT
say "offering $RECORDS records in $SECONDS_LONG s"
offer "$RECORDS" "$SECONDS_LONG" false >"$WORK/offered.json" & OFFER=$!
kill_one() { say "kill -9 of $1"; kill_hard "$1"; sleep $((RANDOM % 3)); "$1"; }
submitting() { for _ in $(seq 2000); do grep -q '"state": "submitting"' "$STATE/$KEY.json" && return; sleep 0.05; done; say "timeout: submitting"; return 1; }
for round in $(seq "$ROUNDS"); do
  TIMES=$(restored); kill_one tm; again() { [ "$(restored)" -gt "$TIMES" ] && runs; }; took "the job" 120 again; say "  restored after $TOOK"
  BEFORE=$(job); kill_one gw; kill_one engine; sleep 2; took "the job" 60 runs; [ "$(job)" = "$BEFORE" ]; say "  the same attempt still runs"
  BEFORE=$(job); kill_one jm
  if [ -n "${HA:-}" ]; then
    back() { runs && rest "/jobs/$BEFORE/checkpoints" | jq -e '.latest.restored.id > 0'; }
    took "the same attempt" 160 back; [ "$(job)" = "$BEFORE" ]; say "  the same attempt runs after $TOOK"
    continue
  fi
  took "another attempt" 120 runs "$BEFORE"
  say "  another attempt runs after $TOOK, begun at $(remembered .state.attempt.begin.state.number)"
  # The worst moments: the cluster is gone, so that the engine submits anew, and it or the gateway is killed while it does.
  for one in engine gw; do
    BEFORE=$(job); kill_one jm; submitting; kill_one $one
    took "another attempt" 160 runs "$BEFORE"; say "  $one killed while submitting; another attempt runs after $TOOK"
  done
done
BEFORE=$(job); want text "UPPER(name)" ZSTD; took "the new text" 160 runs "$BEFORE"
say "the text is changed; runs after $TOOK: $(remembered -c '[.state.attempt.begin, .state.attempt.epoch]')"
BEFORE=$(job); want text "UPPER(name)" SNAPPY; took "the new sinks" 160 runs "$BEFORE"
say "a sink is changed; runs after $TOOK: $(remembered -c '[.state.attempt.begin, .state.attempt.epoch]')"
chk() { ls -d "$ROOT/$KEY/$(remembered .state.attempt.epoch)/$(job)"/chk-*; }
older() { rm -rf "$WORK/older"; cp -r "$(chk)" "$WORK/older" && [ -f "$WORK/older/_metadata" ]; }
until_ok "a checkpoint to keep" 20 older; PLACE=$(chk)
want stopped; took "stopped" 120 stands; say "stopped after $TOOK: $(remembered -c '[.state.end, .mark]')"
NEWEST=$(remembered .mark.path | sed 's#^file:/*#/#'); mv "$NEWEST" "$WORK/newest"; mv "$WORK/older" "$PLACE"
want text "UPPER(name)" SNAPPY; refused() { remembered .problem | grep -q "is known"; }
took "the refusal" 60 refused; say "an older checkpoint in place of the newest: $(remembered .problem)"
sleep 3; [ "$(rest /jobs/overview | jq '[.jobs[] | select(.state == "RUNNING")] | length')" = 0 ]
mv "$WORK/newest" "$NEWEST"; took "resumed" 120 runs; say "the newest is put back; runs after $TOOK: $(remembered -c .state.attempt.begin)"
wait "$OFFER"; say "offered: $(cat "$WORK/offered.json")"
ln -sfn "$ROOT/$KEY/hand-over" "$WORK/hand-over"
took "all rows" 160 "$PYTHON" "$HERE/verify.py" "$WORK" "$WORK/offered.json" wait
want stopped; took "stopped" 120 stands
kill $COPIES || true; say "most copies at once: $(sort -n "$WORK/copies" | tail -1)"; [ "$(sort -n "$WORK/copies" | tail -1)" = 1 ]
"$PYTHON" "$HERE/verify.py" "$WORK" "$WORK/offered.json"
say "done"
