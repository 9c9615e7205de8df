package org.isolane.flink;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.flink.api.common.serialization.BulkWriter;
import org.apache.flink.formats.parquet.ParquetBuilder;
import org.apache.flink.formats.parquet.ParquetWriterFactory;
import org.apache.flink.formats.parquet.row.ParquetRowDataBuilder;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.utils.ProjectedRowData;
import org.apache.flink.table.types.logical.RowType;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.example.data.GroupWriter;
import org.apache.parquet.hadoop.ParquetOutputFormat;
import org.apache.parquet.hadoop.ParquetWriter;
import org.apache.parquet.hadoop.api.WriteSupport;
import org.apache.parquet.hadoop.metadata.CompressionCodecName;
import org.apache.parquet.io.OutputFile;
import org.apache.parquet.io.api.RecordConsumer;
import org.apache.parquet.schema.MessageType;

/** A Parquet file as Flink's own format writes it, without the column of the provenance, which its footer sums up. */
final class ParquetFile extends ParquetRowDataBuilder {
    private final int provenance;
    private final int[] columns;

    private ParquetFile(OutputFile file, Plan plan) {
        super(file, plan.columnsType(), plan.isUtc);
        provenance = plan.provenance;
        columns = plan.columns();
    }

    /**
     * Makes files.
     *
     * @param type all columns
     * @param provenance which of them is the provenance
     * @param isUtc whether local times are written as if they were UTC
     * @param options of Parquet, without {@code parquet.}
     */
    static BulkWriter.Factory<RowData> factory(RowType type, int provenance, boolean isUtc, Map<String, String> options) {
        return new CopiedRow.Factory(new ParquetWriterFactory<>(new Plan(type, provenance, isUtc, options)), provenance);
    }

    @Override
    protected WriteSupport<RowData> getWriteSupport(Configuration configuration) {
        return new Support(super.getWriteSupport(configuration), provenance, columns);
    }

    private record Plan(RowType type, int provenance, boolean isUtc, Map<String, String> options)
            implements ParquetBuilder<RowData> {
        int[] columns() {
            return IntStream.range(0, type.getFieldCount()).filter(at -> at != provenance).toArray();
        }

        RowType columnsType() {
            List<RowType.RowField> fields = new ArrayList<>(type.getFields());
            fields.remove(provenance);
            return new RowType(type.isNullable(), fields);
        }

        @Override
        public ParquetWriter<RowData> createWriter(OutputFile file) throws IOException {
            Configuration parquet = new Configuration(false);
            options.forEach((key, value) -> parquet.set("parquet." + key, value));
            String compression = parquet.get(ParquetOutputFormat.COMPRESSION, CompressionCodecName.SNAPPY.name());
            int padding = parquet.getInt(ParquetOutputFormat.MAX_PADDING_BYTES, ParquetWriter.MAX_PADDING_SIZE_DEFAULT);
            return new ParquetFile(file, this)
                    .withCompressionCodec(CompressionCodecName.fromConf(compression))
                    .withRowGroupSize(ParquetOutputFormat.getLongBlockSize(parquet))
                    .withPageSize(ParquetOutputFormat.getPageSize(parquet))
                    .withDictionaryPageSize(ParquetOutputFormat.getDictionaryPageSize(parquet))
                    .withDictionaryEncoding(ParquetOutputFormat.getEnableDictionary(parquet))
                    .withMaxPaddingSize(padding)
                    .withValidation(ParquetOutputFormat.getValidation(parquet))
                    .withWriterVersion(ParquetOutputFormat.getWriterVersion(parquet))
                    .withConf(parquet)
                    .build();
        }
    }

    /** Flink's own writing of a row, and what is said of the rows at the end. */
    private static final class Support extends WriteSupport<RowData> {
        private final WriteSupport<RowData> rows;
        private final int provenance;
        private final ProjectedRowData projected;
        private final Delivered delivered = new Delivered();
        private MessageType schema;
        private GroupWriter copied;

        Support(WriteSupport<RowData> rows, int provenance, int[] columns) {
            this.rows = rows;
            this.provenance = provenance;
            projected = ProjectedRowData.from(columns);
        }

        @Override
        public WriteContext init(Configuration configuration) {
            WriteContext context = rows.init(configuration);
            schema = context.getSchema();
            return context;
        }

        @Override
        public void prepareForWrite(RecordConsumer consumer) {
            rows.prepareForWrite(consumer);
            copied = new GroupWriter(consumer, schema);
        }

        @Override
        public void write(RowData row) {
            if (row instanceof CopiedRow copy) {
                write(copy);
                return;
            }
            Provenance record = Origin.of(row, provenance);
            rows.write(projected.replaceRow(row));
            delivered.add(record);
        }

        private void write(CopiedRow copy) {
            copied.write(copy.row);
            if (copy.part != null) {
                delivered.addAll(copy.part);
            }
        }

        @Override
        public FinalizedWriteContext finalizeWrite() {
            return new FinalizedWriteContext(delivered.footer());
        }
    }
}
