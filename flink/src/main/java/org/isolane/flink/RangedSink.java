package org.isolane.flink;

import java.io.IOException;
import java.io.Serializable;
import java.util.Collection;
import org.apache.flink.api.connector.sink2.Committer;
import org.apache.flink.api.connector.sink2.CommitterInitContext;
import org.apache.flink.api.connector.sink2.CommittingSinkWriter;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.StatefulSinkWriter;
import org.apache.flink.api.connector.sink2.SupportsCommitter;
import org.apache.flink.api.connector.sink2.SupportsWriterState;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.table.data.RowData;

/**
 * A transactional sink of Flink's, with a {@link RangedWriter} before it and a {@link StrictCommitter} behind it. Its states and
 * transactions are the wrapped sink's own.
 *
 * @param <S> the wrapped sink's state
 * @param <C> what it commits
 */
final class RangedSink<S, C> implements Sink<RowData>, SupportsWriterState<RowData, S>, SupportsCommitter<C> {
    private static final long serialVersionUID = 1;

    /** What has to be there before a writer begins. */
    interface Preparation extends Serializable {
        /**
         * Makes it so.
         *
         * @throws IOException if that cannot be; the message says what to do
         */
        void run() throws IOException;
    }

    private final Sink<Outgoing> kafka;
    private final SupportsWriterState<Outgoing, S> states;
    private final SupportsCommitter<C> commits;
    private final Preparation preparation;
    private final String topic;
    private final int provenance;
    private final SinkOptions.Lost lost;

    /**
     * Wraps {@code kafka}, which writes to {@code topic}.
     *
     * @param provenance the column with the provenance header
     */
    <K extends Sink<Outgoing> & SupportsWriterState<Outgoing, S> & SupportsCommitter<C>> RangedSink(
            K kafka, Preparation preparation, String topic, int provenance, SinkOptions.Lost lost) {
        this.kafka = kafka;
        this.states = kafka;
        this.commits = kafka;
        this.preparation = preparation;
        this.topic = topic;
        this.provenance = provenance;
        this.lost = lost;
    }

    @Override
    @SuppressWarnings("deprecation")
    public SinkWriter<RowData> createWriter(InitContext context) {
        throw new UnsupportedOperationException("Flink 1.20 calls the other one");
    }

    @Override
    public SinkWriter<RowData> createWriter(WriterInitContext context) throws IOException {
        preparation.run();
        return ranged(kafka.createWriter(context), context);
    }

    @Override
    public StatefulSinkWriter<RowData, S> restoreWriter(WriterInitContext context, Collection<S> restored) throws IOException {
        preparation.run();
        return ranged(states.restoreWriter(context, restored), context);
    }

    /** Each writer of such a sink has states and commits: that is what the sink's own interfaces say. */
    @SuppressWarnings("unchecked")
    private <K extends StatefulSinkWriter<Outgoing, S> & CommittingSinkWriter<Outgoing, C>> RangedWriter<S, C> ranged(
            SinkWriter<Outgoing> writer, WriterInitContext context) {
        RangedWriter.Writer who = new RangedWriter.Writer(
                topic, context.getJobInfo().getJobId().toHexString(), context.getTaskInfo().getIndexOfThisSubtask());
        return new RangedWriter<>((K) writer, provenance, who, context.metricGroup());
    }

    @Override
    public Committer<C> createCommitter(CommitterInitContext context) throws IOException {
        return new StrictCommitter<>(commits.createCommitter(context), topic, lost, context.metricGroup());
    }

    @Override
    public SimpleVersionedSerializer<C> getCommittableSerializer() {
        return commits.getCommittableSerializer();
    }

    @Override
    public SimpleVersionedSerializer<S> getWriterStateSerializer() {
        return states.getWriterStateSerializer();
    }
}
