package org.isolane.flink;

import java.util.ArrayDeque;
import java.util.Queue;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.src.FileSourceSplit;
import org.apache.flink.connector.file.src.reader.BulkFormat;
import org.apache.flink.connector.file.src.util.RecordAndPosition;
import org.apache.flink.table.data.RowData;

/**
 * What Flink reads of files that it puts together: a single row for each, which names it, see {@link FileRow}. The writer that is given
 * that row copies the file.
 */
final class WholeFiles implements BulkFormat<RowData, FileSourceSplit> {
    private static final long serialVersionUID = 1;

    private final TypeInformation<RowData> type;
    private final int columns;
    private final int provenance;

    /**
     * Makes a reader.
     *
     * @param type the rows' type
     * @param columns how many columns there are
     * @param provenance which of them is the provenance
     */
    WholeFiles(TypeInformation<RowData> type, int columns, int provenance) {
        this.type = type;
        this.columns = columns;
        this.provenance = provenance;
    }

    @Override
    public Reader<RowData> createReader(Configuration config, FileSourceSplit split) {
        return new One(new FileRow(split.path(), columns, provenance));
    }

    @Override
    public Reader<RowData> restoreReader(Configuration config, FileSourceSplit split) {
        throw new UnsupportedOperationException("files are put together as wholes");
    }

    @Override
    public boolean isSplittable() {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return type;
    }

    /** One row, in one batch. */
    private static final class One implements Reader<RowData>, RecordIterator<RowData> {
        private final Queue<RowData> rows = new ArrayDeque<>();

        One(RowData row) {
            rows.add(row);
        }

        @Override
        public RecordIterator<RowData> readBatch() {
            return rows.isEmpty() ? null : this;
        }

        @Override
        public RecordAndPosition<RowData> next() {
            return rows.isEmpty() ? null : new RecordAndPosition<>(rows.remove(), 0, 1);
        }

        @Override
        public void releaseBatch() {}

        @Override
        public void close() {}
    }
}
