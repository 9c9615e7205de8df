package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class FootprintTest {
    @Test
    void whatIsKnownIsCountedAsItChanges() {
        Footprint footprint = new Footprint(2 * Footprint.SOURCE_BYTES + 3 * Footprint.RANGE_BYTES);
        long[] last = LastPlaces.see(LastPlaces.NONE, new LastPlaces.Seen(new HandOver.Place(0, 1), 4, 5));
        footprint.know(Ranges.NONE, LastPlaces.NONE);
        assertFalse(footprint.isPressed());
        footprint.change(1, 0);
        footprint.know(Ranges.of(0, 1), last);
        footprint.refuseExcess("t");
        assertEquals(2, footprint.sources());
        assertEquals(2, footprint.ranges());
        assertTrue(footprint.isPressed());
        footprint.change(1, 0);
        String text = assertThrows(IllegalStateException.class, () -> footprint.refuseExcess("t")).getMessage();
        assertTrue(text.contains("3 ranges of 2 sources") && text.contains("'range-sets.bytes-max'"), text);
        footprint.forget(Ranges.of(0, 1), last);
        footprint.refuseExcess("t");
        assertEquals(1, footprint.sources());
        assertEquals(2, footprint.ranges());
        assertEquals(Footprint.SOURCE_BYTES + 2 * Footprint.RANGE_BYTES, footprint.bytes());
    }
}
