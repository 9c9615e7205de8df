package org.isolane.flink;

import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.metrics.MetricGroup;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Metric {@code isolane.cluster.<name>.partition.<n>.lag}: how many records of a partition stand behind the last one read; and
 * which log a partition is, said in its first piece, and in one whose offset is below the last: then the topic may be another.
 * Chained to the readers of one cluster, since only they see a partition in order. Flink's own {@code pendingRecords} is the
 * sum over a reader's partitions, and Kafka's {@code records-lag-max} keeps its last value after the job has caught up.
 *
 * <p>A partition has the metric from its first record on; -1 means that its end is not known yet.
 */
final class Lag extends RichMapFunction<Piece, Piece> {
    private static final Logger LOG = LoggerFactory.getLogger(Lag.class);
    private static final long serialVersionUID = 1;
    private static final int INTERVAL_SECONDS = 5;

    private final Cluster cluster;
    private final String topic;
    private final Properties kafka;

    private transient Map<Integer, Line> lines;
    private transient Admin admin;
    private transient ScheduledExecutorService clock;

    /** A partition: what is read next, where it ended when last asked, and whether it was said which log it is. */
    private static final class Line {
        private volatile long next;
        private volatile long end = -1;
        private boolean isTold;
        private long askAtNanos = System.nanoTime();

        private long lag() {
            return end < 0 ? -1 : Math.max(0, end - next);
        }
    }

    Lag(Cluster cluster, String topic, Properties kafka) {
        this.cluster = cluster;
        this.topic = topic;
        this.kafka = kafka;
    }

    @Override
    public void open(OpenContext context) {
        lines = new ConcurrentHashMap<>();
        Properties own = new Properties();
        own.putAll(kafka);
        own.setProperty(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, cluster.servers());
        admin = Admin.create(own);
        clock = Executors.newSingleThreadScheduledExecutor(work -> {
            Thread thread = new Thread(work, "isolane-lag-" + cluster.name());
            thread.setDaemon(true);
            return thread;
        });
        clock.scheduleWithFixedDelay(this::ask, 1, INTERVAL_SECONDS, TimeUnit.SECONDS);
    }

    @Override
    public Piece map(Piece piece) {
        Line line = lines.get(piece.partition);
        if (line == null) {
            line = new Line();
            lines.put(piece.partition, line);
            MetricGroup group = getRuntimeContext().getMetricGroup().addGroup("isolane")
                    .addGroup("cluster", cluster.name()).addGroup("partition", Integer.toString(piece.partition));
            group.gauge("lag", line::lag);
        }
        if (!line.isTold || piece.offset < line.next) {
            piece.log = log(line);
        }
        line.next = piece.offset + 1;
        return piece;
    }

    /** Who has brought a record can be asked; who cannot is asked again later, and reading goes on. */
    private long log(Line line) {
        line.isTold = false;
        if (System.nanoTime() - line.askAtNanos < 0) {
            return TopicLog.UNKNOWN;
        }
        try {
            long log = TopicLog.ask(admin, topic);
            line.isTold = true;
            return log;
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        } catch (ExecutionException | TimeoutException error) {
            line.askAtNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(INTERVAL_SECONDS);
            LOG.warn("the id of topic {} in cluster {} cannot be had: {}", topic, cluster.name(), error.toString());
        }
        return TopicLog.UNKNOWN;
    }

    private void ask() {
        Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
        lines.keySet().forEach(partition -> asked.put(new TopicPartition(topic, partition), OffsetSpec.latest()));
        if (asked.isEmpty()) {
            return;
        }
        try {
            Map<TopicPartition, ListOffsetsResultInfo> ends =
                    admin.listOffsets(asked).all().get(INTERVAL_SECONDS, TimeUnit.SECONDS);
            ends.forEach((place, info) -> lines.get(place.partition()).end = info.offset());
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        } catch (Exception error) {
            LOG.warn("the ends of topic {} in cluster {} cannot be had: {}", topic, cluster.name(), error.toString());
        }
    }

    @Override
    public void close() {
        if (clock != null) {
            clock.shutdownNow();
        }
        if (admin != null) {
            admin.close(java.time.Duration.ZERO);
        }
    }
}
