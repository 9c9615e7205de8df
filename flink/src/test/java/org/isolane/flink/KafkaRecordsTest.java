package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema.KafkaSinkContext;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Rows and ranges as records. */
class KafkaRecordsTest {
    private static final int PARTITIONS = 5;
    /** By the function in {@code crates/sink/src/kafka/rows.rs}. */
    private static final int SOURCE_PARTITION = 3;
    private static final Provenance RECORD =
            new Provenance(Kind.PRESSED_BACK, "01c83db0000000000000000a", 16, 32, 2, 1_700_000_000_123L);
    private static final SerializationSchema<RowData> VALUES =
            row -> (row.getArity() + " " + row.getString(0)).getBytes(StandardCharsets.UTF_8);
    private static final KafkaSinkContext CONTEXT = new KafkaSinkContext() {
        @Override
        public int getParallelInstanceId() {
            return 0;
        }

        @Override
        public int getNumberOfParallelInstances() {
            return 1;
        }

        @Override
        public int[] getPartitionsForTopic(String topic) {
            return new int[PARTITIONS];
        }
    };

    private final KafkaRecords records = new KafkaRecords("out", "out.ranges", VALUES, new KafkaRecords.Columns(1, 1, 2, 3));

    @BeforeEach
    void open() throws Exception {
        records.open(null, CONTEXT);
    }

    private ProducerRecord<byte[], byte[]> record(String key, Map<String, String> headers, Long timestamp) {
        Map<StringData, byte[]> map = new LinkedHashMap<>();
        if (headers != null) {
            headers.forEach((name, value) -> map.put(
                    StringData.fromString(name), value == null ? null : value.getBytes(StandardCharsets.UTF_8)));
        }
        RowData row = GenericRowData.of(
                StringData.fromString("v"),
                key == null ? null : key.getBytes(StandardCharsets.UTF_8),
                headers == null ? null : new GenericMapData(map),
                timestamp == null ? null : TimestampData.fromEpochMillis(timestamp));
        return records.serialize(new Outgoing.Row(row, RECORD), CONTEXT, null);
    }

    private static List<String> headers(ProducerRecord<byte[], byte[]> record) {
        List<String> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            headers.add(header.key() + "=" + new String(header.value(), StandardCharsets.UTF_8));
        }
        return headers;
    }

    @Test
    void theProvenanceIsTheFirstHeaderAndThoseThatAreNullAreLeftOut() {
        Map<String, String> headers = new LinkedHashMap<>();
        headers.put("a", "ü");
        headers.put("b", null);
        headers.put("c", "");
        ProducerRecord<byte[], byte[]> record = record("ann", headers, 5L);
        assertEquals(List.of("il=e01c83db0000000000000000a.10.10.0", "a=ü", "c="), headers(record));
        assertEquals("out", record.topic());
        assertArrayEquals("1 v".getBytes(StandardCharsets.UTF_8), record.value());
        assertArrayEquals("ann".getBytes(StandardCharsets.UTF_8), record.key());
        assertNull(record.partition(), "Kafka's own rule chooses by the key");
        assertEquals(5, record.timestamp());
        assertEquals(List.of("il=e01c83db0000000000000000a.10.10.0"), headers(record(null, null, null)));
    }

    @Test
    void aHeaderOfTheProvenancesNameIsRefused() {
        Throwable error = assertThrows(IllegalArgumentException.class, () -> record(null, Map.of("il", "x"), null));
        assertTrue(error.getMessage().contains("'il'"), error.getMessage());
    }

    @Test
    void aRowWithoutKeyLiesWhereItsSourceBelongs() {
        int first = record(null, null, null).partition();
        assertEquals(first, record(null, Map.of("a", "b"), 7L).partition());
        assertEquals(SOURCE_PARTITION, first);
    }

    @Test
    void aTimeIsTheRowsElseTheEventsAndNeverOfTheFuture() {
        assertEquals(1_700_000_000_123L, record(null, null, null).timestamp());
        assertEquals(0, record(null, null, -5L).timestamp());
        long before = System.currentTimeMillis();
        long late = record(null, null, Long.MAX_VALUE / 2_000_000).timestamp();
        assertTrue(before <= late && late <= System.currentTimeMillis(), "" + late);
    }

    @Test
    void rangesGoToATopicOfTheirOwn() {
        ProducerRecord<byte[], byte[]> record = records.serialize(new Outgoing.Ranges("{}"), CONTEXT, null);
        assertEquals("out.ranges", record.topic());
        assertEquals("{}", new String(record.value(), StandardCharsets.UTF_8));
        assertNull(record.key());
        assertEquals(0, Arrays.asList(record.headers().toArray()).size());
    }
}
