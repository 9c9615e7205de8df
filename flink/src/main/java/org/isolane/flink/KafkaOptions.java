package org.isolane.flink;

import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.flink.table.api.ValidationException;

/** What a table says to Kafka's clients: its options {@code properties.*}. */
final class KafkaOptions {
    /** What their names begin with. */
    static final String PREFIX = "properties.";

    private KafkaOptions() {}

    /**
     * The settings among a table's options.
     *
     * @param own settings that are not the user's to say
     * @param advice why not, as the end of a sentence
     */
    static Properties of(Map<String, String> options, Set<String> own, String advice) {
        Properties kafka = new Properties();
        options.forEach((key, value) -> {
            if (key.startsWith(PREFIX)) {
                String setting = key.substring(PREFIX.length());
                if (own.contains(setting)) {
                    throw new ValidationException("option '" + key + "' is said by " + advice);
                }
                kafka.setProperty(setting, value);
            }
        });
        return kafka;
    }
}
