package org.isolane.flink;

import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;

/** Options of {@code 'connector' = 'isolane-kafka'}, beside {@code format}, the format's own and {@code properties.*}. */
public final class SinkOptions {
    /** What becomes of the job when a transaction whose checkpoint is complete cannot be committed any more. */
    public enum Lost {
        /** It fails. */
        FAIL,
        /** It goes on without the rows: counted and logged, nothing more. */
        COUNT
    }

    static final ConfigOption<String> BROKERS = ConfigOptions.key("brokers").stringType().noDefaultValue()
            .withDescription("The cluster: 'host:port,host:port'.");
    static final ConfigOption<String> TOPIC = ConfigOptions.key("topic").stringType().noDefaultValue()
            .withDescription("The topic of the rows. It has to be there.");
    static final ConfigOption<String> RANGES_TOPIC = ConfigOptions.key("ranges-topic").stringType().noDefaultValue()
            .withDescription("The topic of their ranges, '<topic>.ranges' unless said; made if it is not there.");
    static final ConfigOption<String> PREFIX = ConfigOptions.key("transactional-id-prefix").stringType().noDefaultValue()
            .withDescription("What the ids of this sink's transactions begin with: its own among all that write to the cluster,"
                    + " and the same whenever the job is started.");
    static final ConfigOption<Lost> LOST = ConfigOptions.key("lost-transactions").enumType(Lost.class).defaultValue(Lost.FAIL)
            .withDescription("What becomes of the job when the broker has ended a transaction whose checkpoint is complete.");

    private SinkOptions() {}
}
