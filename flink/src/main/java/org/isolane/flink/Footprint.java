package org.isolane.flink;

/**
 * What the range sets of one subtask take, counted as they change; estimated as on the Rust side, where a leg's budget is 64 MiB.
 * Pure.
 *
 * <p>Nothing is forgotten to make room, but with half of the budget used sources are forgotten sooner. Beyond it the job fails and says why, before the TaskManager runs out of memory and
 * takes other jobs with it.
 */
final class Footprint {
    /** What a source costs beside its ranges. */
    static final int SOURCE_BYTES = 160;
    /** What a range or a last place costs. */
    static final int RANGE_BYTES = 24;

    private final long bytesMax;
    private long sources;
    private long ranges;
    private long places;

    Footprint(long bytesMax) {
        this.bytesMax = bytesMax;
    }

    /** A source is known. */
    void know(long[] set, long[] last) {
        sources++;
        change(set.length / 2, LastPlaces.count(last));
    }

    /** A source is known no longer. */
    void forget(long[] set, long[] last) {
        sources--;
        change(-set.length / 2, -LastPlaces.count(last));
    }

    /** Sources that are known have so many more ranges or last places. */
    void change(int moreRanges, int morePlaces) {
        ranges += moreRanges;
        places += morePlaces;
    }

    /** Sources that are known. */
    long sources() {
        return sources;
    }

    /** Their ranges. */
    long ranges() {
        return ranges;
    }

    /** Memory of the range sets, estimated. */
    long bytes() {
        return SOURCE_BYTES * sources + RANGE_BYTES * (ranges + places);
    }

    /** Whether more than half of the budget is used. */
    boolean isPressed() {
        return bytes() > bytesMax / 2;
    }

    /**
     * Whether all is within the budget.
     *
     * @throws IllegalStateException if not; the message says what to do
     */
    void refuseExcess(String topic) {
        if (bytes() > bytesMax) {
            throw new IllegalStateException("what was taken of topic " + topic + " is " + ranges + " ranges of " + sources + " sources in this"
                    + " subtask, about " + bytes() + " bytes, and 'range-sets.bytes-max' is " + bytesMax + ". Many sources come of requests"
                    + " that are sources of their own: let senders send larger batches. Many ranges come of partitions that are read"
                    + " far apart, or of records that are missing for good. Raise the option where the TaskManager has the memory, or"
                    + " the parallelism");
        }
    }
}
