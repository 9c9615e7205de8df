package org.isolane.flink;

import java.util.List;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.MemorySize;

/** The table's options, beside {@code format}, the format's own and {@code properties.*} for Kafka's clients. */
public final class Options {
    /** What {@link #SET_APART} can be. */
    public enum SetApart {
        /** A row with {@code fate} and {@code cause}; the query must read {@code fate}. */
        ROW,
        /** The job fails. */
        FAIL,
        /** Nothing but a counted, logged loss. */
        COUNT
    }

    /** Where reading begins. */
    public enum Startup {
        /** At the oldest record that is kept. */
        EARLIEST,
        /** Behind the youngest. */
        LATEST
    }

    static final ConfigOption<String> CLUSTERS = ConfigOptions.key("clusters").stringType().noDefaultValue()
            .withDescription("Kafka clusters that hold the topic: 'normal=host:port,host:port;failover=host:port'.");
    static final ConfigOption<String> TOPIC = ConfigOptions.key("topic").stringType().noDefaultValue()
            .withDescription("Name of the stream's topic, the same in every cluster.");
    static final ConfigOption<String> GROUP = ConfigOptions.key("group").stringType().noDefaultValue()
            .withDescription("Consumer group whose offsets are committed with each checkpoint, for whoever watches lag.");
    static final ConfigOption<Startup> STARTUP = ConfigOptions.key("startup").enumType(Startup.class)
            .defaultValue(Startup.EARLIEST)
            .withDescription("Where reading begins without a hand-over object and without a savepoint.");
    static final ConfigOption<Boolean> BOUNDED = ConfigOptions.key("bounded").booleanType().defaultValue(false)
            .withDescription("Ends where the partitions ended when the job began.");
    static final ConfigOption<SetApart> SET_APART = ConfigOptions.key("set-apart").enumType(SetApart.class)
            .defaultValue(SetApart.ROW)
            .withDescription("What becomes of a record that is set apart: a row with its fate, a failure, or only a count.");
    static final ConfigOption<String> HAND_OVER_FROM = ConfigOptions.key("hand-over.from").stringType().noDefaultValue()
            .withDescription("Hand-over object from which the job begins, unless it is restored from a savepoint.");
    static final ConfigOption<String> HAND_OVER_TO = ConfigOptions.key("hand-over.to").stringType().noDefaultValue()
            .withDescription("Folder that gets a hand-over object with each completed checkpoint.");
    static final ConfigOption<List<String>> MARKS = ConfigOptions.key("marks").stringType().asList().defaultValues()
            .withDescription("Files that the job makes, empty, before it takes anything: whoever finds them sees the folders that it sees.");
    static final ConfigOption<MemorySize> RANGE_SETS = ConfigOptions.key("range-sets.bytes-max").memoryType()
            .defaultValue(MemorySize.ofMebiBytes(256))
            .withDescription("What the range sets of one subtask may take; beyond it the job fails.");

    private Options() {}
}
