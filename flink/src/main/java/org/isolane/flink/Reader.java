package org.isolane.flink;

import java.io.IOException;
import java.util.Iterator;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.metrics.Counter;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * From a Kafka record to a {@link Piece}. Nothing is decoded here: that is left until the record is known to be new. A
 * record without a header of isolane's is somebody else's: it is passed over, aloud and counted.
 */
final class Reader implements KafkaRecordDeserializationSchema<Piece> {
    private static final Logger LOG = LoggerFactory.getLogger(Reader.class);
    private static final long serialVersionUID = 1;
    private static final byte[] EMPTY = {};

    private final Cluster cluster;
    private final boolean keepsHeaders;
    private transient Counter foreign;

    Reader(Cluster cluster, boolean keepsHeaders) {
        this.cluster = cluster;
        this.keepsHeaders = keepsHeaders;
    }

    @Override
    public void open(DeserializationSchema.InitializationContext context) {
        foreign = context.getMetricGroup().addGroup("isolane").counter("foreign");
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Piece> out) throws IOException {
        // The first of them counts, as on the Rust side.
        Iterator<Header> headers = record.headers().headers(Provenance.HEADER).iterator();
        byte[] header = headers.hasNext() ? headers.next().value() : null;
        if (header == null) {
            passOver(record, "no header il");
            return;
        }
        try {
            out.collect(piece(record, Provenance.parse(header)));
        } catch (HeaderException error) {
            passOver(record, error.getMessage());
        }
    }

    private Piece piece(ConsumerRecord<byte[], byte[]> record, Provenance provenance) {
        byte[] value = record.value() == null ? EMPTY : record.value();
        Piece piece = Piece.of(
                provenance, cluster.number(), record.partition(), record.offset(), record.timestamp(), value);
        if (keepsHeaders) {
            Header[] headers = record.headers().toArray();
            piece.headerNames = new String[headers.length];
            piece.headerValues = new byte[headers.length][];
            for (int at = 0; at < headers.length; at++) {
                piece.headerNames[at] = headers[at].key();
                piece.headerValues[at] = headers[at].value() == null ? EMPTY : headers[at].value();
            }
        }
        return piece;
    }

    private void passOver(ConsumerRecord<byte[], byte[]> record, String why) {
        // The first, and then ever fewer: a topic full of strangers must not fill the disk.
        if (Long.bitCount(foreign.getCount()) <= 1) {
            LOG.error("a record that is not isolane's is passed over: cluster {}, topic {}, partition {}, offset {}: {}",
                    cluster.name(), record.topic(), record.partition(), record.offset(), why);
        }
        foreign.inc();
    }

    @Override
    public TypeInformation<Piece> getProducedType() {
        return TypeInformation.of(Piece.class);
    }
}
