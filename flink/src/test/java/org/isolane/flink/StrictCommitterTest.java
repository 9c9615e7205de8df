package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.flink.api.connector.sink2.Committer;
import org.apache.flink.api.connector.sink2.Committer.CommitRequest;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.junit.jupiter.api.Test;

/** A transaction that the broker has ended is not passed over. */
class StrictCommitterTest {
    private final List<String> answers = new ArrayList<>();

    /** Gives up whatever is called "lost", asks again for what is called "later". */
    private static final class Kafka implements Committer<String> {
        private final List<String> committed = new ArrayList<>();

        @Override
        public void commit(Collection<CommitRequest<String>> requests) {
            for (CommitRequest<String> request : requests) {
                switch (request.getCommittable()) {
                    case "lost" -> request.signalFailedWithKnownReason(new IllegalStateException("fenced"));
                    case "later" -> request.retryLater();
                    default -> committed.add(request.getCommittable());
                }
            }
        }

        @Override
        public void close() {}
    }

    private final class Request implements CommitRequest<String> {
        private final String name;

        Request(String name) {
            this.name = name;
        }

        @Override
        public String getCommittable() {
            return name;
        }

        @Override
        public int getNumberOfRetries() {
            return 0;
        }

        @Override
        public void signalFailedWithKnownReason(Throwable reason) {
            answers.add(name + ": " + reason.getMessage());
        }

        @Override
        public void signalFailedWithUnknownReason(Throwable reason) {
            throw new AssertionError(reason);
        }

        @Override
        public void retryLater() {
            answers.add(name + ": retry");
        }

        @Override
        public void updateAndRetryLater(String committable) {
            throw new AssertionError(committable);
        }

        @Override
        public void signalAlreadyCommitted() {
            throw new AssertionError(name);
        }
    }

    private void commit(Kafka kafka, SinkOptions.Lost lost, String... names) throws Exception {
        List<CommitRequest<String>> requests = new ArrayList<>();
        for (String name : names) {
            requests.add(new Request(name));
        }
        try (StrictCommitter<String> committer = new StrictCommitter<>(kafka, "out", lost, new UnregisteredMetricsGroup())) {
            committer.commit(requests);
        }
    }

    @Test
    void theJobFailsOnceTheOthersAreCommitted() {
        Kafka kafka = new Kafka();
        Throwable error = assertThrows(IOException.class, () -> commit(kafka, SinkOptions.Lost.FAIL, "lost", "later", "good"));
        assertTrue(error.getMessage().contains("topic out") && error.getMessage().contains("lost: fenced"), error.getMessage());
        assertTrue(error.getMessage().contains("'lost-transactions' = 'count'"), error.getMessage());
        assertEquals(List.of("good"), kafka.committed);
        assertEquals(List.of("lost: fenced", "later: retry"), answers);
    }

    @Test
    void itGoesOnWhereThatIsSaid() throws Exception {
        Kafka kafka = new Kafka();
        commit(kafka, SinkOptions.Lost.COUNT, "lost", "good");
        assertEquals(List.of("good"), kafka.committed);
    }
}
