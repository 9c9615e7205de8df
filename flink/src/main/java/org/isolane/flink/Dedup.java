package org.isolane.flink;

/**
 * Whether a leg has taken a record before. Pure: what is known of the record's source comes in, and the verdict goes out.
 *
 * <p>A record whose range is disjoint from what was taken is new; contained, it is a double; anything else means that two
 * readings of one source disagree about where records end, and is set apart. An unknown source born no later than the
 * horizon may be one that was forgotten: its records are set apart too, and leave no trace.
 */
public final class Dedup {
    /** Cause of a record whose range was taken in part. */
    public static final String OVERLAP = "overlap: its range was taken in part, with other record boundaries";
    /** Cause of a record of an unknown source that is older than the horizon. */
    public static final String STALE =
            "stale: its source is unknown and born before the leg's horizon, so it may have been taken before";
    /** Cause of an event that covers nothing. */
    public static final String NO_RANGE =
            "no range: it covers no part of its source, so it cannot be told from its copies";
    /** The horizon of a leg that has forgotten nothing. */
    public static final int NO_HORIZON = -1;

    /** What is to be done with a record. */
    public enum Verdict {
        /** Take it: a row if it is a record, dropped if it is a mark. */
        NEW(null),
        /** Taken before: drop and count it. */
        DOUBLE(null),
        /** It says something, but is no record: an end or a heartbeat. */
        SILENT(null),
        /** Set it apart: {@link #OVERLAP}. */
        APART_OVERLAP(OVERLAP),
        /** Set it apart: {@link #STALE}. */
        APART_STALE(STALE),
        /** Set it apart: {@link #NO_RANGE}. */
        APART_NO_RANGE(NO_RANGE);

        private final String cause;

        Verdict(String cause) {
            this.cause = cause;
        }

        /** Why it is set apart; null if it is not. */
        public String cause() {
            return cause;
        }
    }

    private Dedup() {}

    /**
     * The verdict on a record.
     *
     * @param taken ranges taken of its source; null if the source is unknown
     * @param horizonMinutes birth of the youngest source forgotten, in minutes since 1970, or {@link #NO_HORIZON}
     */
    public static Verdict judge(Provenance record, long[] taken, int horizonMinutes) {
        if (record.isEmpty()) {
            return record.kind().isRecord() ? Verdict.APART_NO_RANGE : Verdict.SILENT;
        }
        if (isStale(record, taken, horizonMinutes)) {
            return Verdict.APART_STALE;
        }
        return switch (Ranges.relation(taken == null ? Ranges.NONE : taken, record.start(), record.end())) {
            case DISJOINT -> Verdict.NEW;
            case CONTAINED -> Verdict.DOUBLE;
            case OVERLAPPING -> Verdict.APART_OVERLAP;
        };
    }

    /** Whether the source is known from this record on: not if it is stale, nor by a heartbeat alone that covers nothing. */
    public static boolean leavesTrace(Provenance record, long[] taken, int horizonMinutes) {
        boolean isBeat = record.kind() == Kind.HEARTBEAT && record.isEmpty();
        return !isBeat && !isStale(record, taken, horizonMinutes);
    }

    private static boolean isStale(Provenance record, long[] taken, int horizonMinutes) {
        return taken == null && SourceId.birthMinutes(record.source()) <= horizonMinutes;
    }
}
