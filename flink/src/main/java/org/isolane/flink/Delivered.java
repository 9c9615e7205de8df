package org.isolane.flink;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * What the rows of one file or transaction cover, for its own footer or its record of ranges. Pure.
 *
 * <p>{@code isolane.ranges} is a JSON object {@code {source: [[start, end], ...]}}, as in the files of the Rust side,
 * {@code isolane.rows} how many rows there are, and {@code isolane.repeated} how many ordinals were covered again by a further
 * row: 0, unless a query makes several rows of a record, or its rows are those set apart because they overlap. A file that others
 * were put together into has {@code isolane.files} too: their names, as a JSON array.
 *
 * <p>Limits: 16 bytes a range in memory while rows are added, twice that while it is told what they cover. Records that follow
 * one another in their source are one range; the worst case is a range a row, and {@link #ranges} says how many there are.
 */
final class Delivered {
    /** Footer key of the ranges. */
    static final String RANGES = "isolane.ranges";
    /** Footer key of the number of rows. */
    static final String ROWS = "isolane.rows";
    /** Footer key of the number of ordinals that were covered again. */
    static final String REPEATED = "isolane.repeated";
    /** Footer key of the names of the files that were put together. */
    static final String FILES = "isolane.files";

    /**
     * What rows cover.
     *
     * @param ranges the ranges as JSON text
     * @param rows how many rows
     * @param repeated ordinals that were covered again
     */
    record Summary(String ranges, long rows, long repeated) {}

    private final Map<String, Log> sources = new TreeMap<>();
    private final List<String> files = new ArrayList<>();
    private long rows;
    private long repeated;
    private int ranges;

    /** Counts a row of a record. */
    void add(Provenance record) {
        rows++;
        if (!record.isEmpty()) {
            Log log = sources.computeIfAbsent(record.source(), source -> new Log());
            ranges += log.add(record.start(), record.end()) ? 1 : 0;
        }
    }

    /** Counts all rows of a file. */
    void addAll(Part file) {
        files.add(file.name());
        rows += file.rows();
        repeated += file.repeated();
        file.ranges().forEach((source, pairs) -> {
            Log log = sources.computeIfAbsent(source, unknown -> new Log());
            for (int at = 0; at < pairs.length; at += 2) {
                ranges += log.add(pairs[at], pairs[at + 1]) ? 1 : 0;
            }
        });
    }

    /** Rows added. */
    long rows() {
        return rows;
    }

    /** Ranges as they lie in memory: at least as many as will be told. */
    int ranges() {
        return ranges;
    }

    /** What the footer says. */
    Map<String, String> footer() {
        Summary summary = summary();
        Map<String, String> footer = new HashMap<>(Map.of(
                RANGES, summary.ranges,
                ROWS, Long.toString(summary.rows),
                REPEATED, Long.toString(summary.repeated)));
        if (!files.isEmpty()) {
            footer.put(FILES, Part.names(files));
        }
        return footer;
    }

    /** What the rows cover. */
    Summary summary() {
        StringBuilder text = new StringBuilder("{");
        long repeated = this.repeated;
        for (Map.Entry<String, Log> source : sources.entrySet()) {
            long[] set = source.getValue().set();
            repeated += source.getValue().ordinals - Ranges.total(set);
            text.append(text.length() == 1 ? "\"" : ",\"").append(source.getKey()).append("\":[");
            for (int at = 0; at < set.length; at += 2) {
                text.append(at == 0 ? "[" : ",[").append(set[at]).append(',').append(set[at + 1]).append(']');
            }
            text.append(']');
        }
        return new Summary(text.append('}').toString(), rows, repeated);
    }

    /**
     * Ranges of one source as they came: adding one costs the same whatever came before, which a sorted set cannot promise
     * when two partitions bring a source's records by turns.
     */
    private static final class Log {
        private static final int PAIRS_BEGIN = 4;

        private long[] pairs = new long[2 * PAIRS_BEGIN];
        private int length;
        private long ordinals;

        /** Whether that is a further range. */
        boolean add(long start, long end) {
            ordinals += end - start;
            if (length > 0 && pairs[length - 1] == start) {
                pairs[length - 1] = end;
                return false;
            }
            if (length == pairs.length) {
                pairs = Arrays.copyOf(pairs, 2 * length);
            }
            pairs[length++] = start;
            pairs[length++] = end;
            return true;
        }

        /** The sorted set: what is in order already is taken as a whole, and joined with its neighbours by twos. */
        long[] set() {
            List<long[]> sets = new ArrayList<>();
            for (int at = 0; at < length; ) {
                int end = at + 2;
                while (end < length && pairs[end] > pairs[end - 1]) {
                    end += 2;
                }
                sets.add(Arrays.copyOfRange(pairs, at, end));
                at = end;
            }
            while (sets.size() > 1) {
                List<long[]> joined = new ArrayList<>();
                for (int at = 0; at < sets.size(); at += 2) {
                    joined.add(at + 1 == sets.size() ? sets.get(at) : Ranges.union(sets.get(at), sets.get(at + 1)));
                }
                sets = joined;
            }
            return sets.isEmpty() ? Ranges.NONE : sets.get(0);
        }
    }
}
