package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.LocalDateTime;
import java.util.List;
import org.junit.jupiter.api.Test;

class HourOfFolderTest {
    private static LocalDateTime hour(String day, String hour) {
        return new HourOfFolder().extract(List.of("dt", "hour"), List.of(day, hour));
    }

    @Test
    void aFolderIsOfItsHourAndOneOfNoHourIsNeverAnnounced() {
        assertEquals(LocalDateTime.of(2026, 3, 1, 23, 0), hour("2026-03-01", "23"));
        assertEquals(LocalDateTime.of(12024, 3, 1, 0, 0), hour("+12024-03-01", "00"));
        for (String day : List.of("__DEFAULT_PARTITION__", "", "2026-02-30", "12024-03-01")) {
            assertEquals(HourOfFolder.NEVER, hour(day, "00"), day);
        }
        assertEquals(HourOfFolder.NEVER, hour("2026-03-01", "24"));
        assertEquals(HourOfFolder.NEVER, hour("2026-03-01", "x"));
    }
}
