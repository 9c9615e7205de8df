package org.isolane.flink;

import java.nio.charset.StandardCharsets;
import org.apache.flink.core.fs.Path;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinaryStringData;

/** A row that stands for all rows of a file: the column of the provenance says which. */
final class FileRow extends BlankRow {
    /** No provenance begins with it. */
    private static final String BEGINS = "file ";
    /** As bytes from the start: what is made of them on first use would be made by many threads. */
    private static final BinaryStringData BEGINS_BYTES = BinaryStringData.fromBytes(BEGINS.getBytes(StandardCharsets.US_ASCII));

    private final StringData file;
    private final int columns;
    private final int provenance;

    FileRow(Path file, int columns, int provenance) {
        this.file = StringData.fromString(BEGINS + file.toString());
        this.columns = columns;
        this.provenance = provenance;
    }

    /** The file that a row stands for; null if it stands for itself. */
    static Path file(RowData row, int provenance) {
        boolean isOne = !row.isNullAt(provenance) && ((BinaryStringData) row.getString(provenance)).startsWith(BEGINS_BYTES);
        return isOne ? new Path(row.getString(provenance).toString().substring(BEGINS.length())) : null;
    }

    @Override
    public int getArity() {
        return columns;
    }

    @Override
    public boolean isNullAt(int at) {
        return at != provenance;
    }

    @Override
    public StringData getString(int at) {
        return at == provenance ? file : null;
    }
}
