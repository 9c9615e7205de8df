package org.isolane.flink;

import org.apache.flink.table.data.RowData;

/** What a transaction of the Kafka sink consists of. */
sealed interface Outgoing {
    /** A row, and the record it is of. */
    record Row(RowData row, Provenance record) implements Outgoing {}

    /** What the rows before it cover, as JSON text. */
    record Ranges(String text) implements Outgoing {}
}
