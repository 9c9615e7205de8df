package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.TreeSet;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.junit.jupiter.api.Test;

class DedupTest {
    private final Map<String, Known> sources = new HashMap<>();

    @Test
    void recordsHaveTheFatesThatTheVectorsSay() throws IOException, HeaderException {
        for (JsonNode line : Vectors.read("dedup.ndjson", 30)) {
            String name = line.get("name").textValue();
            begin(line);
            int horizon = line.get("horizon_minutes").asInt(Dedup.NO_HORIZON);
            for (int at = 0; at < line.get("records").size(); at++) {
                Provenance record = Provenance.parse(line.get("records").get(at).textValue());
                assertEquals(line.get("fates").get(at).textValue(), take(record, horizon), name + ", record " + at);
            }
            JsonNode after = line.get("after");
            TreeSet<String> known = new TreeSet<>();
            after.fieldNames().forEachRemaining(known::add);
            assertEquals(known, new TreeSet<>(sources.keySet()), name);
            for (String source : known) {
                assertArrayEquals(Vectors.pairs(after.get(source).get("taken")), sources.get(source).taken, name);
                assertEquals(after.get(source).get("finished").asLong(-1), sources.get(source).finished, name);
            }
        }
    }

    private void begin(JsonNode line) {
        sources.clear();
        for (Iterator<Map.Entry<String, JsonNode>> known = line.get("known").fields(); known.hasNext(); ) {
            Map.Entry<String, JsonNode> source = known.next();
            Known state = new Known();
            state.taken = Ranges.of(Vectors.pairs(source.getValue().get("taken")));
            state.finished = source.getValue().get("finished").asLong(-1);
            sources.put(source.getKey(), state);
        }
    }

    private String take(Provenance record, int horizon) {
        Known known = sources.get(record.source());
        long[] taken = known == null ? null : known.taken;
        Dedup.Verdict verdict = Dedup.judge(record, taken, horizon);
        if (Dedup.leavesTrace(record, taken, horizon)) {
            Known state = sources.computeIfAbsent(record.source(), source -> new Known());
            state.taken = Ranges.insert(state.taken, record.start(), record.end());
            state.finished = record.kind() == Kind.END ? Math.max(state.finished, record.end()) : state.finished;
        }
        return switch (verdict) {
            case NEW -> record.kind().isRecord() ? Fate.DELIVERED.word() : Fate.DROPPED.word();
            case DOUBLE -> "double";
            case SILENT -> "silent";
            default -> Fate.QUARANTINED.word() + ": " + verdict.cause();
        };
    }

    private static final class Known {
        private long[] taken = Ranges.NONE;
        private long finished = -1;
    }
}
