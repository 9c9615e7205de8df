package org.isolane.flink;

import java.io.IOException;
import org.apache.flink.api.common.serialization.BulkWriter;
import org.apache.flink.core.fs.FSDataOutputStream;
import org.apache.flink.core.fs.Path;
import org.apache.flink.table.data.RowData;
import org.apache.parquet.example.data.Group;

/** A row as it lies in a Parquet file, on its way into another one. */
final class CopiedRow extends BlankRow {
    /** What its file says of all its rows, with the first of them; else null. */
    final Part part;
    /** The row. */
    final Group row;

    private CopiedRow(Part part, Group row) {
        this.part = part;
        this.row = row;
    }

    /** Writers that copy the files that a {@link FileRow} stands for, and write other rows as they are. */
    record Factory(BulkWriter.Factory<RowData> rows, int provenance) implements BulkWriter.Factory<RowData> {
        @Override
        public BulkWriter<RowData> create(FSDataOutputStream out) throws IOException {
            return new Writer(rows.create(out), provenance);
        }
    }

    private record Writer(BulkWriter<RowData> rows, int provenance) implements BulkWriter<RowData> {
        @Override
        public void addElement(RowData row) throws IOException {
            Path file = FileRow.file(row, provenance);
            if (file == null) {
                rows.addElement(row);
            } else {
                copy(file);
            }
        }

        private void copy(Path file) throws IOException {
            try (PartReader reader = PartReader.open(file)) {
                Part part = reader.part();
                for (Group row = reader.next(); row != null; row = reader.next()) {
                    rows.addElement(new CopiedRow(part, row));
                    part = null;
                }
            }
        }

        @Override
        public void flush() throws IOException {
            rows.flush();
        }

        @Override
        public void finish() throws IOException {
            rows.finish();
        }
    }
}
