package org.isolane.flink;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

/**
 * What a file that is put together with others says of its rows. Pure.
 *
 * @param name the file's name, without what makes it a hidden one
 * @param rows its rows
 * @param repeated ordinals that are covered again
 * @param ranges what is covered, by source, as pairs
 */
record Part(String name, long rows, long repeated, Map<String, long[]> ranges) {
    private static final ObjectMapper JSON = new ObjectMapper();

    /**
     * By the file's footer.
     *
     * @throws IllegalArgumentException if that does not say what the file's {@code rows} rows are of
     */
    static Part of(String name, long rows, Map<String, String> footer) {
        if (!Long.toString(rows).equals(footer.get(Delivered.ROWS))) {
            throw new IllegalArgumentException(name + " has " + rows + " rows and says in its footer that it has " + footer.get(Delivered.ROWS));
        }
        String text = footer.get(Delivered.RANGES);
        if (text == null) {
            throw new IllegalArgumentException(name + " has no " + Delivered.RANGES + " in its footer");
        }
        try {
            Map<String, long[]> ranges = new TreeMap<>();
            JSON.readTree(text).fields()
                    .forEachRemaining(source -> ranges.put(source.getKey(), pairs(source.getValue())));
            return new Part(name, rows, Long.parseLong(footer.getOrDefault(Delivered.REPEATED, "0")), ranges);
        } catch (JsonProcessingException | NumberFormatException error) {
            throw new IllegalArgumentException(name + " says in its footer what nobody understands: " + error.getMessage(), error);
        }
    }

    private static long[] pairs(JsonNode ranges) {
        long[] pairs = new long[2 * ranges.size()];
        for (int at = 0; at < ranges.size(); at++) {
            pairs[2 * at] = ranges.get(at).path(0).asLong();
            pairs[2 * at + 1] = ranges.get(at).path(1).asLong();
        }
        return pairs;
    }

    /** A list of names as JSON text. */
    static String names(List<String> names) {
        return JSON.valueToTree(names).toString();
    }
}
