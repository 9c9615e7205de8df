package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class FootprintTest {
    @Test
    void whatIsKnownIsCountedAsItChanges() {
        Footprint footprint = new Footprint(2 * Footprint.SOURCE_BYTES + 3 * Footprint.RANGE_BYTES);
        footprint.know(Ranges.NONE);
        footprint.change(0, Ranges.of(0, 4));
        footprint.know(Ranges.of(0, 1, 2, 3));
        footprint.refuseExcess("t");
        assertEquals(2, footprint.sources());
        assertEquals(3, footprint.ranges());
        footprint.change(4, Ranges.of(0, 1, 2, 3, 4, 5));
        String text = assertThrows(IllegalStateException.class, () -> footprint.refuseExcess("t")).getMessage();
        assertTrue(text.contains("4 ranges of 2 sources") && text.contains("'range-sets.bytes-max'"), text);
        footprint.change(6, Ranges.of(0, 5));
        footprint.refuseExcess("t");
        assertEquals(2, footprint.ranges());
    }
}
