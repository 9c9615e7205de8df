package org.isolane.flink;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.flink.api.connector.sink2.Committer;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Commits as the wrapped committer does, and does not go on over a transaction that is lost. Where the broker has ended a
 * transaction whose checkpoint is complete, Flink's own committer logs that data may be lost and the job goes on: the
 * positions are behind rows that nobody will ever see. Here the job fails, each time it is restored, until somebody decides.
 */
final class StrictCommitter<C> implements Committer<C> {
    private static final Logger LOG = LoggerFactory.getLogger(StrictCommitter.class);

    private final Committer<C> kafka;
    private final String topic;
    private final SinkOptions.Lost lost;
    private final Counter counter;

    StrictCommitter(Committer<C> kafka, String topic, SinkOptions.Lost lost, MetricGroup metrics) {
        this.kafka = kafka;
        this.topic = topic;
        this.lost = lost;
        counter = metrics.addGroup("isolane").counter("lost_transactions");
    }

    @Override
    public void commit(Collection<CommitRequest<C>> requests) throws IOException, InterruptedException {
        List<Watched<C>> watched = new ArrayList<>();
        requests.forEach(request -> watched.add(new Watched<>(request)));
        kafka.commit(new ArrayList<>(watched));
        for (Watched<C> request : watched) {
            if (request.failure != null) {
                lose(request);
            }
        }
    }

    private void lose(Watched<C> request) throws IOException {
        counter.inc();
        String what = "a transaction of topic " + topic + " whose checkpoint is complete cannot be committed: "
                + request.getCommittable() + ": " + request.failure.getMessage()
                + ". The job was away for longer than 'properties.transaction.timeout.ms', or another one has the same "
                + "'transactional-id-prefix'. Its rows are in the topic only if their ranges are in the ranges topic";
        if (lost == SinkOptions.Lost.COUNT) {
            LOG.error("{}; the job goes on without them", what);
            return;
        }
        throw new IOException(what + ": begin from an older checkpoint or hand-over object into another topic, or go on without"
                + " those that are not with 'lost-transactions' = 'count'", request.failure);
    }

    @Override
    public void close() throws Exception {
        kafka.close();
    }

    /** A request that remembers that it was given up. */
    private static final class Watched<C> implements CommitRequest<C> {
        private final CommitRequest<C> request;
        private Throwable failure;

        Watched(CommitRequest<C> request) {
            this.request = request;
        }

        @Override
        public C getCommittable() {
            return request.getCommittable();
        }

        @Override
        public int getNumberOfRetries() {
            return request.getNumberOfRetries();
        }

        @Override
        public void signalFailedWithKnownReason(Throwable reason) {
            failure = reason;
            request.signalFailedWithKnownReason(reason);
        }

        @Override
        public void signalFailedWithUnknownReason(Throwable reason) {
            request.signalFailedWithUnknownReason(reason);
        }

        @Override
        public void retryLater() {
            request.retryLater();
        }

        @Override
        public void updateAndRetryLater(C committable) {
            request.updateAndRetryLater(committable);
        }

        @Override
        public void signalAlreadyCommitted() {
            request.signalAlreadyCommitted();
        }
    }
}
