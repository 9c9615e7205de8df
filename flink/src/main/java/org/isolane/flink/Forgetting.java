package org.isolane.flink;

import java.util.function.ToLongFunction;

/**
 * When a source may be forgotten, as on the Rust side: it is complete, that is its end was read and all of it was taken, and each of
 * its last records is gone. A record is gone when it was appended a margin before the append time up to which everything has been
 * read, and the journal has removed it. Once more than half of the budget is used the margin alone decides: a late copy is then
 * stale and set apart, never delivered twice. Pure.
 *
 * <p>Seen nowhere is not gone: such a source was handed over by somebody who did not say where.
 */
final class Forgetting {
    /** How long after its last record a source is still remembered: as long as a sender may reasonably try again. */
    static final long MARGIN_MS = 3_600_000;

    private Forgetting() {}

    /**
     * Whether a source may be forgotten.
     *
     * @param taken its ranges
     * @param finished its length, or null
     * @param last where it was last seen, see {@link LastPlaces}
     * @param starts the oldest offset that a place still keeps
     * @param reachedMs the append time up to which everything has been read
     * @param isPressed whether more than half of the budget is used
     */
    static boolean may(
            long[] taken, Long finished, long[] last, ToLongFunction<HandOver.Place> starts, long reachedMs, boolean isPressed) {
        if (finished == null || Ranges.contiguousEnd(taken) < finished || last.length == 0) {
            return false;
        }
        for (int at = 0; at < LastPlaces.count(last); at++) {
            LastPlaces.Seen seen = LastPlaces.get(last, at);
            boolean isRemoved = starts.applyAsLong(seen.place()) > seen.offset();
            if (!isRemoved && !isPressed || reachedMs - seen.appendTimeMs() <= MARGIN_MS) {
                return false;
            }
        }
        return true;
    }
}
