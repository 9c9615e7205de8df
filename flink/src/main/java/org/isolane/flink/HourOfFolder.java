package org.isolane.flink;

import java.time.DateTimeException;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.List;
import org.apache.flink.connector.file.table.PartitionTimeExtractor;

/**
 * When the hour of a folder {@code dt=yyyy-MM-dd/hour=HH} begins, for {@code 'partition.time-extractor.kind' = 'custom'}. A folder
 * that is of no hour is never announced; Flink's own extractor would fail the job with every checkpoint, for one row.
 */
public final class HourOfFolder implements PartitionTimeExtractor {
    /** No watermark comes so far. */
    static final LocalDateTime NEVER = LocalDateTime.of(9999, 12, 31, 23, 0);

    private static final long serialVersionUID = 1;

    @Override
    public LocalDateTime extract(List<String> keys, List<String> values) {
        try {
            LocalDate day = LocalDate.parse(values.get(keys.indexOf("dt")));
            return day.atTime(Integer.parseInt(values.get(keys.indexOf("hour"))), 0);
        } catch (DateTimeException | NumberFormatException error) {
            return NEVER;
        }
    }
}
