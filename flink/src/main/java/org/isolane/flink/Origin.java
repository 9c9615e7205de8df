package org.isolane.flink;

import org.apache.flink.table.data.RowData;

/** The record that a row of a sink is of, from its column with the provenance header. */
final class Origin {
    private Origin() {}

    /**
     * What the column at {@code column} says.
     *
     * @throws IllegalArgumentException if it is NULL or no provenance: such a row cannot be accounted for, and fails the job
     */
    static Provenance of(RowData row, int column) {
        if (row.isNullAt(column)) {
            throw new IllegalArgumentException("a row has no provenance: select the metadata column 'il' of its own record");
        }
        try {
            return Provenance.parse(row.getString(column).toString());
        } catch (HeaderException error) {
            throw new IllegalArgumentException("a row's provenance is none: " + error.getMessage(), error);
        }
    }
}
