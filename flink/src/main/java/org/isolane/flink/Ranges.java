package org.isolane.flink;

import java.util.Arrays;

/**
 * Sets of ordinals of one source: sorted ranges that neither overlap nor touch, none of them empty, laid one behind the
 * other as {@code start, end, start, end, ...} in a {@code long[]}, which is what Flink keeps as state. One range is the
 * steady state. No method keeps or changes an array that it is given, but {@link #insert}.
 */
public final class Ranges {
    /** The empty set. */
    public static final long[] NONE = {};

    /** How a range lies to a set. */
    public enum Relation {
        /** No ordinal of it is in the set. */
        DISJOINT,
        /** Every ordinal of it is in the set; also an empty range is. */
        CONTAINED,
        /** Some are, some are not: two readings of one source disagree about where records end. */
        OVERLAPPING
    }

    private Ranges() {}

    /** How {@code [start, end)} lies to {@code set}. */
    public static Relation relation(long[] set, long start, long end) {
        if (start == end) {
            return Relation.CONTAINED;
        }
        int at = firstEndingBehind(set, start);
        if (at == set.length || set[at] >= end) {
            return Relation.DISJOINT;
        }
        return set[at] <= start && end <= set[at + 1] ? Relation.CONTAINED : Relation.OVERLAPPING;
    }

    /**
     * {@code set} with {@code [start, end)}, joined with what it overlaps or touches. Where the number of ranges stays, the
     * array given is changed and returned: use what is returned only.
     */
    public static long[] insert(long[] set, long start, long end) {
        if (start == end) {
            return set;
        }
        // Ranges from..to are overlapped or touched.
        int from = firstEndingBehind(set, start - 1);
        int to = from;
        while (to < set.length && set[to] <= end) {
            to += 2;
        }
        if (to - from == 2) {
            set[from] = Math.min(set[from], start);
            set[from + 1] = Math.max(set[from + 1], end);
            return set;
        }
        long[] joined = new long[set.length + 2 - (to - from)];
        System.arraycopy(set, 0, joined, 0, from);
        joined[from] = from == to ? start : Math.min(set[from], start);
        joined[from + 1] = from == to ? end : Math.max(set[to - 1], end);
        System.arraycopy(set, to, joined, from + 2, set.length - to);
        return joined;
    }

    /** What is in either set. */
    public static long[] union(long[] one, long[] other) {
        long[] both = new long[one.length + other.length];
        int length = 0;
        int i = 0;
        int j = 0;
        while (i < one.length || j < other.length) {
            boolean isFirst = j == other.length || i < one.length && one[i] <= other[j];
            long start = isFirst ? one[i] : other[j];
            long end = isFirst ? one[i + 1] : other[j + 1];
            i += isFirst ? 2 : 0;
            j += isFirst ? 0 : 2;
            if (length > 0 && start <= both[length - 1]) {
                both[length - 1] = Math.max(both[length - 1], end);
            } else {
                both[length] = start;
                both[length + 1] = end;
                length += 2;
            }
        }
        return Arrays.copyOf(both, length);
    }

    /** What is in {@code set} and not in {@code other}. */
    public static long[] difference(long[] set, long[] other) {
        long[] left = new long[set.length + other.length];
        int length = 0;
        for (int at = 0; at < set.length; at += 2) {
            long start = set[at];
            long end = set[at + 1];
            for (int held = firstEndingBehind(other, start); held < other.length && other[held] < end; held += 2) {
                if (start < other[held]) {
                    left[length++] = start;
                    left[length++] = other[held];
                }
                start = Math.max(start, other[held + 1]);
            }
            if (start < end) {
                left[length++] = start;
                left[length++] = end;
            }
        }
        return Arrays.copyOf(left, length);
    }

    /** Ordinals in the set. */
    public static long total(long[] set) {
        long total = 0;
        for (int at = 0; at < set.length; at += 2) {
            total += set[at + 1] - set[at];
        }
        return total;
    }

    /** First ordinal that is missing when counting from 0. */
    public static long contiguousEnd(long[] set) {
        return set.length > 0 && set[0] == 0 ? set[1] : 0;
    }

    /** One past the last ordinal in the set; 0 if it is empty. */
    public static long end(long[] set) {
        return set.length == 0 ? 0 : set[set.length - 1];
    }

    /**
     * A set from pairs in any order that may overlap, touch or be empty.
     *
     * @throws IllegalArgumentException if they are not pairs, or one of them ends before it starts or starts below 0
     */
    public static long[] of(long... pairs) {
        if (pairs.length % 2 != 0) {
            throw new IllegalArgumentException("a range has a start and an end: " + pairs.length + " numbers");
        }
        long[] set = NONE;
        for (int at = 0; at < pairs.length; at += 2) {
            if (pairs[at] < 0 || pairs[at + 1] < pairs[at]) {
                throw new IllegalArgumentException("no range: " + pairs[at] + " to " + pairs[at + 1]);
            }
            set = insert(set, pairs[at], pairs[at + 1]);
        }
        return set;
    }

    /** Index of the first range that ends behind {@code ordinal}; the array's length if none does. */
    private static int firstEndingBehind(long[] set, long ordinal) {
        int low = 0;
        int high = set.length / 2;
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (set[2 * middle + 1] > ordinal) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        return 2 * low;
    }
}
