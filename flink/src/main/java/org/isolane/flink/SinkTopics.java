package org.isolane.flink;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/**
 * The topics of a sink, before anything is written: the rows' has to be there, since only its owner knows its partitions and
 * retention; the ranges' is made, with one partition and kept for good, because whoever counts wants all of it.
 */
record SinkTopics(String brokers, String topic, String ranges, Properties kafka) implements RangedSink.Preparation {
    private static final long WAIT_SECONDS = 60;

    @Override
    public void run() throws IOException {
        Properties own = new Properties();
        own.putAll(kafka);
        own.setProperty(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        try (Admin admin = Admin.create(own)) {
            if (!isThere(admin, topic)) {
                throw new IOException("topic " + topic + " is not in the cluster " + brokers
                        + ": make it first, with the partitions and the retention that it should have");
            }
            if (!isThere(admin, ranges)) {
                makeRanges(admin);
            }
        }
    }

    private boolean isThere(Admin admin, String which) throws IOException {
        try {
            wait(admin.describeTopics(Set.of(which)).allTopicNames());
            return true;
        } catch (ExecutionException error) {
            if (error.getCause() instanceof UnknownTopicOrPartitionException) {
                return false;
            }
            throw failed(which, error.getCause());
        }
    }

    private void makeRanges(Admin admin) throws IOException {
        NewTopic wanted = new NewTopic(ranges, Optional.of(1), Optional.empty());
        wanted.configs(Map.of("cleanup.policy", "delete", "retention.ms", "-1", "retention.bytes", "-1"));
        try {
            wait(admin.createTopics(List.of(wanted)).all());
        } catch (ExecutionException error) {
            // Another subtask may have been sooner.
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw failed(ranges, error.getCause());
            }
        }
    }

    private <T> T wait(KafkaFuture<T> answer) throws IOException, ExecutionException {
        try {
            return answer.get(WAIT_SECONDS, TimeUnit.SECONDS);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", error);
        } catch (TimeoutException error) {
            throw failed(topic, error);
        }
    }

    private IOException failed(String which, Throwable cause) {
        return new IOException("topic " + which + " of the cluster " + brokers + ": " + cause, cause);
    }
}
