#!/usr/bin/env bash
# Whole jobs whose answers are kept, on a real Kafka and a small Flink (xtask/flink/Jobs.java): `cargo xtask golden jobs`.
#   jobs.sh WORK FLINK KAFKA EXTRA   as in run.sh; WORK has jobs.tsv and texts/, and gets out/
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/lib.sh"
(exec 3<>/dev/tcp/127.0.0.1/49092) 2>/dev/null && { say "port 49092 is taken"; exit 1; }
kafka normal 49092; until_ok "Kafka" 120 kcat -b 127.0.0.1:49092 -L -m 2
# Language and time zone are stated, so that the machine's own do not matter.
OURS=$HERE/../../../../xtask/flink
env -u FLINK_CONF_DIR java -Xmx1g "${JVM[@]}" "-Dlog4j.configurationFile=$OURS/log4j.properties" -Dfile.encoding=UTF-8 -Duser.timezone=UTC -Duser.language=en -Duser.country=US \
  -cp "$FLINK/lib/*:$EXTRA/*" "$OURS/Jobs.java" 127.0.0.1:49092 "$WORK"
