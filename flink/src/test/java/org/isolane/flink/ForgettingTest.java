package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

/** What the histories of the vectors are too short for. */
class ForgettingTest {
    private static final long[] TAKEN = Ranges.of(0, 8);
    private static final long[] LAST = LastPlaces.see(LastPlaces.NONE, new LastPlaces.Seen(new HandOver.Place(1, 2), 9, 100));

    private static boolean may(long[] last, long start, long reachedMs, boolean isPressed) {
        return Forgetting.may(TAKEN, 8L, last, place -> place.equals(new HandOver.Place(1, 2)) ? start : 0, reachedMs, isPressed);
    }

    @Test
    void underPressureTheMarginAloneDecides() {
        assertTrue(may(LAST, 10, 101 + Forgetting.MARGIN_MS, false));
        assertFalse(may(LAST, 9, 101 + Forgetting.MARGIN_MS, false));
        assertTrue(may(LAST, 9, 101 + Forgetting.MARGIN_MS, true));
        assertFalse(may(LAST, 10, 100 + Forgetting.MARGIN_MS, true));
    }

    @Test
    void whatWasSeenNowhereIsRemembered() {
        assertFalse(may(LastPlaces.NONE, 10, 101 + Forgetting.MARGIN_MS, true));
    }
}
