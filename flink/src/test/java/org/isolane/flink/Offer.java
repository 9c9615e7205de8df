package org.isolane.flink;

import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Load for {@code e2e.sh}: makes a topic in two clusters, anew if it is there, and offers batches as a gateway would, some to the failover cluster
 * alone, some to both, some twice to one, and with {@code -Dlater=n} some once more n batches later, so that a change of engines can lie
 * between; among them broken values, marks, strangers' records and the sources' ends. Prints
 * what was offered, as JSON.
 */
final class Offer {
    private static final int SOURCES = 8;
    private static final int PARTITIONS = 4;
    private static final int BATCH = 100;
    private static final int BROKEN_EVERY = 1_000;
    private static final int LATER = Integer.getInteger("later", 0);
    /** Every fifth batch comes again in the other cluster, every seventh in the same. */
    private static final int[] LATER_EVERY = {7, 5};

    /** What is offered again behind batch {@code due}. */
    private record Late(int due, int cluster, List<String> headers, List<byte[]> values) {}

    private final String topic;
    private final List<KafkaProducer<byte[], byte[]>> clusters = new ArrayList<>();
    private final long[] ends = new long[SOURCES];
    private final Random random = new Random(7);
    private final Deque<Late> late = new ArrayDeque<>();
    private int id;
    private int broken;
    private int copies;
    private int marks;

    private Offer(String topic) {
        this.topic = topic;
    }

    public static void main(String[] arguments) throws Exception {
        Offer offer = new Offer(arguments[0]);
        int records = Integer.parseInt(arguments[1]);
        long spreadMs = Long.parseLong(arguments[2]) * 1_000;
        boolean anew = Boolean.parseBoolean(arguments[3]);
        for (int at = 4; at < arguments.length; at++) {
            offer.open(arguments[at], anew);
        }
        if (records > 0) {
            offer.run(records, spreadMs);
        }
    }

    private void open(String servers, boolean anew) throws Exception {
        Properties kafka = new Properties();
        kafka.setProperty("bootstrap.servers", servers);
        kafka.setProperty("acks", "all");
        kafka.setProperty("linger.ms", "5");
        if (anew) {
            try (Admin admin = Admin.create(kafka)) {
                NewTopic wanted = new NewTopic(topic, PARTITIONS, (short) 1);
                wanted.configs(Map.of("message.timestamp.type", "LogAppendTime"));
                if (admin.listTopics().names().get().contains(topic)) {
                    admin.deleteTopics(List.of(topic)).all().get();
                }
                admin.createTopics(List.of(wanted)).all().get();
            }
        }
        clusters.add(new KafkaProducer<>(kafka, new ByteArraySerializer(), new ByteArraySerializer()));
    }

    private void run(int records, long spreadMs) throws InterruptedException {
        long began = System.currentTimeMillis();
        for (int batch = 0; batch * BATCH < records; batch++) {
            batch(batch);
            again(batch);
            long due = began + spreadMs * (batch + 1) * BATCH / records;
            Thread.sleep(Math.max(0, due - System.currentTimeMillis()));
        }
        again(Integer.MAX_VALUE);
        for (int source = 0; source < SOURCES; source++) {
            send(0, source % PARTITIONS, header('z', source, ends[source], ends[source]), new byte[0]);
        }
        clusters.get(0).send(new ProducerRecord<>(topic, 0, null, "a stranger's".getBytes(StandardCharsets.UTF_8)));
        clusters.forEach(KafkaProducer::close);
        long bytes = java.util.Arrays.stream(ends).sum();
        System.out.printf("{\"records\": %d, \"broken\": %d, \"copies\": %d, \"marks\": %d, \"bytes\": %d}%n",
                id, broken, copies, marks, bytes);
    }

    private void batch(int number) {
        int source = number % SOURCES;
        List<String> headers = new ArrayList<>();
        List<byte[]> values = new ArrayList<>();
        for (int at = 0; at < BATCH; at++) {
            id++;
            boolean isBroken = id % BROKEN_EVERY == 0;
            broken += isBroken ? 1 : 0;
            byte[] value = ("{\"id\": " + id + ", \"name\": \"n" + id + (isBroken ? "" : "\"}")).getBytes(StandardCharsets.UTF_8);
            headers.add(header('e', source, ends[source], ends[source] + value.length + 1));
            values.add(value);
            ends[source] += value.length + 1;
        }
        headers.add(header('m', source, ends[source], ends[source] + 50));
        values.add(new byte[0]);
        ends[source] += 50;
        marks++;
        int lot = random.nextInt(100);
        send(lot < 15 ? 1 : 0, headers, values);
        if (lot >= 10 && lot < 30) {
            copies += headers.size();
            send(lot < 20 ? 0 : 1, headers, values);
        } else if (lot >= 95) {
            copies += headers.size();
            send(0, headers, values);
        }
        for (int cluster = 0; LATER > 0 && cluster < LATER_EVERY.length; cluster++) {
            if (number % LATER_EVERY[cluster] == 0) {
                late.add(new Late(number + LATER, cluster, headers, values));
            }
        }
    }

    /** Offers again what is due. */
    private void again(int batch) {
        while (!late.isEmpty() && late.peek().due() <= batch) {
            Late one = late.remove();
            copies += one.headers().size();
            send(one.cluster(), one.headers(), one.values());
        }
    }

    private void send(int cluster, List<String> headers, List<byte[]> values) {
        int partition = random.nextInt(PARTITIONS);
        int there = Math.min(cluster, clusters.size() - 1);
        for (int at = 0; at < headers.size(); at++) {
            send(there, partition, headers.get(at), values.get(at));
        }
    }

    private void send(int cluster, int partition, String header, byte[] value) {
        RecordHeader il = new RecordHeader(Provenance.HEADER, header.getBytes(StandardCharsets.US_ASCII));
        clusters.get(cluster).send(new ProducerRecord<>(topic, partition, null, null, value, List.of(il)), (done, error) -> {
            if (error != null) {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
        });
    }

    private static String header(char kind, int source, long start, long end) {
        String id = String.format("%07x%017x", 29_900_000 + source, 0x1234567L * (source + 1));
        return new Provenance(Kind.ofLetter(kind), id, start, end, 0, null).toString();
    }
}
