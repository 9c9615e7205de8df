package org.isolane.flink;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.MapData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.utils.ProjectedRowData;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.utils.Utils;

/**
 * Rows and ranges as Kafka's records. A row has what a row of the Rust sink has: the provenance as its first header, with kind
 * {@code e} and without lap and event time; a partition by its key, or by its source where it has none; a time that is not
 * in the future, since brokers refuse that for good.
 */
final class KafkaRecords implements KafkaRecordSerializationSchema<Outgoing> {
    private static final long serialVersionUID = 1;
    private static final int TIME_PRECISION = 3;

    /** Where the columns are that do not go into the value; -1 where the table does not have one. */
    record Columns(int physical, int key, int headers, int timestamp) implements java.io.Serializable {}

    private final String topic;
    private final String ranges;
    private final SerializationSchema<RowData> values;
    private final Columns columns;
    private transient ProjectedRowData projected;

    KafkaRecords(String topic, String ranges, SerializationSchema<RowData> values, Columns columns) {
        this.topic = topic;
        this.ranges = ranges;
        this.values = values;
        this.columns = columns;
    }

    @Override
    public void open(SerializationSchema.InitializationContext context, KafkaSinkContext sink) throws Exception {
        values.open(context);
        projected = ProjectedRowData.from(IntStream.range(0, columns.physical).toArray());
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(Outgoing outgoing, KafkaSinkContext sink, Long timestamp) {
        if (outgoing instanceof Outgoing.Row row) {
            return row(row.row(), row.record(), sink);
        }
        String text = ((Outgoing.Ranges) outgoing).text();
        return new ProducerRecord<>(ranges, null, null, text.getBytes(StandardCharsets.UTF_8));
    }

    private ProducerRecord<byte[], byte[]> row(RowData row, Provenance record, KafkaSinkContext sink) {
        byte[] key = isNull(row, columns.key) ? null : row.getBinary(columns.key);
        Integer partition = key == null ? (Integer) partitionOf(record.source(), sink.getPartitionsForTopic(topic).length) : null;
        byte[] value = values.serialize(projected.replaceRow(row));
        return new ProducerRecord<>(topic, partition, time(row, record), key, value, headers(row, record));
    }

    private long time(RowData row, Provenance record) {
        long now = System.currentTimeMillis();
        long time = now;
        if (!isNull(row, columns.timestamp)) {
            time = row.getTimestamp(columns.timestamp, TIME_PRECISION).getMillisecond();
        } else if (record.eventTimeMs() != null) {
            time = record.eventTimeMs();
        }
        return Math.max(0, Math.min(time, now));
    }

    private List<Header> headers(RowData row, Provenance record) {
        Provenance delivered = new Provenance(Kind.EVENT, record.source(), record.start(), record.end(), 0, null);
        List<Header> headers = new ArrayList<>();
        headers.add(new RecordHeader(Provenance.HEADER, delivered.toString().getBytes(StandardCharsets.US_ASCII)));
        if (isNull(row, columns.headers)) {
            return headers;
        }
        MapData map = row.getMap(columns.headers);
        ArrayData names = map.keyArray();
        ArrayData contents = map.valueArray();
        for (int at = 0; at < map.size(); at++) {
            if (names.isNullAt(at) || names.getString(at).toString().equals(Provenance.HEADER)) {
                throw new IllegalArgumentException("a header of a row is NULL or '" + Provenance.HEADER
                        + "', which is the provenance's: give it another name in the column with METADATA FROM 'headers'");
            }
            if (!contents.isNullAt(at)) {
                headers.add(new RecordHeader(names.getString(at).toString(), contents.getBinary(at)));
            }
        }
        return headers;
    }

    private static boolean isNull(RowData row, int column) {
        return column < 0 || row.isNullAt(column);
    }

    /** Kafka's own rule for keys, of the source: its records stay in order, and lie where the Rust sink puts them. */
    private static int partitionOf(String source, int partitions) {
        return Utils.toPositive(Utils.murmur2(source.getBytes(StandardCharsets.US_ASCII))) % partitions;
    }
}
