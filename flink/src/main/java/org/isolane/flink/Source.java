package org.isolane.flink;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.IntStream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.KafkaSourceOptions;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.CheckpointConfig;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.abilities.SupportsProjectionPushDown;
import org.apache.flink.table.connector.source.abilities.SupportsReadingMetadata;
import org.apache.flink.table.connector.source.abilities.SupportsWatermarkPushDown;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;

/** The table: a stock Kafka source per cluster, their union, keyed by source, and the {@link Taker} behind it. */
class Source
        implements ScanTableSource, SupportsProjectionPushDown, SupportsReadingMetadata, SupportsWatermarkPushDown {
    /** Why unaligned checkpoints are refused. */
    static final String UNALIGNED = "connector 'isolane' needs aligned checkpoints: with unaligned ones records are still "
            + "under way behind the positions of a hand-over, and would be lost; "
            + "set 'execution.checkpointing.unaligned.enabled' = 'false'";
    private static final String AT_LEAST_ONCE = "connector 'isolane' needs exactly-once checkpoints: with at-least-once ones "
            + "records behind a barrier are already taken for those before it, and would be lost at a restart; "
            + "set 'execution.checkpointing.mode' = 'EXACTLY_ONCE'";

    /** How often a cluster is asked for its partitions, in ms: one that was away, or has got more, is read soon. */
    private static final String DISCOVERY_MS = "10000";

    /**
     * Up to which append time each partition has been read, for whoever forgets by it. One that brings nothing for as long as a source
     * is remembered holds nobody up: either it is quiet, or its cluster is away, and what it brings later is then set apart.
     */
    private static final WatermarkStrategy<Piece> APPEND_TIMES =
            WatermarkStrategy.<Piece>forMonotonousTimestamps().withIdleness(Duration.ofMillis(Forgetting.MARGIN_MS));

    /** What the options say. */
    record Settings(
            String table,
            List<Cluster> clusters,
            String topic,
            String group,
            String format,
            Options.Startup startup,
            boolean bounded,
            Options.SetApart setApart,
            String handOverFrom,
            String handOverTo,
            String[] marks,
            HandOver begin,
            long rangeSetBytesMax,
            Properties kafka) {}

    private final Settings settings;
    private final DecodingFormat<DeserializationSchema<RowData>> format;
    private final DataType physical;
    private DataType produced;
    private int[] fields;
    private List<String> metadata = List.of();
    private WatermarkStrategy<RowData> watermark;

    Source(Settings settings, DecodingFormat<DeserializationSchema<RowData>> format, DataType physical) {
        this.settings = settings;
        this.format = format;
        this.physical = physical;
        this.produced = physical;
        this.fields = IntStream.range(0, DataType.getFieldCount(physical)).toArray();
    }

    @Override
    public ChangelogMode getChangelogMode() {
        return ChangelogMode.insertOnly();
    }

    @Override
    public boolean supportsNestedProjection() {
        return false;
    }

    /** All declared columns are decoded all the same: which are selected must not change which records can be decoded. */
    @Override
    public void applyProjection(int[][] paths, DataType type) {
        fields = Arrays.stream(paths).mapToInt(path -> path[0]).toArray();
        produced = type;
    }

    @Override
    public Map<String, DataType> listReadableMetadata() {
        return Column.all();
    }

    @Override
    public void applyReadableMetadata(List<String> keys, DataType type) {
        metadata = keys;
        produced = type;
    }

    @Override
    public void applyWatermark(WatermarkStrategy<RowData> strategy) {
        watermark = strategy;
    }

    @Override
    public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
        if (settings.setApart == Options.SetApart.ROW && !metadata.contains(Column.FATE.key())) {
            throw new ValidationException("table " + settings.table + ": a record that cannot be decoded becomes a row with its "
                    + "fate, and this query does not read it, so that it would deliver rows of NULLs. Declare `fate STRING "
                    + "METADATA VIRTUAL`, select WHERE fate IS NULL, and INSERT the others into a quarantine in the same "
                    + "statement set; or say 'set-apart' = 'fail' or 'count'");
        }
        DeserializationSchema<RowData> decoder = format.createRuntimeDecoder(context, physical);
        TypeInformation<RowData> type = context.createTypeInformation(produced);
        Taker.Plan plan = new Taker.Plan(
                settings.clusters.stream().map(Cluster::name).toArray(String[]::new),
                settings.topic,
                settings.format,
                decoder,
                fields,
                metadata.stream().map(Column::of).toArray(Column[]::new),
                settings.setApart,
                watermark,
                settings.rangeSetBytesMax,
                starts(settings),
                settings.handOverFrom,
                settings.handOverTo == null ? null : new Publisher(settings.handOverTo, settings.topic),
                settings.marks);
        return new DataStreamScanProvider() {
            @Override
            public DataStream<RowData> produceDataStream(ProviderContext provider, StreamExecutionEnvironment env) {
                refuseUnsafe(env.getCheckpointConfig());
                return take(read(provider, env), plan, type, provider);
            }

            @Override
            public boolean isBounded() {
                return settings.bounded;
            }
        };
    }

    /** Where the oldest offsets are had from; elsewhere in tests that have no Kafka. */
    Starts starts(Settings of) {
        return new KafkaStarts(of.clusters, of.topic, of.kafka);
    }

    private static void refuseUnsafe(CheckpointConfig checkpoints) {
        if (checkpoints.isUnalignedCheckpointsEnabled() || checkpoints.isForceUnalignedCheckpoints()) {
            throw new ValidationException(UNALIGNED);
        }
        if (checkpoints.isCheckpointingEnabled()
                && checkpoints.getCheckpointingConsistencyMode() != CheckpointingMode.EXACTLY_ONCE) {
            throw new ValidationException(AT_LEAST_ONCE);
        }
    }

    private static DataStream<RowData> take(
            DataStream<Piece> pieces, Taker.Plan plan, TypeInformation<RowData> type, ProviderContext provider) {
        SingleOutputStreamOperator<RowData> rows =
                pieces.keyBy(piece -> piece.source).transform("isolane-take: " + plan.topic(), type, new Taker(plan));
        provider.generateUid("take").ifPresent(rows::uid);
        return rows;
    }

    /** What the readers of all clusters bring. */
    DataStream<Piece> read(ProviderContext provider, StreamExecutionEnvironment env) {
        DataStream<Piece> all = null;
        for (Cluster cluster : settings.clusters) {
            String name = "isolane-read: " + cluster.name() + ", " + settings.topic;
            SingleOutputStreamOperator<Piece> pieces =
                    env.fromSource(kafka(cluster), APPEND_TIMES, name, TypeInformation.of(Piece.class));
            provider.generateUid("read-" + cluster.name()).ifPresent(pieces::uid);
            DataStream<Piece> watched = pieces.map(new Lag(cluster, settings.topic, settings.kafka)).returns(Piece.class);
            all = all == null ? watched : all.union(watched);
        }
        return all;
    }

    private KafkaSource<Piece> kafka(Cluster cluster) {
        KafkaSourceBuilder<Piece> builder = KafkaSource.<Piece>builder()
                .setProperties(settings.kafka)
                .setBootstrapServers(cluster.servers())
                .setClientIdPrefix("isolane-" + cluster.name() + "-" + settings.topic)
                .setKafkaSubscriber(new Partitions(cluster, settings.topic, settings.bounded))
                .setStartingOffsets(startingOffsets(cluster))
                .setDeserializer(new Reader(cluster, metadata.contains(Column.HEADERS.key())));
        String discovery = KafkaSourceOptions.PARTITION_DISCOVERY_INTERVAL_MS.key();
        builder.setProperty(discovery, settings.kafka.getProperty(discovery, DISCOVERY_MS));
        if (settings.group != null) {
            builder.setGroupId(settings.group);
        }
        if (settings.bounded) {
            builder.setBounded(OffsetsInitializer.latest());
        }
        return builder.build();
    }

    private OffsetsInitializer startingOffsets(Cluster cluster) {
        if (settings.begin == null) {
            return settings.startup == Options.Startup.EARLIEST ? OffsetsInitializer.earliest() : OffsetsInitializer.latest();
        }
        return HandOverOffsets.of(settings.begin, settings.topic, cluster.number());
    }

    @Override
    public DynamicTableSource copy() {
        Source copy = anew();
        copy.produced = produced;
        copy.fields = fields.clone();
        copy.metadata = new ArrayList<>(metadata);
        copy.watermark = watermark;
        return copy;
    }

    /** The same table, before anything was pushed into it. */
    Source anew() {
        return new Source(settings, format, physical);
    }

    @Override
    public String asSummaryString() {
        return "isolane";
    }
}
