package org.isolane.flink;

import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.DataType;

/**
 * What is known of a record beside its bytes: {@code name TYPE METADATA [FROM 'key'] VIRTUAL}. The keys {@code il},
 * {@code source}, {@code append_time} and {@code event_time} are those of the embedded engine, {@code timestamp},
 * {@code headers}, {@code partition}, {@code offset} and {@code topic} those of Flink's own Kafka connector.
 */
enum Column {
    /** How the record ended, if it ended here: {@code quarantined}, or NULL for a row whose fate is the query's to decide. */
    FATE("fate", DataTypes.STRING()) {
        @Override
        Object value(Piece piece, Context context) {
            return text(context.fate());
        }
    },
    /** Why it was set apart, or NULL. */
    CAUSE("cause", DataTypes.STRING()) {
        @Override
        Object value(Piece piece, Context context) {
            return text(context.cause());
        }
    },
    /** The provenance header. */
    IL("il", DataTypes.STRING().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return text(piece.provenance().toString());
        }
    },
    /** The record's source: 24 hex digits. */
    SOURCE("source", DataTypes.STRING().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return text(piece.source);
        }
    },
    /** First ordinal covered. */
    START("start", DataTypes.BIGINT().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return piece.start;
        }
    },
    /** First ordinal not covered. */
    END("end", DataTypes.BIGINT().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return piece.end;
        }
    },
    /** How often it was pressed back. */
    LAP("lap", DataTypes.INT().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return piece.lap;
        }
    },
    /** Letter of its kind: {@code e} or {@code p}; others only where they are set apart. */
    KIND("kind", DataTypes.STRING().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return text(String.valueOf(piece.kind));
        }
    },
    /** Event time that a protocol or producer states, or NULL. */
    EVENT_TIME("event_time", DataTypes.TIMESTAMP_LTZ(3)) {
        @Override
        Object value(Piece piece, Context context) {
            return piece.eventTimeMs == null ? null : TimestampData.fromEpochMillis(piece.eventTimeMs);
        }
    },
    /** When the journal took it. */
    APPEND_TIME("append_time", DataTypes.TIMESTAMP_LTZ(3).notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return TimestampData.fromEpochMillis(piece.appendTimeMs);
        }
    },
    /** The same, by the name that Flink's Kafka connector gives it. */
    TIMESTAMP("timestamp", DataTypes.TIMESTAMP_LTZ(3).notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return TimestampData.fromEpochMillis(piece.appendTimeMs);
        }
    },
    /** Name of the cluster that the copy was read from. */
    CLUSTER("cluster", DataTypes.STRING().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return text(context.clusters()[piece.cluster]);
        }
    },
    /** Name of the topic. */
    TOPIC("topic", DataTypes.STRING().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return text(context.topic());
        }
    },
    /** Partition of the topic. */
    PARTITION("partition", DataTypes.INT().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return piece.partition;
        }
    },
    /** Offset in the partition. */
    OFFSET("offset", DataTypes.BIGINT().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return piece.offset;
        }
    },
    /** All headers; of equal names the last. */
    HEADERS("headers", DataTypes.MAP(DataTypes.STRING().notNull(), DataTypes.BYTES().notNull()).notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            Map<StringData, byte[]> headers = new HashMap<>();
            for (int at = 0; at < piece.headerNames.length; at++) {
                headers.put(StringData.fromString(piece.headerNames[at]), piece.headerValues[at]);
            }
            return new GenericMapData(headers);
        }
    },
    /** The record's own bytes: what a quarantine keeps. */
    VALUE("value", DataTypes.BYTES().notNull()) {
        @Override
        Object value(Piece piece, Context context) {
            return piece.value;
        }
    };

    /** What a value needs beside the piece. */
    record Context(String[] clusters, String topic, String fate, String cause) {}

    private final String key;
    private final DataType type;

    Column(String key, DataType type) {
        this.key = key;
        this.type = type;
    }

    /** The value, in Flink's internal form. */
    abstract Object value(Piece piece, Context context);

    /** The key of METADATA FROM. */
    String key() {
        return key;
    }

    /** Every key with its type. */
    static Map<String, DataType> all() {
        Map<String, DataType> all = new LinkedHashMap<>();
        for (Column column : values()) {
            all.put(column.key, column.type);
        }
        return all;
    }

    /** The column of a key, which is one of {@link #all}. */
    static Column of(String key) {
        for (Column column : values()) {
            if (column.key.equals(key)) {
                return column;
            }
        }
        throw new IllegalArgumentException("no metadata column '" + key + "'");
    }

    private static StringData text(String text) {
        return text == null ? null : StringData.fromString(text);
    }
}
