package org.isolane.flink;

import java.io.IOException;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.common.TaskInfo;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.utils.JoinedRowData;
import org.apache.flink.table.data.utils.ProjectedRowData;

/**
 * Takes each record once. Keyed by source.
 *
 * <p>State, per source: see {@link KnownSources}. Per subtask: how far each partition of each
 * cluster has been taken, the horizon, both the maximum over all subtasks, and the job's id. With aligned barriers every record
 * before a barrier has been seen by some subtask, so that this maximum is exactly the checkpoint's position. Behind
 * unaligned barriers records are still under way, and a hand-over would lose them: that is refused.
 *
 * <p>An operator and not a {@code KeyedProcessFunction}, because the hand-over needs every source that is known.
 *
 * <p>Limit: a {@link Footprint} of range sets a subtask, beyond which the job fails.
 */
final class Taker extends AbstractStreamOperator<RowData> implements OneInputStreamOperator<Piece, RowData> {
    private static final long serialVersionUID = 1;
    private static final byte[] NOTHING = {};
    private static final int CAUSE_CHARS_MAX = 300;

    /** What is taken, how it becomes rows, and who hears of it. */
    record Plan(
            String[] clusters,
            String topic,
            String format,
            DeserializationSchema<RowData> decoder,
            int[] fields,
            Column[] columns,
            Options.SetApart setApart,
            WatermarkStrategy<RowData> watermark,
            long rangeSetBytesMax,
            Starts starts,
            String handOverFrom,
            Publisher publisher,
            String[] marks)
            implements java.io.Serializable {}

    private final Plan plan;

    private transient KnownSources sources;
    private transient ListState<long[]> placesState;
    private transient ListState<Integer> horizonState;
    private transient ListState<String> jobState;
    private transient Map<HandOver.Place, HandOver.Position> positions;
    private transient Footprint footprint;
    private transient long reachedMs;
    private transient Watermarks watermarks;
    private transient MetricGroup metrics;
    private transient Counter rows;
    private transient Counter doubles;
    private transient Counter dropped;
    private transient Counter quarantined;
    private transient Counter unpublished;

