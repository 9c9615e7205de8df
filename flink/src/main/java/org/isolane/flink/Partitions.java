package org.isolane.flink;

import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import org.apache.flink.connector.kafka.source.enumerator.subscriber.KafkaSubscriber;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Which partitions a cluster has. The stock answer fails the job when a cluster is away, and with it the reading of the
 * others: here such a cluster has none for now, and is asked again. What it is found to have later is read from its beginning;
 * what had been taken of it is dropped as doubles.
 *
 * <p>A topic that is missing from a cluster that can be asked is an error all the same, and so is a cluster that is away where
 * an end is to be found.
 */
final class Partitions implements KafkaSubscriber {
    private static final Logger LOG = LoggerFactory.getLogger(Partitions.class);
    private static final long serialVersionUID = 1;
    /** How long a cluster may take to answer. */
    private static final int WAIT_MS = 10_000;

    private final Cluster cluster;
    private final String topic;
    private final boolean mustAnswer;
    /** The topic as it was first seen. */
    private transient Uuid known;

    Partitions(Cluster cluster, String topic, boolean mustAnswer) {
        this.cluster = cluster;
        this.topic = topic;
        this.mustAnswer = mustAnswer;
    }

    @Override
    public Set<TopicPartition> getSubscribedTopicPartitions(AdminClient admin) {
        try {
            DescribeTopicsOptions options = new DescribeTopicsOptions().timeoutMs(WAIT_MS);
            TopicDescription found = admin.describeTopics(Set.of(topic), options).allTopicNames()
                    .get(2 * WAIT_MS, TimeUnit.MILLISECONDS).get(topic);
            refuseAnother(found.topicId());
            return found.partitions().stream()
                    .map(partition -> new TopicPartition(topic, partition.partition()))
                    .collect(Collectors.toSet());
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted", error);
        } catch (ExecutionException | TimeoutException error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            boolean isAway = cause instanceof TimeoutException
                    || cause instanceof RetriableException && !(cause instanceof UnknownTopicOrPartitionException);
            if (!isAway || mustAnswer) {
                throw new IllegalStateException(
                        "topic " + topic + " of cluster " + cluster.name() + " (" + cluster.servers() + "): " + cause, cause);
            }
            LOG.warn("cluster {} ({}) is away: the others are read meanwhile: {}", cluster.name(), cluster.servers(), cause.toString());
            return Set.of();
        }
    }

    /** While a job runs the clients would go on at an old offset, or anew, and nobody would hear of it. */
    private void refuseAnother(Uuid id) {
        if (known != null && !known.equals(id)) {
            throw new IllegalStateException("topic " + topic + " of cluster " + cluster.name() + " (" + cluster.servers()
                    + ") was deleted and made again while it was read: its id was " + known + " and is " + id);
        }
        known = id;
    }
}
