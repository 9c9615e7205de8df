package org.isolane.flink;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Oldest offsets from Kafka, asked for now and then in a thread of its own: retention takes minutes, and nobody waits for it. */
final class KafkaStarts implements Starts {
    private static final Logger LOG = LoggerFactory.getLogger(KafkaStarts.class);
    private static final long serialVersionUID = 1;
    private static final int INTERVAL_SECONDS = 60;
    private static final int WAIT_SECONDS = 10;

    private final List<Cluster> clusters;
    private final String topic;
    private final Properties kafka;

    private transient Map<HandOver.Place, Long> starts;
    private transient List<Admin> admins;
    private transient ScheduledExecutorService clock;

    KafkaStarts(List<Cluster> clusters, String topic, Properties kafka) {
        this.clusters = new ArrayList<>(clusters);
        this.topic = topic;
        this.kafka = kafka;
    }

    @Override
    public void open() {
        starts = new ConcurrentHashMap<>();
        admins = new ArrayList<>();
        for (Cluster cluster : clusters) {
            Properties own = new Properties();
            own.putAll(kafka);
            own.setProperty(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, cluster.servers());
            admins.add(Admin.create(own));
        }
        clock = Executors.newSingleThreadScheduledExecutor(work -> {
            Thread thread = new Thread(work, "isolane-starts");
            thread.setDaemon(true);
            return thread;
        });
        clock.scheduleWithFixedDelay(this::ask, 1, INTERVAL_SECONDS, TimeUnit.SECONDS);
    }

    @Override
    public void watch(HandOver.Place place) {
        starts.putIfAbsent(place, 0L);
    }

    @Override
    public long of(HandOver.Place place) {
        return starts.getOrDefault(place, 0L);
    }

    private void ask() {
        for (Cluster cluster : clusters) {
            Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
            starts.keySet().stream()
                    .filter(place -> place.cluster() == cluster.number())
                    .forEach(place -> asked.put(new TopicPartition(topic, place.partition()), OffsetSpec.earliest()));
            try {
                admins.get(cluster.number()).listOffsets(asked).all().get(WAIT_SECONDS, TimeUnit.SECONDS).forEach(
                        (at, info) -> starts.put(new HandOver.Place(cluster.number(), at.partition()), info.offset()));
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                return;
            } catch (ExecutionException | TimeoutException error) {
                LOG.warn("the oldest offsets of topic {} in cluster {} cannot be had: {}", topic, cluster.name(), error.toString());
            }
        }
    }

    @Override
    public void close() {
        if (clock != null) {
            clock.shutdownNow();
            admins.forEach(admin -> admin.close(java.time.Duration.ZERO));
        }
    }
}
