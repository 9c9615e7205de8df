package org.isolane.flink;

import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.common.Uuid;

/**
 * Which log a topic is: a topic that was deleted and made again under the same name is another. The number is that of the
 * positions on the Rust side, made of the id that Kafka gives a topic; all 64 bits count, so that as text it has no sign.
 */
final class TopicLog {
    /** Not said: a broker without topic ids, or a position from before they were kept. */
    static final long UNKNOWN = 0;

    private static final int WAIT_MS = 10_000;

    private TopicLog() {}

    /** The log of a topic's id. */
    static long of(Uuid id) {
        if (id.equals(Uuid.ZERO_UUID)) {
            return UNKNOWN;
        }
        long log = id.getMostSignificantBits() ^ id.getLeastSignificantBits();
        return log == UNKNOWN ? 1 : log;
    }

    /** The log that the topic is now. */
    static long ask(Admin admin, String topic) throws ExecutionException, InterruptedException, TimeoutException {
        DescribeTopicsOptions options = new DescribeTopicsOptions().timeoutMs(WAIT_MS);
        return of(admin.describeTopics(Set.of(topic), options).allTopicNames()
                .get(2 * WAIT_MS, TimeUnit.MILLISECONDS).get(topic).topicId());
    }

    /** Whether two places are of different logs, as far as that is said of both. */
    static boolean areOthers(long one, long other) {
        return one != UNKNOWN && other != UNKNOWN && one != other;
    }
}
