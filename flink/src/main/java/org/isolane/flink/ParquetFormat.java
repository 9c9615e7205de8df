package org.isolane.flink;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.serialization.BulkWriter;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.connector.file.src.FileSourceSplit;
import org.apache.flink.connector.file.src.reader.BulkFormat;
import org.apache.flink.connector.file.table.factories.BulkReaderFormatFactory;
import org.apache.flink.connector.file.table.factories.BulkWriterFormatFactory;
import org.apache.flink.connector.file.table.format.BulkDecodingFormat;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.EncodingFormat;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalTypeFamily;
import org.apache.flink.table.types.logical.RowType;

/**
 * {@code 'format' = 'isolane-parquet'} of Flink's own {@code 'connector' = 'filesystem'}: Parquet files that say in their
 * footers which ranges their rows are of. Flink's sink writes, closes and renames a file once a checkpoint, so rows and
 * ranges become visible by one rename. With {@code 'auto-compaction' = 'true'} what is renamed is one file that the files of a
 * checkpoint were put together into, see {@link WholeFiles}.
 *
 * <p>This class touches nothing of Parquet's: Flink loads every format to find one, also where Parquet is not installed.
 */
public final class ParquetFormat implements BulkWriterFormatFactory, BulkReaderFormatFactory {
    private static final String NAME = "isolane-parquet";
    private static final ConfigOption<String> IL = ConfigOptions.key("il").stringType().defaultValue("il")
            .withDescription("The column with the record's provenance header; it goes into the footer, not into the rows.");
    private static final ConfigOption<Boolean> UTC = ConfigOptions.key("utc-timezone").booleanType().defaultValue(false)
            .withDescription("As of Flink's own format 'parquet'.");

    @Override
    public String factoryIdentifier() {
        return NAME;
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(IL, UTC);
    }

    @Override
    public EncodingFormat<BulkWriter.Factory<RowData>> createEncodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        String column = options.get(IL);
        boolean isUtc = options.get(UTC);
        Map<String, String> parquet = new HashMap<>(((Configuration) options).toMap());
        parquet.keySet().removeAll(Set.of(IL.key(), UTC.key()));
        return new EncodingFormat<>() {
            @Override
            public BulkWriter.Factory<RowData> createRuntimeEncoder(DynamicTableSink.Context sink, DataType written) {
                RowType type = (RowType) written.getLogicalType();
                return ParquetFile.factory(type, provenance(type, column), isUtc, parquet);
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }

    @Override
    public BulkDecodingFormat<RowData> createDecodingFormat(DynamicTableFactory.Context context, ReadableConfig options) {
        String column = options.get(IL);
        return new BulkDecodingFormat<>() {
            @Override
            public BulkFormat<RowData, FileSourceSplit> createRuntimeDecoder(DynamicTableSource.Context source, DataType read) {
                if (source instanceof ScanTableSource.ScanContext) {
                    throw new ValidationException("format '" + NAME + "' only reads for 'auto-compaction'; to read files use"
                            + " 'format' = 'parquet', without the column `" + column + "`");
                }
                RowType type = (RowType) read.getLogicalType();
                return new WholeFiles(source.createTypeInformation(read), type.getFieldCount(), provenance(type, column));
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }

    /** Where the provenance is. */
    private static int provenance(RowType type, String column) {
        List<String> names = type.getFieldNames();
        int at = names.indexOf(column);
        if (at < 0 || !type.getTypeAt(at).is(LogicalTypeFamily.CHARACTER_STRING)) {
            throw new ValidationException("format '" + NAME + "' needs a column `" + column + "` STRING, which is not partitioned by,"
                    + " with the metadata column 'il' of the source's table; '" + NAME + ".il' gives it another name");
        }
        if (names.size() == 1) {
            throw new ValidationException("format '" + NAME + "' needs a column beside `" + column + "`, which is not written");
        }
        return at;
    }
}
