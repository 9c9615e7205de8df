package org.isolane.flink;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamSink;
import org.apache.flink.streaming.api.environment.CheckpointConfig;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.format.EncodingFormat;
import org.apache.flink.table.connector.sink.DataStreamSinkProvider;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.abilities.SupportsWritingMetadata;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;
import org.apache.kafka.clients.producer.ProducerConfig;

/** A table whose rows go to a Kafka topic, exactly once: Flink's own transactional sink, and in each transaction its ranges. */
final class KafkaTable implements DynamicTableSink, SupportsWritingMetadata {
    private static final String IL = Provenance.HEADER;
    private static final String KEY = "key";
    private static final String HEADERS = "headers";
    private static final String TIMESTAMP = "timestamp";

    /** What the options say. */
    record Settings(String table, String brokers, String topic, String ranges, String prefix, SinkOptions.Lost lost, Properties kafka) {}

    private final Settings settings;
    private final EncodingFormat<SerializationSchema<RowData>> format;
    private final DataType physical;
    private List<String> metadata = List.of();

    KafkaTable(Settings settings, EncodingFormat<SerializationSchema<RowData>> format, DataType physical) {
        this.settings = settings;
        this.format = format;
        this.physical = physical;
    }

    @Override
    public ChangelogMode getChangelogMode(ChangelogMode requested) {
        return ChangelogMode.insertOnly();
    }

    @Override
    public Map<String, DataType> listWritableMetadata() {
        Map<String, DataType> all = new LinkedHashMap<>();
        all.put(IL, DataTypes.STRING());
        all.put(KEY, DataTypes.BYTES());
        all.put(HEADERS, DataTypes.MAP(DataTypes.STRING(), DataTypes.BYTES()));
        all.put(TIMESTAMP, DataTypes.TIMESTAMP_LTZ(3));
        return all;
    }

    @Override
    public void applyWritableMetadata(List<String> keys, DataType consumed) {
        metadata = keys;
    }

    @Override
    public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
        if (!metadata.contains(IL)) {
            throw new ValidationException("table " + settings.table + " needs a column `" + IL + "` STRING METADATA, and each row in it"
                    + " the metadata column 'il' of its own record: else nobody could say which records the topic holds");
        }
        KafkaRecords records = new KafkaRecords(
                settings.topic, settings.ranges, format.createRuntimeEncoder(context, physical), columns());
        return new DataStreamSinkProvider() {
            @Override
            public DataStreamSink<?> consumeDataStream(ProviderContext provider, DataStream<RowData> rows) {
                DataStreamSink<RowData> sink = rows.sinkTo(sink(records, transactionTime(rows.getExecutionEnvironment())));
                sink.name("isolane-kafka: " + settings.topic);
                provider.generateUid("isolane-kafka").ifPresent(sink::uid);
                return sink;
            }
        };
    }

    private KafkaRecords.Columns columns() {
        return new KafkaRecords.Columns(DataType.getFieldCount(physical), column(KEY), column(HEADERS), column(TIMESTAMP));
    }

    /** Metadata columns are behind all others. */
    private int column(String key) {
        int at = metadata.indexOf(key);
        return at < 0 ? -1 : DataType.getFieldCount(physical) + at;
    }

    private RangedSink<?, ?> sink(KafkaRecords records, long transactionTimeMs) {
        Properties kafka = new Properties();
        kafka.putAll(settings.kafka);
        kafka.setProperty(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG, Long.toString(transactionTimeMs));
        KafkaSink<Outgoing> sink = KafkaSink.<Outgoing>builder()
                .setBootstrapServers(settings.brokers)
                .setKafkaProducerConfig(kafka)
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix(settings.prefix)
                .setRecordSerializer(records)
                .build();
        SinkTopics topics = new SinkTopics(settings.brokers, settings.topic, settings.ranges, settings.kafka);
        return new RangedSink<>(sink, topics, settings.topic, column(IL), settings.lost);
    }

    /** How long transactions may stay open; refused are jobs whose transactions would be ended at the wrong moment, or never. */
    private long transactionTime(StreamExecutionEnvironment env) {
        CheckpointConfig checkpoints = env.getCheckpointConfig();
        boolean isStreaming = env.getConfiguration().get(ExecutionOptions.RUNTIME_MODE) == RuntimeExecutionMode.STREAMING;
        if (!isStreaming || !checkpoints.isCheckpointingEnabled()
                || checkpoints.getCheckpointingConsistencyMode() != CheckpointingMode.EXACTLY_ONCE
                || checkpoints.isUnalignedCheckpointsEnabled()) {
            throw new ValidationException("table " + settings.table + ": transactions are committed with checkpoints, so that a job of"
                    + " connector 'isolane-kafka' needs a streaming runtime with aligned, exactly-once ones: set"
                    + " 'execution.checkpointing.interval', and leave 'execution.checkpointing.mode' and"
                    + " 'execution.checkpointing.unaligned.enabled' as they are");
        }
        String stated = settings.kafka.getProperty(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG);
        long intervalMs = Math.max(checkpoints.getCheckpointInterval(), checkpoints.getMinPauseBetweenCheckpoints());
        return TransactionTime.of(intervalMs, checkpoints.getCheckpointTimeout(), stated);
    }

    @Override
    public DynamicTableSink copy() {
        KafkaTable copy = new KafkaTable(settings, format, physical);
        copy.metadata = metadata;
        return copy;
    }

    @Override
    public String asSummaryString() {
        return "isolane-kafka";
    }
}
