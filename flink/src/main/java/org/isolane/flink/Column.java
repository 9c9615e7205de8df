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
    FATE("fate", DataTypes.STRING(), (piece, context) -> text(context.fate())),
    /** Why it was set apart, or NULL. */
    CAUSE("cause", DataTypes.STRING(), (piece, context) -> text(context.cause())),
    /** The provenance header. */
    IL("il", DataTypes.STRING().notNull(), (piece, context) -> text(piece.provenance().toString())),
    /** The record's source: 24 hex digits. */
    SOURCE("source", DataTypes.STRING().notNull(), (piece, context) -> text(piece.source)),
    /** First ordinal covered. */
    START("start", DataTypes.BIGINT().notNull(), (piece, context) -> piece.start),
    /** First ordinal not covered. */
    END("end", DataTypes.BIGINT().notNull(), (piece, context) -> piece.end),
    /** How often it was pressed back. */
    LAP("lap", DataTypes.INT().notNull(), (piece, context) -> piece.lap),
    /** Letter of its kind: {@code e} or {@code p}; others only where they are set apart. */
    KIND("kind", DataTypes.STRING().notNull(), (piece, context) -> text(String.valueOf(piece.kind))),
    /** Event time that a protocol or producer states, or NULL. */
    EVENT_TIME("event_time", DataTypes.TIMESTAMP_LTZ(3), (piece, context) -> moment(piece.eventTimeMs)),
    /** When the journal took it. */
    APPEND_TIME("append_time", DataTypes.TIMESTAMP_LTZ(3).notNull(), (piece, context) -> moment(piece.appendTimeMs)),
    /** The same, by the name that Flink's Kafka connector gives it. */
    TIMESTAMP("timestamp", DataTypes.TIMESTAMP_LTZ(3).notNull(), (piece, context) -> moment(piece.appendTimeMs)),
    /** Name of the cluster that the copy was read from. */
    CLUSTER("cluster", DataTypes.STRING().notNull(), (piece, context) -> text(context.clusters()[piece.cluster])),
    /** Name of the topic. */
    TOPIC("topic", DataTypes.STRING().notNull(), (piece, context) -> text(context.topic())),
    /** Partition of the topic. */
    PARTITION("partition", DataTypes.INT().notNull(), (piece, context) -> piece.partition),
    /** Offset in the partition. */
    OFFSET("offset", DataTypes.BIGINT().notNull(), (piece, context) -> piece.offset),
    /** All headers; of equal names the last. */
    HEADERS(
            "headers",
            DataTypes.MAP(DataTypes.STRING().notNull(), DataTypes.BYTES().notNull()).notNull(),
            (piece, context) -> headers(piece)),
    /** The record's own bytes: what a quarantine keeps. */
    VALUE("value", DataTypes.BYTES().notNull(), (piece, context) -> piece.value);

    /** What a value needs beside the piece. */
    record Context(String[] clusters, String topic, String fate, String cause) {}

    /** Takes the value out of a piece. */
    private interface Value {
        Object of(Piece piece, Context context);
    }

    private final String key;
    private final DataType type;
    private final Value value;

    Column(String key, DataType type, Value value) {
        this.key = key;
        this.type = type;
        this.value = value;
    }

    /** The value, in Flink's internal form. */
    Object value(Piece piece, Context context) {
        return value.of(piece, context);
    }

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

    private static TimestampData moment(Long ms) {
        return ms == null ? null : TimestampData.fromEpochMillis(ms);
    }

    private static GenericMapData headers(Piece piece) {
        Map<StringData, byte[]> headers = new HashMap<>();
        for (int at = 0; at < piece.headerNames.length; at++) {
            headers.put(StringData.fromString(piece.headerNames[at]), piece.headerValues[at]);
        }
        return new GenericMapData(headers);
    }
}
