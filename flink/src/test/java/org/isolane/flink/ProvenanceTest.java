package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Random;
import java.util.Set;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.junit.jupiter.api.Test;

class ProvenanceTest {
    @Test
    void headersAreReadAsTheVectorsSay() throws IOException, HeaderException {
        Set<String> refusals = new HashSet<>();
        for (JsonNode line : Vectors.read("headers.ndjson", 50)) {
            String text = line.get("text").textValue();
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            if (line.has("refused")) {
                String refused = line.get("refused").textValue();
                refusals.add(refused);
                assertEquals(refused, assertThrows(HeaderException.class, () -> Provenance.parse(text), text).what(), text);
                assertEquals(refused, assertThrows(HeaderException.class, () -> Provenance.parse(bytes), text).what(), text);
                continue;
            }
            Provenance read = Provenance.parse(bytes);
            JsonNode time = line.get("event_time_ms");
            assertEquals(line.get("kind").textValue(), String.valueOf(read.kind().letter()), text);
            assertEquals(line.get("source").textValue(), read.source(), text);
            assertEquals(line.get("birth_minutes").intValue(), SourceId.birthMinutes(read.source()), text);
            assertEquals(line.get("start").longValue(), read.start(), text);
            assertEquals(line.get("end").longValue(), read.end(), text);
            assertEquals(line.get("lap").intValue(), read.lap(), text);
            assertEquals(time.isNull() ? null : (Long) time.longValue(), read.eventTimeMs(), text);
            assertEquals(line.get("printed").textValue(), read.toString(), text);
            assertEquals(read, Provenance.parse(read.toString()), text);
        }
        assertTrue(refusals.size() >= 7, "ways of being broken: " + refusals);
    }

    @Test
    void headersSurviveTextWithinTheirBound() throws HeaderException {
        long seed = System.nanoTime();
        Random random = new Random(seed);
        for (int i = 0; i < 10_000; i++) {
            Kind kind = Kind.values()[random.nextInt(Kind.values().length)];
            String source = String.format("%016x%08x", random.nextLong(), random.nextInt());
            long start = random.nextLong(Provenance.ORDINAL_MAX) >>> random.nextInt(48);
            long length = random.nextLong(Provenance.LENGTH_MAX + 1) >>> random.nextInt(32);
            long time = random.nextLong(-Provenance.EVENT_TIME_MS_MAX, Provenance.EVENT_TIME_MS_MAX + 1);
            Long stated = random.nextBoolean() ? time : null;
            int lap = random.nextInt(Provenance.LAP_MAX + 1);
            Provenance header = new Provenance(kind, source, start, start + length, lap, stated);
            String text = header.toString();
            assertTrue(text.length() <= Provenance.BYTES_MAX, "seed " + seed + ": " + text);
            assertEquals(header, Provenance.parse(text), "seed " + seed);
        }
    }

    @Test
    void bytesThatAreNoTextAreRefused() {
        byte[] bytes = "e01a2b3c4d5e6f708192a3b4c.1.2.0".getBytes(StandardCharsets.US_ASCII);
        bytes[5] = (byte) 0xff;
        assertThrows(HeaderException.class, () -> Provenance.parse(bytes));
    }
}
