package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** What a footer says, whatever the order in which records came. */
class DeliveredTest {
    private static final String A = "01c83db0000000000000000a";
    private static final String B = "01c83db0000000000000000b";

    private static Provenance of(String source, long start, long end) {
        return new Provenance(Kind.EVENT, source, start, end, 0, null);
    }

    private static Map<String, String> footer(List<Provenance> records) {
        Delivered delivered = new Delivered();
        records.forEach(delivered::add);
        return delivered.footer();
    }

    @Test
    void theFooterIsTheTextThatTheRustSideWrites() {
        assertEquals(Map.of("isolane.ranges", "{}", "isolane.rows", "0", "isolane.repeated", "0"), footer(List.of()));
        List<Provenance> records = List.of(of(B, 5, 9), of(A, 10, 20), of(A, 20, 30), of(A, 40, 50), of(A, 0, 10));
        String ranges = "{\"" + A + "\":[[0,30],[40,50]],\"" + B + "\":[[5,9]]}";
        assertEquals(Map.of("isolane.ranges", ranges, "isolane.rows", "5", "isolane.repeated", "0"), footer(records));
    }

    @Test
    void rowsThatCoverTheSameAgainAreSeen() {
        List<Provenance> records = List.of(of(A, 0, 10), of(A, 10, 20), of(A, 0, 10), of(A, 15, 25), of(A, 7, 7));
        String ranges = "{\"" + A + "\":[[0,25]]}";
        assertEquals(Map.of("isolane.ranges", ranges, "isolane.rows", "5", "isolane.repeated", "15"), footer(records));
    }

    @Test
    void filesThatArePutTogetherSayAllThatEachSaid() {
        Map<String, String> one = footer(List.of(of(A, 0, 10), of(A, 0, 10), of(B, 5, 9)));
        Map<String, String> other = footer(List.of(of(A, 10, 20), of(A, 40, 50)));
        Delivered delivered = new Delivered();
        delivered.addAll(Part.of("part-x-0-0", 3, one));
        delivered.addAll(Part.of("part-x-1-0", 2, other));
        String ranges = "{\"" + A + "\":[[0,20],[40,50]],\"" + B + "\":[[5,9]]}";
        assertEquals(
                Map.of("isolane.ranges", ranges, "isolane.rows", "5", "isolane.repeated", "10", "isolane.files", "[\"part-x-0-0\",\"part-x-1-0\"]"),
                delivered.footer());
        delivered.addAll(Part.of("part-x-2-0", 2, other));
        assertEquals("30", delivered.footer().get("isolane.repeated"));
    }

    @Test
    void aFileThatDoesNotSayWhatItsRowsAreOfIsNoPart() {
        Map<String, String> footer = footer(List.of(of(A, 0, 10)));
        Map<String, String> damaged = new HashMap<>(footer);
        damaged.put("isolane.ranges", "{");
        for (Map<String, String> bad : List.of(Map.<String, String>of(), damaged, footer(List.of()))) {
            String message = assertThrows(IllegalArgumentException.class, () -> Part.of("part-x-0-0", 1, bad)).getMessage();
            assertTrue(message.startsWith("part-x-0-0"), message);
        }
    }

    @Test
    void noOrderChangesTheRanges() {
        Random random = new Random(3);
        for (int round = 0; round < 200; round++) {
            List<Provenance> records = new ArrayList<>();
            long[] set = Ranges.NONE;
            for (int at = 0; at < 1 + random.nextInt(60); at++) {
                if (random.nextInt(3) > 0) {
                    records.add(of(A, at * 10L, at * 10L + 10));
                    set = Ranges.insert(set, at * 10L, at * 10L + 10);
                }
            }
            StringBuilder text = new StringBuilder();
            for (int at = 0; at < set.length; at += 2) {
                text.append(at == 0 ? "[" : ",[").append(set[at]).append(',').append(set[at + 1]).append(']');
            }
            Collections.shuffle(records, random);
            String ranges = records.isEmpty() ? "{}" : "{\"" + A + "\":[" + text + "]}";
            String rows = Integer.toString(records.size());
            assertEquals(Map.of("isolane.ranges", ranges, "isolane.rows", rows, "isolane.repeated", "0"), footer(records));
        }
    }
}