    Taker(Plan plan) {
        this.plan = plan;
    }

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        footprint = new Footprint(plan.rangeSetBytesMax);
        sources = new KnownSources(context.getKeyedStateStore(), getKeyedStateBackend(), footprint);
        placesState = context.getOperatorStateStore().getUnionListState(
                new ListStateDescriptor<>("positions", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO));
        horizonState = context.getOperatorStateStore().getUnionListState(new ListStateDescriptor<>("horizon", Types.INT));
        jobState = context.getOperatorStateStore().getUnionListState(new ListStateDescriptor<>("job", Types.STRING));
        positions = new HashMap<>();
        reachedMs = 0;
        if (context.isRestored()) {
            for (String job : jobState.get()) {
                refuseTaken(job);
            }
            for (long[] place : placesState.get()) {
                reach(new HandOver.Place((int) place[0], (int) place[1]), new HandOver.Position(place[2], place[3], place[4]));
            }
            for (int horizon : horizonState.get()) {
                sources.horizon(horizon);
            }
            sources.restored();
        } else if (plan.handOverFrom != null) {
            beginFrom(HandOver.read(new Path(plan.handOverFrom)));
        }
    }

    private void refuseTaken(String job) throws IOException {
        if (plan.publisher != null) {
            plan.publisher.refuseTaken(job);
        }
    }

    /** Knows what the object says of the sources that are this subtask's. */
    private void beginFrom(HandOver object) throws IOException {
        object.positions.forEach(this::reach);
        sources.horizon(object.horizonMinutes);
        TaskInfo task = getRuntimeContext().getTaskInfo();
        int keyGroups = task.getMaxNumberOfParallelSubtasks();
        for (Map.Entry<String, HandOver.Taken> source : object.sources.entrySet()) {
            int owner = KeyGroupRangeAssignment.assignKeyToParallelOperator(
                    source.getKey(), keyGroups, task.getNumberOfParallelSubtasks());
            if (owner == task.getIndexOfThisSubtask()) {
                sources.begin(source.getKey(), object.withLast(source.getValue()));
            }
        }
    }

    @Override
    public void open() throws Exception {
        super.open();
        if (getOperatorConfig().isUnalignedCheckpointsEnabled()) {
            throw new IllegalStateException(Source.UNALIGNED);
        }
        leaveMarks();
        metrics = getMetricGroup().addGroup("isolane");
        rows = metrics.counter("rows");
        doubles = metrics.counter("doubles");
        dropped = metrics.counter(Fate.DROPPED.word());
        quarantined = metrics.counter(Fate.QUARANTINED.word());
        unpublished = metrics.counter("hand_overs_failed");
        metrics.gauge("sources", footprint::sources);
        metrics.gauge("ranges", footprint::ranges);
        metrics.gauge("range_set_bytes", footprint::bytes);
        metrics.gauge("horizon_minutes", sources::horizonMinutes);
        plan.starts.open();
        positions.keySet().forEach(this::show);
        plan.decoder.open(new DecoderContext(getMetricGroup(), getUserCodeClassloader()));
        if (plan.watermark != null) {
            watermarks = new Watermarks(plan.watermark, this::getMetricGroup, new Emitter());
            tickLater();
        }
    }

    private void leaveMarks() throws IOException {
        for (String mark : plan.marks) {
            Path path = new Path(mark);
            FileSystem fs = path.getFileSystem();
            try {
                fs.mkdirs(path.getParent());
                // One that somebody else has made serves too.
                if (!fs.exists(path)) {
                    fs.create(path, FileSystem.WriteMode.OVERWRITE).close();
                }
            } catch (IOException error) {
                throw new IOException("the sink's folder cannot be written: " + mark + ": " + error.getMessage(), error);
            }
        }
    }

    @Override
    public void processElement(StreamRecord<Piece> element) throws Exception {
        Piece piece = element.getValue();
        HandOver.Place place = new HandOver.Place(piece.cluster, piece.partition);
        if (piece.log != TopicLog.UNKNOWN) {
            refuseAnotherLog(piece, place);
        }
        if (reach(place, new HandOver.Position(piece.offset + 1, piece.appendTimeMs, piece.log))) {
            show(place);
        }
        Provenance record = piece.provenance();
        LastPlaces.Seen seen = new LastPlaces.Seen(place, piece.offset, piece.appendTimeMs);
        Dedup.Verdict verdict = sources.take(record, seen, plan.topic);
        switch (verdict) {
            case NEW -> {
                if (record.kind().isRecord()) {
                    decode(piece, place);
                } else {
                    dropped.inc();
                }
            }
            case DOUBLE -> doubles.inc();
            case SILENT -> {}
            case APART_OVERLAP, APART_STALE, APART_NO_RANGE -> setApart(piece, verdict.cause());
        }
    }

    private void decode(Piece piece, HandOver.Place place) {
        RowData row;
        try {
            row = plan.decoder.deserialize(piece.value == null ? NOTHING : piece.value);
        } catch (IOException | RuntimeException error) {
            setApart(piece, cause(error));
            return;
        }
        if (row == null) {
            setApart(piece, plan.format + ": no value");
            return;
        }
        RowData whole = whole(ProjectedRowData.from(plan.fields).replaceRow(row), piece, null, null);
        rows.inc();
        output.collect(new StreamRecord<>(whole));
        if (watermarks != null) {
            watermarks.row(place, whole);
        }
    }

    private String cause(Throwable error) {
        Throwable root = error;
        while (root.getCause() != null) {
            root = root.getCause();
        }
        String message = plan.format + ": " + (root.getMessage() == null ? root.getClass().getSimpleName() : root.getMessage());
        String line = message.lines().findFirst().orElse(message);
        return line.length() <= CAUSE_CHARS_MAX ? line : line.substring(0, CAUSE_CHARS_MAX) + "...";
    }

    private void setApart(Piece piece, String cause) {
        quarantined.inc();
        switch (plan.setApart) {
            case ROW -> output.collect(new StreamRecord<>(
                    whole(new GenericRowData(plan.fields.length), piece, Fate.QUARANTINED.word(), cause)));
            case FAIL -> throw new IllegalStateException(where(piece) + ": " + cause);
            case COUNT -> LOG.error("set apart, and no query asks for it: {}: {}", where(piece), cause);
        }
    }

    private String where(Piece piece) {
        return "record " + piece.provenance() + " of topic " + plan.topic + " (cluster " + plan.clusters[piece.cluster]
                + ", partition " + piece.partition + ", offset " + piece.offset + ")";
    }

    private RowData whole(RowData row, Piece piece, String fate, String cause) {
        if (plan.columns.length == 0) {
            return row;
        }
        Column.Context context = new Column.Context(plan.clusters, plan.topic, fate, cause);
        GenericRowData metadata = new GenericRowData(plan.columns.length);
        for (int at = 0; at < plan.columns.length; at++) {
            metadata.setField(at, plan.columns[at].value(piece, context));
        }
        return new JoinedRowData(row.getRowKind(), row, metadata);
    }

    /** Whether this is the first word of a place. */
    private boolean reach(HandOver.Place place, HandOver.Position position) {
        HandOver.Position before = positions.get(place);
        positions.put(place, before == null ? position : HandOver.Position.max(before, position));
        return before == null;
    }

    /** What is known of positions is of the log that they name, and of no other. */
    private void refuseAnotherLog(Piece piece, HandOver.Place place) {
        HandOver.Position before = positions.get(place);
        if (before != null && TopicLog.areOthers(before.log(), piece.log)) {
            throw new IllegalStateException("topic " + plan.topic + " of cluster " + plan.clusters[place.cluster()]
                    + " was deleted and made again: partition " + place.partition() + " was taken up to offset " + before.offset()
                    + " of log " + Long.toUnsignedString(before.log()) + ", and the topic is log "
                    + Long.toUnsignedString(piece.log) + " now. What the old one held and was not taken is gone. To read the new one"
                    + " from its beginning, and drop what was taken before as doubles, begin a new job from the last hand-over object"
                    + " without the positions of this cluster");
        }
    }

    /** Shows where a partition stands, as far as this subtask knows: the greatest number over all subtasks counts. */
    private void show(HandOver.Place place) {
        MetricGroup group = metrics.addGroup("cluster", plan.clusters[place.cluster()])
                .addGroup("partition", Integer.toString(place.partition()));
        group.gauge("position", () -> positions.get(place).offset());
        group.gauge("append_time_ms", () -> positions.get(place).appendTimeMs());
        plan.starts.watch(place);
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        sources.forget(plan.starts::of, reachedMs);
        placesState.clear();
        for (Map.Entry<HandOver.Place, HandOver.Position> entry : positions.entrySet()) {
            HandOver.Place place = entry.getKey();
            HandOver.Position position = entry.getValue();
            placesState.add(new long[] {
                place.cluster(), place.partition(), position.offset(), position.appendTimeMs(), position.log()
            });
        }
        horizonState.clear();
        horizonState.add(sources.horizonMinutes());
        jobState.clear();
        jobState.add(job());
        if (plan.publisher != null) {
            publishPart(context.getCheckpointId());
        }
    }

    /** A checkpoint is worth more than its hand-over object: that it cannot be written is said, and fails nothing. */
    private void publishPart(long checkpoint) throws Exception {
        HandOver part = plan.publisher.begin(job(), checkpoint);
        part.positions.putAll(positions);
        sources.tell(part);
        try {
            plan.publisher.writePart(part, getRuntimeContext().getTaskInfo().getIndexOfThisSubtask());
        } catch (IOException error) {
            unpublished.inc();
            LOG.error("the hand-over object of checkpoint {} cannot be written", checkpoint, error);
        }
    }

    @Override
    public void notifyCheckpointComplete(long checkpoint) throws Exception {
        super.notifyCheckpointComplete(checkpoint);
        if (plan.publisher == null || getRuntimeContext().getTaskInfo().getIndexOfThisSubtask() != 0) {
            return;
        }
        try {
            plan.publisher.refuseTaken(job());
            int subtasks = getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks();
            LOG.info("handed over: {}", plan.publisher.publish(job(), checkpoint, subtasks));
        } catch (IOException error) {
            unpublished.inc();
            LOG.error("the hand-over object of checkpoint {} cannot be published", checkpoint, error);
        }
    }

    @Override
    public void close() throws Exception {
        plan.starts.close();
        super.close();
    }

    private String job() {
        return getRuntimeContext().getJobInfo().getJobId().toHexString();
    }

    /** The readers' watermarks say up to which append time everything has been read; only the end of everything passes. */
    @Override
    public void processWatermark(Watermark mark) throws Exception {
        if (mark.getTimestamp() == Watermark.MAX_WATERMARK.getTimestamp()) {
            super.processWatermark(mark);
        } else {
            reachedMs = Math.max(0, mark.getTimestamp());
        }
    }

    /** That a reader has nothing says nothing of the rows' own time. */
    @Override
    public void processWatermarkStatus(WatermarkStatus status) {}

    private void tickLater() {
        long interval = getExecutionConfig().getAutoWatermarkInterval();
        if (interval > 0) {
            getProcessingTimeService().registerTimer(getProcessingTimeService().getCurrentProcessingTime() + interval, at -> {
                watermarks.tick();
                tickLater();
            });
        }
    }

    /** Where the watermark goes that is the minimum over the partitions. */
    private final class Emitter implements WatermarkOutput {
        private boolean isIdle;

        @Override
        public void emitWatermark(org.apache.flink.api.common.eventtime.Watermark watermark) {
            markActive();
            output.emitWatermark(new Watermark(watermark.getTimestamp()));
        }

        @Override
        public void markIdle() {
            if (!isIdle) {
                isIdle = true;
                output.emitWatermarkStatus(WatermarkStatus.IDLE);
            }
        }

        @Override
        public void markActive() {
            if (isIdle) {
                isIdle = false;
                output.emitWatermarkStatus(WatermarkStatus.ACTIVE);
            }
        }
    }
}
