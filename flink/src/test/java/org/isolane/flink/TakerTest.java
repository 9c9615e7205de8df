package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.apache.flink.api.common.JobID;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.runtime.operators.testutils.MockEnvironment;
import org.apache.flink.runtime.operators.testutils.MockEnvironmentBuilder;
import org.apache.flink.runtime.operators.testutils.MockInputSplitProvider;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.streaming.util.AbstractStreamOperatorTestHarness;
import org.apache.flink.streaming.util.KeyedOneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TakerTest {
    private static final int KEY_GROUPS = 128;
    private static final JobID JOB = new JobID(1, 2);
    private static final String A = "00003e800000000000000001";
    private static final String B = "00003e900000000000000002";
    private static final Column[] COLUMNS = {Column.FATE, Column.CAUSE, Column.IL, Column.VALUE};

    @TempDir
    Path folder;

    /** What the tests say of oldest offsets. */
    private static final Map<HandOver.Place, Long> STARTS = new HashMap<>();

    private String from;
    private long bytesMax = 1 << 20;
    private WatermarkStrategy<RowData> watermark;
    private Options.SetApart setApart = Options.SetApart.ROW;
    private String[] marks = {};

    /** A subtask of the operator. */
    private final class Subtask extends KeyedOneInputStreamOperatorTestHarness<String, Piece, RowData> {
        Subtask(int parallelism, int index) throws Exception {
            super(taker(), piece -> piece.source, Types.STRING, environment(parallelism, index));
        }

        /** What came out since the last call, as text. */
        List<String> rows() {
            List<String> rows = new ArrayList<>();
            for (Object out = getOutput().poll(); out != null; out = getOutput().poll()) {
                if (out instanceof StreamRecord<?> record) {
                    RowData row = (RowData) record.getValue();
                    String value = row.isNullAt(0) ? "NULL" : row.getString(0).toString();
                    String fate = row.isNullAt(1) ? "" : " " + row.getString(1) + ": " + row.getString(2);
                    rows.add(value + fate);
                }
            }
            return rows;
        }
    }

    private static final class Told implements Starts {
        @Override
        public void open() {}

        @Override
        public void watch(HandOver.Place place) {}

        @Override
        public long of(HandOver.Place place) {
            return STARTS.getOrDefault(place, 0L);
        }

        @Override
        public void close() {}
    }

    private Taker taker() {
        String[] clusters = {"normal", "failover"};
        Publisher publisher = new Publisher(folder.toString(), "a.b.c.1f");
        return new Taker(new Taker.Plan(
                clusters, "a.b.c.1f", "lines", new Lines(), new int[] {0}, COLUMNS, setApart, watermark, bytesMax, new Told(), from, publisher,
                marks));
    }

    /** Of one job: only then do subtasks find one another's parts. */
    private static MockEnvironment environment(int parallelism, int index) {
        return new MockEnvironmentBuilder()
                .setTaskName("take")
                .setManagedMemorySize(3 * 1024 * 1024)
                .setInputSplitProvider(new MockInputSplitProvider())
                .setBufferSize(1024)
                .setMaxParallelism(KEY_GROUPS)
                .setParallelism(parallelism)
                .setSubtaskIndex(index)
                .setJobID(JOB)
                .build();
    }

    private Subtask alone() throws Exception {
        Subtask subtask = new Subtask(1, 0);
        subtask.open();
        return subtask;
    }

    private static Piece piece(String header, int cluster, int partition, long offset, String value) throws HeaderException {
        byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
        return Piece.of(Provenance.parse(header), cluster, partition, offset, 1_000 + offset, bytes);
    }

    private static String il(char kind, String source, long start, long end) {
        return kind + source + "." + Long.toHexString(start) + "." + Long.toHexString(end - start) + ".0";
    }

    private HandOver published() throws Exception {
        try (Stream<Path> files = Files.list(folder)) {
            Path newest = files.filter(path -> path.toString().endsWith(".json") && !path.endsWith("from.json"))
                    .max(Path::compareTo).orElseThrow();
            return HandOver.read(new org.apache.flink.core.fs.Path(newest.toString()));
        }
    }

    @Test
    void doublesOfAnotherClusterAreDroppedAndWhatCannotBeDecodedIsARowWithItsFate() throws Exception {
        try (Subtask subtask = alone()) {
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 0, 0, 0, "one")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 1, 2, 7, "one")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 4, 8), 1, 2, 8, "bad\nsecond line")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 4, 8), 0, 0, 1, "bad")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 8, 9), 0, 0, 2, "")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 6, 12), 0, 0, 3, "torn")));
            subtask.processElement(new StreamRecord<>(piece(il('m', A, 12, 20), 0, 0, 4, "")));
            assertEquals(
                    List.of("one", "NULL quarantined: lines: bad", "NULL quarantined: lines: no value",
                            "NULL quarantined: " + Dedup.OVERLAP),
                    subtask.rows());
        }
    }

    @Test
    void whatIsSetApartFailsTheJobWhereThatIsAskedFor() throws Exception {
        setApart = Options.SetApart.FAIL;
        try (Subtask subtask = alone()) {
            Exception error = assertThrows(
                    Exception.class, () -> subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 1, 2, 7, "bad"))));
            assertTrue(error.getMessage().contains("cluster failover, partition 2, offset 7"), error.getMessage());
        }
    }

    @Test
    void marksAreThereBeforeAnythingIsTakenAndAFolderThatCannotBeWrittenFailsTheJob() throws Exception {
        Path mark = folder.resolve("out/a/.isolane-a.b.c@1");
        marks = new String[] {mark.toUri().toString()};
        for (int again = 0; again < 2; again++) {
            alone().close();
            assertEquals(0, Files.size(mark));
        }
        marks = new String[] {mark.resolve("below-a-file").toUri().toString()};
        Exception error = assertThrows(Exception.class, this::alone);
        assertTrue(error.getMessage().contains("the sink's folder cannot be written: " + marks[0]), error.getMessage());
    }

    /** Every sequence of the vectors, through the operator, from and to hand-over objects. */
    @Test
    void recordsHaveTheFatesThatTheVectorsSay() throws Exception {
        int number = 0;
        for (JsonNode line : Vectors.read("dedup.ndjson", 30)) {
            number++;
            String name = line.get("name").textValue();
            HandOver begin = new HandOver();
            begin.topic = "a.b.c.1f";
            begin.horizonMinutes = line.get("horizon_minutes").asInt(Dedup.NO_HORIZON);
            for (Iterator<Map.Entry<String, JsonNode>> each = line.get("known").fields(); each.hasNext(); ) {
                Map.Entry<String, JsonNode> source = each.next();
                begin.sources.put(source.getKey(), taken(source.getValue()));
            }
            from = folder.resolve("from.json").toString();
            begin.write(new org.apache.flink.core.fs.Path(from));
            try (Subtask subtask = alone()) {
                List<String> expected = expected(line);
                for (int at = 0; at < line.get("records").size(); at++) {
                    Piece piece = piece(line.get("records").get(at).textValue(), 0, 0, at, "row " + at);
                    subtask.processElement(new StreamRecord<>(piece));
                }
                assertEquals(expected, subtask.rows(), name);
                subtask.snapshot(number, 0);
                subtask.notifyOfCompletedCheckpoint(number);
                HandOver after = published();
                assertEquals(number, after.checkpoint);
                assertEquals(line.get("after").size(), after.sources.size(), name);
                for (String source : after.sources.keySet()) {
                    HandOver.Taken known = taken(line.get("after").get(source));
                    assertArrayEquals(known.ranges(), after.sources.get(source).ranges(), name);
                    assertEquals(known.finished(), after.sources.get(source).finished(), name);
                }
                assertEquals(begin.horizonMinutes, after.horizonMinutes, name);
                assertEquals(line.get("records").size(), after.positions.get(new HandOver.Place(0, 0)).offset(), name);
            }
        }
    }

    /** What comes out of records with such fates, whose values are "row" and their number. */
    private static List<String> expected(JsonNode line) {
        List<String> expected = new ArrayList<>();
        for (int at = 0; at < line.get("fates").size(); at++) {
            String fate = line.get("fates").get(at).textValue();
            if (fate.equals("delivered")) {
                expected.add("row " + at);
            } else if (fate.startsWith("quarantined")) {
                expected.add("NULL " + fate);
            }
        }
        return expected;
    }

    /** Every history of the vectors, through the operator: what it reads, and checkpoints that forget. */
    @Test
    void sourcesAreForgottenWhenTheVectorsSay() throws Exception {
        int checkpoint = 0;
        for (JsonNode line : Vectors.read("forget.ndjson", 20)) {
            String name = line.get("name").textValue();
            try (Subtask subtask = alone()) {
                int records = 0;
                for (JsonNode step : line.get("steps")) {
                    if (step.has("record")) {
                        subtask.processElement(new StreamRecord<>(seen(step, "row " + records++)));
                    } else {
                        STARTS.clear();
                        step.get("starts").forEach(start -> STARTS.put(place(start), start.get("offset").longValue()));
                        subtask.processWatermark(new Watermark(step.get("reached_ms").longValue()));
                        subtask.snapshot(++checkpoint, 0);
                    }
                }
                assertEquals(expected(line), subtask.rows(), name);
                // So that the last one forgets nothing more.
                STARTS.clear();
                subtask.snapshot(++checkpoint, 0);
                subtask.notifyOfCompletedCheckpoint(checkpoint);
                HandOver after = published();
                assertEquals(line.get("horizon_minutes").asInt(Dedup.NO_HORIZON), after.horizonMinutes, name);
                assertEquals(line.get("after").size(), after.sources.size(), name);
                String text = new ObjectMapper().readTree(after.print()).get("sources").toString();
                assertEquals(sorted(line.get("after")), sorted(new ObjectMapper().readTree(text)), name);
            }
        }
    }

    private static Piece seen(JsonNode step, String value) throws HeaderException {
        JsonNode seen = step.get("seen");
        HandOver.Place place = place(seen);
        Piece piece = piece(
                step.get("record").textValue(), place.cluster(), place.partition(), seen.get("offset").longValue(), value);
        piece.appendTimeMs = seen.get("append_time_ms").longValue();
        return piece;
    }

    private static HandOver.Place place(JsonNode node) {
        return new HandOver.Place(node.get("place").get("cluster").intValue(), node.get("place").get("partition").intValue());
    }

    /** Sources by their ids, so that the order of fields does not count. */
    private static Map<String, JsonNode> sorted(JsonNode sources) {
        Map<String, JsonNode> sorted = new TreeMap<>();
        sources.fields().forEachRemaining(source -> sorted.put(source.getKey(), source.getValue()));
        return sorted;
    }

    /** What was handed over without last places is forgotten by the positions, and a job goes on forgetting after a restart. */
    @Test
    void whatWasHandedOverIsForgottenByItsPositions() throws Exception {
        HandOver begin = new HandOver();
        begin.topic = "a.b.c.1f";
        begin.positions.put(new HandOver.Place(0, 0), new HandOver.Position(8, 5_000, TopicLog.UNKNOWN));
        begin.sources.put(A, new HandOver.Taken(Ranges.of(0, 4), 4, LastPlaces.NONE));
        from = folder.resolve("from.json").toString();
        begin.write(new org.apache.flink.core.fs.Path(from));
        OperatorSubtaskState state;
        try (Subtask subtask = alone()) {
            STARTS.clear();
            subtask.processWatermark(new Watermark(5_001 + Forgetting.MARGIN_MS));
            STARTS.put(new HandOver.Place(0, 0), 7L);
            state = subtask.snapshot(1, 0);
            subtask.notifyOfCompletedCheckpoint(1);
            assertEquals(1, published().sources.size(), "a record of it may still be there");
        }
        STARTS.put(new HandOver.Place(0, 0), 8L);
        try (Subtask subtask = new Subtask(1, 0)) {
            subtask.initializeState(state);
            subtask.open();
            subtask.snapshot(2, 0);
            subtask.processWatermark(new Watermark(5_001 + Forgetting.MARGIN_MS));
            state = subtask.snapshot(3, 0);
            subtask.notifyOfCompletedCheckpoint(3);
            assertEquals(0, published().sources.size());
            assertEquals(0x3e8, published().horizonMinutes);
        }
        try (Subtask subtask = new Subtask(1, 0)) {
            subtask.initializeState(state);
            subtask.open();
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 0, 0, 9, "a0")));
            assertEquals(List.of("NULL quarantined: " + Dedup.STALE), subtask.rows());
        }
    }

    private static HandOver.Taken taken(JsonNode node) {
        return new HandOver.Taken(
                Ranges.of(Vectors.pairs(node.get("taken"))), node.get("finished").asLong(-1), LastPlaces.NONE);
    }

    @Test
    void nothingIsLostOrDoubledThroughCheckpointsAndRescaling() throws Exception {
        for (int round = 0; round < 20; round++) {
            long seed = System.nanoTime();
            try {
                new Rescaling(new Random(seed)).run();
            } catch (Throwable error) {
                throw new AssertionError("seed " + seed, error);
            }
        }
    }

    /** A log of pieces, read through a row of lives; each ends in a checkpoint, and what it took behind that is rolled back. */
    private final class Rescaling {
        private final Random random;
        private final List<Piece> log = new ArrayList<>();
        private final Map<String, Integer> delivered = new HashMap<>();
        private int checkpoint;

        Rescaling(Random random) throws HeaderException {
            this.random = random;
            for (int source = 0; source < 12; source++) {
                String id = String.format("%07x%017x", 1_000 + source, random.nextLong(1L << 60));
                for (int record = 0; record < 20; record++) {
                    String header = il('e', id, record * 5L, record * 5L + 5);
                    for (int copy = random.nextInt(4); copy >= 0; copy--) {
                        log.add(piece(header, random.nextInt(2), random.nextInt(3), 0, id + "/" + record));
                    }
                }
            }
            java.util.Collections.shuffle(log, random);
            long[][] ends = new long[2][3];
            log.forEach(piece -> piece.offset = ends[piece.cluster][piece.partition]++);
        }

        void run() throws Exception {
            OperatorSubtaskState state = null;
            int before = 1;
            int at = 0;
            for (int parallelism : new int[] {1, 2, 1, 3, 2}) {
                int kept = Math.min(log.size(), at + random.nextInt(log.size() / 3));
                int rolledBack = Math.min(log.size(), kept + random.nextInt(40));
                boolean isLast = parallelism == 2 && before == 3;
                state = live(state, before, parallelism, at, isLast ? log.size() : kept, isLast ? log.size() : rolledBack);
                before = parallelism;
                at = isLast ? log.size() : kept;
            }
            assertEquals(240, delivered.size());
            assertTrue(delivered.values().stream().allMatch(count -> count == 1), delivered.toString());
            HandOver after = published();
            assertEquals(12, after.sources.size());
            for (HandOver.Taken taken : after.sources.values()) {
                assertArrayEquals(new long[] {0, 100}, taken.ranges());
            }
            Map<HandOver.Place, Long> ends = new HashMap<>();
            log.forEach(piece -> ends.merge(new HandOver.Place(piece.cluster, piece.partition), piece.offset + 1, Math::max));
            Map<HandOver.Place, Long> positions = new HashMap<>();
            after.positions.forEach((place, position) -> positions.put(place, position.offset()));
            assertEquals(ends, positions);
        }

        private OperatorSubtaskState live(
                OperatorSubtaskState state, int before, int parallelism, int from, int kept, int to) throws Exception {
            Subtask[] subtasks = new Subtask[parallelism];
            for (int index = 0; index < parallelism; index++) {
                subtasks[index] = new Subtask(parallelism, index);
                if (state != null) {
                    subtasks[index].initializeState(AbstractStreamOperatorTestHarness.repartitionOperatorState(
                            state, KEY_GROUPS, before, parallelism, index));
                }
                subtasks[index].open();
            }
            feed(subtasks, from, kept);
            checkpoint++;
            OperatorSubtaskState[] parts = new OperatorSubtaskState[parallelism];
            for (int index = 0; index < parallelism; index++) {
                parts[index] = subtasks[index].snapshot(checkpoint, 0);
                subtasks[index].rows().forEach(row -> delivered.merge(row, 1, Integer::sum));
            }
            for (Subtask subtask : subtasks) {
                subtask.notifyOfCompletedCheckpoint(checkpoint);
            }
            feed(subtasks, kept, to);
            for (Subtask subtask : subtasks) {
                subtask.close();
            }
            return AbstractStreamOperatorTestHarness.repackageState(parts);
        }

        private void feed(Subtask[] subtasks, int from, int to) throws Exception {
            for (Piece piece : log.subList(from, to)) {
                int index = KeyGroupRangeAssignment.assignKeyToParallelOperator(piece.source, KEY_GROUPS, subtasks.length);
                subtasks[index].processElement(new StreamRecord<>(piece));
            }
        }
    }

    @Test
    void anotherJobGoesOnFromTheHandOverAtAnyParallelism() throws Exception {
        try (Subtask subtask = alone()) {
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 0, 0, 0, "a0")));
            subtask.processElement(new StreamRecord<>(piece(il('e', B, 0, 4), 0, 1, 0, "b0")));
            subtask.processElement(new StreamRecord<>(piece(il('z', B, 4, 4), 0, 1, 1, "")));
            subtask.snapshot(1, 0);
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 4, 8), 0, 0, 1, "a4")));
            subtask.notifyOfCompletedCheckpoint(1);
        }
        HandOver object = published();
        assertEquals(4, object.sources.get(B).finished());
        from = folder.resolve("from.json").toString();
        object.write(new org.apache.flink.core.fs.Path(from));
        List<String> rows = new ArrayList<>();
        Subtask[] subtasks = {new Subtask(2, 0), new Subtask(2, 1)};
        for (Subtask subtask : subtasks) {
            subtask.open();
        }
        Piece[] again = {
            piece(il('e', A, 0, 4), 1, 0, 0, "a0"), piece(il('e', B, 0, 4), 1, 0, 1, "b0"), piece(il('e', A, 4, 8), 0, 0, 1, "a4")
        };
        for (Piece piece : again) {
            int index = KeyGroupRangeAssignment.assignKeyToParallelOperator(piece.source, KEY_GROUPS, 2);
            subtasks[index].processElement(new StreamRecord<>(piece));
        }
        for (Subtask subtask : subtasks) {
            subtask.snapshot(1, 0);
        }
        for (Subtask subtask : subtasks) {
            subtask.notifyOfCompletedCheckpoint(1);
            rows.addAll(subtask.rows());
            subtask.close();
        }
        assertEquals(List.of("a4"), rows);
        HandOver next = published();
        assertEquals(4, next.sources.get(B).finished(), "what was handed over is handed on");
        assertArrayEquals(new long[] {0, 8}, next.sources.get(A).ranges());
        assertEquals(2, next.positions.get(new HandOver.Place(0, 1)).offset(), "of a partition that brought nothing since");
    }

    @Test
    void overTheBudgetOfRangeSetsTheJobFailsAlsoWhenItIsRestored() throws Exception {
        bytesMax = 2 * Footprint.SOURCE_BYTES + 5 * Footprint.RANGE_BYTES;
        OperatorSubtaskState state;
        try (Subtask subtask = alone()) {
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 0, 0, 0, "a0")));
            subtask.processElement(new StreamRecord<>(piece(il('e', B, 0, 4), 0, 0, 1, "b0")));
            subtask.processElement(new StreamRecord<>(piece(il('e', B, 0, 4), 1, 0, 1, "b0")));
            subtask.processElement(new StreamRecord<>(piece(il('e', B, 4, 8), 0, 0, 2, "b4")));
            state = subtask.snapshot(1, 0);
            assertEquals(List.of("a0", "b0", "b4"), subtask.rows());
        }
        try (Subtask subtask = new Subtask(1, 0)) {
            subtask.initializeState(state);
            subtask.open();
            Piece gap = piece(il('e', A, 8, 12), 0, 0, 3, "a8");
            Exception error = assertThrows(Exception.class, () -> subtask.processElement(new StreamRecord<>(gap)));
            assertTrue(error.getMessage().contains("3 ranges of 2 sources"), error.getMessage());
        }
    }

    @Test
    void aJobWhoseObjectALegHasTakenIsNotRestoredAndDoesNotRunOn() throws Exception {
        Path mark = folder.resolve(JOB.toHexString() + "-0000000000000000001.json" + Publisher.TAKEN);
        OperatorSubtaskState state;
        try (Subtask subtask = alone()) {
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 0, 0, 0, "a0")));
            state = subtask.snapshot(1, 0);
            subtask.notifyOfCompletedCheckpoint(1);
            Files.createFile(mark);
            subtask.snapshot(2, 0);
            Exception error = assertThrows(Exception.class, () -> subtask.notifyOfCompletedCheckpoint(2));
            assertTrue(error.getMessage().contains(mark.getFileName().toString()), error.getMessage());
        }
        try (Subtask subtask = new Subtask(1, 0)) {
            Exception error = assertThrows(Exception.class, () -> subtask.initializeState(state));
            assertTrue(error.getMessage().contains("has begun from a hand-over object of this job"), error.getMessage());
        }
        Files.move(mark, folder.resolve("another-0000000000000000001.json" + Publisher.TAKEN));
        try (Subtask subtask = new Subtask(1, 0)) {
            subtask.initializeState(state);
        }
    }

    @Test
    void aTopicThatWasMadeAgainIsNotTakenForTheOldOne() throws Exception {
        try (Subtask subtask = alone()) {
            Piece first = piece(il('e', A, 0, 4), 1, 0, 0, "a0");
            first.log = 7;
            subtask.processElement(new StreamRecord<>(first));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 4, 8), 1, 0, 1, "a4")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 8, 12), 0, 0, 0, "a8")));
            subtask.snapshot(1, 0);
            subtask.notifyOfCompletedCheckpoint(1);
        }
        HandOver object = published();
        assertEquals(7, object.positions.get(new HandOver.Place(1, 0)).log());
        assertEquals(TopicLog.UNKNOWN, object.positions.get(new HandOver.Place(0, 0)).log());
        from = folder.resolve("from.json").toString();
        object.write(new org.apache.flink.core.fs.Path(from));
        try (Subtask subtask = alone()) {
            Piece silent = piece(il('e', A, 12, 16), 0, 0, 1, "a12");
            silent.log = -2;
            subtask.processElement(new StreamRecord<>(silent));
            Piece anew = piece(il('e', A, 16, 20), 1, 0, 0, "a16");
            anew.log = -2;
            Exception error = assertThrows(Exception.class, () -> subtask.processElement(new StreamRecord<>(anew)));
            String text = error.getMessage();
            assertTrue(text.contains("cluster failover") && text.contains("offset 2 of log 7") && text.contains("log 18446744073709551614 now"), text);
            assertEquals(List.of("a12"), subtask.rows());
        }
    }

    @Test
    void whatWasSnapshotDoesNotChangeAfterwards() throws Exception {
        OperatorSubtaskState state;
        try (Subtask subtask = alone()) {
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 0, 0, 0, "a0")));
            state = subtask.snapshot(1, 0);
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 4, 8), 0, 0, 1, "a4")));
            subtask.rows();
        }
        try (Subtask subtask = new Subtask(1, 0)) {
            subtask.initializeState(state);
            subtask.open();
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 0, 0, 0, "a0")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 4, 8), 0, 0, 1, "a4")));
            assertEquals(List.of("a4"), subtask.rows());
        }
    }

    @Test
    void aCheckpointThatNeverCompletesHandsNothingOver() throws Exception {
        try (Subtask subtask = alone()) {
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 4), 0, 0, 0, "a0")));
            subtask.snapshot(1, 0);
            assertThrows(java.util.NoSuchElementException.class, this::published);
            subtask.snapshot(2, 0);
            subtask.notifyOfCompletedCheckpoint(2);
            assertEquals(2, published().checkpoint);
            try (Stream<Path> parts = Files.walk(folder.resolve("parts"))) {
                assertTrue(parts.noneMatch(Files::isRegularFile), "parts are left");
            }
            for (long checkpoint = 3; checkpoint <= 9; checkpoint++) {
                subtask.snapshot(checkpoint, 0);
                subtask.notifyOfCompletedCheckpoint(checkpoint);
            }
            try (Stream<Path> files = Files.list(folder)) {
                assertEquals(Publisher.KEPT, files.filter(Files::isRegularFile).count());
            }
        }
    }

    @Test
    void unalignedCheckpointsAreRefused() throws Exception {
        try (Subtask subtask = new Subtask(1, 0)) {
            subtask.getStreamConfig().setUnalignedCheckpointsEnabled(true);
            subtask.getStreamConfig().serializeAllConfigs();
            Exception error = assertThrows(Exception.class, subtask::open);
            assertTrue(error.getMessage().contains("aligned checkpoints"), error.getMessage());
        }
    }

    @Test
    void theWatermarkIsTheMinimumOverThePartitionsThatAreNotIdle() throws Exception {
        watermark = WatermarkStrategy.<RowData>forGenerator(context -> new Numbers()).withIdleness(Duration.ofMillis(500));
        try (Subtask subtask = new Subtask(1, 0)) {
            subtask.getExecutionConfig().setAutoWatermarkInterval(100);
            subtask.setProcessingTime(0);
            subtask.open();
            subtask.setProcessingTime(50);
            assertEquals(List.of(), watermarks(subtask), "its first tick is still to come");
            subtask.setProcessingTime(100);
            assertEquals(List.of("idle"), watermarks(subtask), "it has seen no row: the other subtasks do not wait for it");
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 0, 1), 0, 0, 0, "900")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 1, 2), 1, 0, 0, "500")));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 2, 3), 0, 1, 0, "700")));
            subtask.setProcessingTime(200);
            assertEquals(List.of("500"), watermarks(subtask));
            subtask.processElement(new StreamRecord<>(piece(il('e', A, 3, 4), 1, 0, 1, "800")));
            subtask.setProcessingTime(300);
            assertEquals(List.of("700"), watermarks(subtask));
            // Wall clock decides what is idle: the partition that stays silent is left out, and the others go on.
            List<String> seen = new ArrayList<>();
            long deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
            for (long tick = 4; !seen.contains("800") && System.nanoTime() < deadline; tick++) {
                subtask.processElement(new StreamRecord<>(piece(il('e', B, tick, tick + 1), 0, 0, tick, "900")));
                subtask.processElement(new StreamRecord<>(piece(il('e', B, 100 + tick, 101 + tick), 1, 0, tick, "800")));
                subtask.setProcessingTime(100 * tick);
                seen.addAll(watermarks(subtask));
            }
            assertTrue(seen.contains("800"), seen.toString());
            for (long tick = 1_000; !seen.contains("idle") && System.nanoTime() < deadline; tick++) {
                subtask.setProcessingTime(100 * tick);
                seen.addAll(watermarks(subtask));
            }
            assertTrue(seen.contains("idle"), seen.toString());
        }
    }

    private static List<String> watermarks(Subtask subtask) {
        List<String> seen = new ArrayList<>();
        for (Object out = subtask.getOutput().poll(); out != null; out = subtask.getOutput().poll()) {
            if (out instanceof Watermark mark) {
                seen.add(Long.toString(mark.getTimestamp()));
            } else if (out instanceof WatermarkStatus status && status.isIdle()) {
                seen.add("idle");
            }
        }
        return seen;
    }

    /** A table's watermark: the greatest number in its column. */
    private static final class Numbers implements org.apache.flink.api.common.eventtime.WatermarkGenerator<RowData> {
        private long greatest = Long.MIN_VALUE;

        @Override
        public void onEvent(RowData row, long timestamp, org.apache.flink.api.common.eventtime.WatermarkOutput output) {
            greatest = Math.max(greatest, Long.parseLong(row.getString(0).toString()));
        }

        @Override
        public void onPeriodicEmit(org.apache.flink.api.common.eventtime.WatermarkOutput output) {
            output.emitWatermark(new org.apache.flink.api.common.eventtime.Watermark(greatest));
        }
    }

    @Test
    void columnsAreDistinctAndNamedAsTheEmbeddedEngineDoes() {
        assertEquals(Column.values().length, Column.all().size());
        assertTrue(Column.all().keySet().containsAll(Arrays.asList("il", "source", "append_time", "event_time")));
    }
}
