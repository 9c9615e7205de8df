package org.isolane.flink;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.core.fs.Path;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.Column.PhysicalColumn;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;

/** {@code 'connector' = 'isolane'}: reads a table's options, and refuses what would lose records or make no sense. */
public class Factory implements DynamicTableSourceFactory {
    private static final ConfigOption<String> VALUE_FORMAT =
            ConfigOptions.key("value.format").stringType().noDefaultValue();
    /** What the connector says itself to Kafka's clients. */
    private static final Set<String> OWN = Set.of(
            "bootstrap.servers", "group.id", "client.id", "client.id.prefix", "auto.offset.reset", "enable.auto.commit",
            "key.deserializer", "value.deserializer");

    @Override
    public String factoryIdentifier() {
        return "isolane";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(Options.CLUSTERS, Options.TOPIC);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(
                FactoryUtil.FORMAT, VALUE_FORMAT, Options.GROUP, Options.STARTUP, Options.BOUNDED, Options.SET_APART,
                Options.HAND_OVER_FROM, Options.HAND_OVER_TO, Options.MARKS, Options.RANGE_SETS);
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        Map<String, String> texts = context.getCatalogTable().getOptions();
        refuseSilence(texts);
        DecodingFormat<DeserializationSchema<RowData>> format = helper
                .discoverOptionalDecodingFormat(DeserializationFormatFactory.class, FactoryUtil.FORMAT)
                .or(() -> helper.discoverOptionalDecodingFormat(DeserializationFormatFactory.class, VALUE_FORMAT))
                .orElseThrow(() -> new ValidationException("a table of connector 'isolane' needs a 'format', for example 'json'"));
        helper.validateExcept(KafkaOptions.PREFIX);
        if (!format.getChangelogMode().equals(ChangelogMode.insertOnly())) {
            throw new ValidationException("connector 'isolane' takes formats that give one inserted row a record, not changes");
        }
        DataType physical = context.getPhysicalRowDataType();
        refuseRequired(context);
        ReadableConfig options = helper.getOptions();
        return source(settings(context.getObjectIdentifier().asSummaryString(), options, texts), format, physical);
    }

    /** The source itself; another in tests that have no Kafka. */
    Source source(Source.Settings settings, DecodingFormat<DeserializationSchema<RowData>> format, DataType physical) {
        return new Source(settings, format, physical);
    }

    private static Source.Settings settings(String table, ReadableConfig options, Map<String, String> texts) {
        String topic = options.get(Options.TOPIC);
        if (!topic.matches("[a-zA-Z0-9._-]{1,249}")) {
            throw new ValidationException("topic '" + topic + "' is no name of a Kafka topic; "
                    + "of a stream's topic key a.b.c@1f it is a.b.c.1f");
        }
        List<Cluster> clusters = Cluster.parse(options.get(Options.CLUSTERS));
        String from = options.getOptional(Options.HAND_OVER_FROM).orElse(null);
        String format = options.getOptional(FactoryUtil.FORMAT).orElseGet(() -> options.get(VALUE_FORMAT));
        return new Source.Settings(
                table,
                clusters,
                topic,
                options.getOptional(Options.GROUP).orElse(null),
                format,
                options.get(Options.STARTUP),
                options.get(Options.BOUNDED),
                options.get(Options.SET_APART),
                from,
                options.getOptional(Options.HAND_OVER_TO).orElse(null),
                options.get(Options.MARKS).toArray(String[]::new),
                begin(from, topic, clusters.size()),
                options.get(Options.RANGE_SETS).getBytes(),
                KafkaOptions.of(texts, OWN, "'clusters', 'group' and 'startup'"));
    }

    private static HandOver begin(String from, String topic, int clusters) {
        if (from == null) {
            return null;
        }
        try {
            HandOver object = HandOver.read(new Path(from));
            if (!object.topic.equals(topic)) {
                throw new ValidationException("'hand-over.from' is of topic '" + object.topic + "', the table's is '" + topic + "'");
            }
            if (object.positions.keySet().stream().anyMatch(place -> place.cluster() >= clusters)) {
                throw new ValidationException("'hand-over.from' has positions of more clusters than 'clusters' names");
            }
            return object;
        } catch (IOException error) {
            throw new ValidationException("'hand-over.from': " + error.getMessage(), error);
        }
    }

    /** Records may not vanish. */
    private static void refuseSilence(Map<String, String> texts) {
        texts.forEach((key, value) -> {
            if (key.endsWith(".ignore-parse-errors") && value.equalsIgnoreCase("true")) {
                throw new ValidationException("records may not vanish: remove '" + key
                        + "'; records that cannot be read are kept apart with their cause");
            }
        });
    }

    /** A column that a record may lack cannot be NOT NULL. */
    private static void refuseRequired(Context context) {
        for (org.apache.flink.table.catalog.Column column : context.getCatalogTable().getResolvedSchema().getColumns()) {
            if (column instanceof PhysicalColumn && !column.getDataType().getLogicalType().isNullable()) {
                throw new ValidationException("column '" + column.getName()
                        + "' may always be missing from a record: remove NOT NULL, and leave such records out with WHERE");
            }
        }
    }
}
