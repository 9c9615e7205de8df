package org.isolane.flink;

import java.util.Arrays;

/**
 * Where a source was last seen, per place: {@code place, offset, append time in ms} one behind the other in a {@code long[]}, which is
 * what Flink keeps as state. Pure. No method keeps or changes an array that it is given, but {@link #see}.
 */
final class LastPlaces {
    /** Seen nowhere. */
    static final long[] NONE = {};

    private static final int NUMBERS = 3;
    private static final int CLUSTER_SHIFT = 32;

    /** The latest record of a source at a place. */
    record Seen(HandOver.Place place, long offset, long appendTimeMs) {}

    private LastPlaces() {}

    /** {@code places} with the latest record at a place. Where the place is known, the array given is changed and returned. */
    static long[] see(long[] places, Seen seen) {
        long place = code(seen.place);
        for (int at = 0; at < places.length; at += NUMBERS) {
            if (places[at] == place) {
                places[at + 1] = seen.offset;
                places[at + 2] = seen.appendTimeMs;
                return places;
            }
        }
        long[] more = Arrays.copyOf(places, places.length + NUMBERS);
        more[places.length] = place;
        more[places.length + 1] = seen.offset;
        more[places.length + 2] = seen.appendTimeMs;
        return more;
    }

    /** How many. */
    static int count(long[] places) {
        return places.length / NUMBERS;
    }

    /** The one at an index. */
    static Seen get(long[] places, int index) {
        int at = NUMBERS * index;
        HandOver.Place place = new HandOver.Place((int) (places[at] >>> CLUSTER_SHIFT), (int) places[at]);
        return new Seen(place, places[at + 1], places[at + 2]);
    }

    private static long code(HandOver.Place place) {
        return (long) place.cluster() << CLUSTER_SHIFT | place.partition();
    }
}
