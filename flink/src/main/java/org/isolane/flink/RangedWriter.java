package org.isolane.flink;

import java.io.IOException;
import java.util.Collection;
import java.util.List;
import org.apache.flink.api.connector.sink2.CommittingSinkWriter;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.StatefulSinkWriter;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.table.data.RowData;

/**
 * A subtask's writing: rows go to Kafka as they come, and before a transaction is closed, a record with the ranges of its rows.
 * Flink calls {@link #flush} and then {@link #prepareCommit} with each checkpoint, before its barrier goes on: so the record is
 * in the transaction of the rows that it speaks of, and whoever reads what is committed sees both or neither.
 *
 * <p>No state of its own: what is not committed is written again, and its ranges with it.
 *
 * <p>Limit: {@link #RANGES_MAX} ranges in memory. Beyond that a record goes out in the middle of the transaction, and the next
 * one speaks of the rows behind it only.
 */
final class RangedWriter<S, C> implements StatefulSinkWriter<RowData, S>, CommittingSinkWriter<RowData, C> {
    /** Ranges of one record: some 65 bytes each at worst, so that it is smaller than what a topic takes unless it is told otherwise. */
    static final int RANGES_MAX = 10_000;
    /** The value of {@code format} in a record of ranges. */
    static final String FORMAT = "isolane.delivered.1";

    /** Ranges have no time of their own. */
    private static final SinkWriter.Context NO_TIME = new SinkWriter.Context() {
        @Override
        public long currentWatermark() {
            return Long.MIN_VALUE;
        }

        @Override
        public Long timestamp() {
            return null;
        }
    };

    /** Who writes: said in each record of ranges. */
    record Writer(String topic, String job, int subtask) {}

    private final SinkWriter<Outgoing> kafka;
    private final StatefulSinkWriter<Outgoing, S> states;
    private final CommittingSinkWriter<Outgoing, C> commits;
    private final int provenance;
    private final Writer writer;
    private final Counter rows;
    private Delivered delivered = new Delivered();

    /**
     * Writes through {@code kafka}.
     *
     * @param provenance the column with the provenance header
     */
    <K extends StatefulSinkWriter<Outgoing, S> & CommittingSinkWriter<Outgoing, C>> RangedWriter(
            K kafka, int provenance, Writer writer, MetricGroup metrics) {
        this.kafka = kafka;
        this.states = kafka;
        this.commits = kafka;
        this.provenance = provenance;
        this.writer = writer;
        MetricGroup own = metrics.addGroup("isolane");
        rows = own.counter("rows");
        own.gauge("ranges", () -> delivered.ranges());
    }

    @Override
    public void write(RowData row, Context context) throws IOException, InterruptedException {
        Provenance record = Origin.of(row, provenance);
        kafka.write(new Outgoing.Row(row, record), context);
        delivered.add(record);
        rows.inc();
        if (delivered.ranges() >= RANGES_MAX) {
            tell();
        }
    }

    @Override
    public void flush(boolean isEnd) throws IOException, InterruptedException {
        if (delivered.rows() > 0) {
            tell();
        }
        kafka.flush(isEnd);
    }

    private void tell() throws IOException, InterruptedException {
        Delivered.Summary summary = delivered.summary();
        // Checked names and numbers: nothing that JSON would have to escape.
        String text = "{\"format\":\"" + FORMAT + "\",\"topic\":\"" + writer.topic + "\",\"job\":\"" + writer.job
                + "\",\"subtask\":" + writer.subtask + ",\"rows\":" + summary.rows() + ",\"repeated\":" + summary.repeated()
                + ",\"ranges\":" + summary.ranges() + "}";
        kafka.write(new Outgoing.Ranges(text), NO_TIME);
        delivered = new Delivered();
    }

    @Override
    public Collection<C> prepareCommit() throws IOException, InterruptedException {
        return commits.prepareCommit();
    }

    @Override
    public List<S> snapshotState(long checkpoint) throws IOException {
        return states.snapshotState(checkpoint);
    }

    @Override
    public void close() throws Exception {
        kafka.close();
    }
}
