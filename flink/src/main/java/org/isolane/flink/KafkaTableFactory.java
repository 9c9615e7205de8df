package org.isolane.flink;

import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.format.EncodingFormat;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.factories.SerializationFormatFactory;

/** {@code 'connector' = 'isolane-kafka'}: reads a sink table's options, and refuses what cannot be. */
public final class KafkaTableFactory implements DynamicTableSinkFactory {
    private static final ConfigOption<String> VALUE_FORMAT =
            ConfigOptions.key("value.format").stringType().noDefaultValue();
    /** What the connector says itself to Kafka's producers. */
    private static final Set<String> OWN = Set.of(
            "bootstrap.servers", "transactional.id", "enable.idempotence", "acks", "key.serializer", "value.serializer",
            "partitioner.class");
    /** What a topic's name and a prefix may consist of. */
    private static final String NAME = "[a-zA-Z0-9._-]{1,249}";

    @Override
    public String factoryIdentifier() {
        return "isolane-kafka";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(SinkOptions.BROKERS, SinkOptions.TOPIC, SinkOptions.PREFIX);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(FactoryUtil.FORMAT, VALUE_FORMAT, SinkOptions.RANGES_TOPIC, SinkOptions.LOST);
    }

    @Override
    public DynamicTableSink createDynamicTableSink(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        EncodingFormat<SerializationSchema<RowData>> format = helper
                .discoverOptionalEncodingFormat(SerializationFormatFactory.class, FactoryUtil.FORMAT)
                .or(() -> helper.discoverOptionalEncodingFormat(SerializationFormatFactory.class, VALUE_FORMAT))
                .orElseThrow(() -> new ValidationException("a table of connector 'isolane-kafka' needs a 'format', for example 'json'"));
        helper.validateExcept(KafkaOptions.PREFIX);
        String table = context.getObjectIdentifier().asSummaryString();
        KafkaTable.Settings settings = settings(table, helper.getOptions(), context.getCatalogTable().getOptions());
        return new KafkaTable(settings, format, context.getPhysicalRowDataType());
    }

    private static KafkaTable.Settings settings(String table, ReadableConfig options, Map<String, String> texts) {
        String topic = name(SinkOptions.TOPIC, options.get(SinkOptions.TOPIC));
        String ranges = options.getOptional(SinkOptions.RANGES_TOPIC).orElse(topic + ".ranges");
        if (name(SinkOptions.RANGES_TOPIC, ranges).equals(topic)) {
            throw new ValidationException("'ranges-topic' has to be another topic than that of the rows");
        }
        return new KafkaTable.Settings(
                table,
                Cluster.servers("'brokers'", options.get(SinkOptions.BROKERS), "write 'brokers' = 'host:port,host:port'"),
                topic,
                ranges,
                name(SinkOptions.PREFIX, options.get(SinkOptions.PREFIX)),
                options.get(SinkOptions.LOST),
                KafkaOptions.of(texts, OWN, "the connector itself; leave it out"));
    }

    private static String name(ConfigOption<String> option, String text) {
        if (!text.matches(NAME)) {
            throw new ValidationException("'" + option.key() + "' = '" + text + "' must be 1 to 249 characters of a-z, A-Z, 0-9, '.', '_', '-'");
        }
        return text;
    }
}
