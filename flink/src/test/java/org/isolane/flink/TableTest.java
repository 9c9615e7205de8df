package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.functions.ScalarFunction;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** The table in SQL, on a small cluster in this process. Kafka is the only thing that is not real. */
class TableTest {
    private static final String A = "01c83db0000000000000000a";

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(2)
            .build());

    @TempDir
    Path folder;

    private final Configuration configuration = new Configuration();

    @BeforeEach
    void begin() throws HeaderException {
        FakeFactory.PIECES.clear();
        add('e', 0, 10, 0, 3, 100, "{\"id\": 1, \"name\": \"ä\"}");
        add('e', 10, 20, 0, 3, 101, "{\"id\": 2}");
        add('e', 0, 10, 1, 1, 50, "{\"id\": 1, \"name\": \"ä\"}");
        add('e', 20, 30, 1, 1, 51, "{\"id\": \"three");
        add('e', 20, 30, 0, 0, 7, "{\"id\": \"three");
        add('m', 30, 40, 0, 0, 8, "");
        add('z', 40, 40, 0, 0, 9, "");
    }

    private static void add(char kind, long start, long end, int cluster, int partition, long offset, String value)
            throws HeaderException {
        String header = kind + A + "." + Long.toHexString(start) + "." + Long.toHexString(end - start) + ".0"
                + (start == 10 ? ".1795420800123" : "");
        byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
        FakeFactory.PIECES.add(
                Piece.of(Provenance.parse(header), cluster, partition, offset, 1_795_420_800_000L + offset, bytes));
    }

    private StreamTableEnvironment tables() {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        env.setParallelism(2);
        StreamTableEnvironment tables = StreamTableEnvironment.create(env);
        tables.getConfig().set("table.local-time-zone", "UTC");
        return tables;
    }

    private static String table(String columns, String options) {
        return "CREATE TABLE src (" + columns + ") WITH ('connector' = 'isolane-fake', "
                + "'clusters' = 'normal=a:1,b:1;failover=c:1', 'topic' = 'a.b.c.1f', 'format' = 'json'" + options + ")";
    }

    private List<String> rows(StreamTableEnvironment tables, String query) throws Exception {
        List<String> rows = new ArrayList<>();
        try (CloseableIterator<Row> each = tables.executeSql(query).collect()) {
            each.forEachRemaining(row -> rows.add(row.toString()));
        }
        rows.sort(null);
        return rows;
    }

    private static String refusal(org.junit.jupiter.api.function.Executable call) {
        StringBuilder text = new StringBuilder();
        for (Throwable error = assertThrows(Exception.class, call); error != null; error = error.getCause()) {
            text.append(error.getMessage()).append('\n');
        }
        return text.toString();
    }

    @Test
    void aRowForEachRecordWithWhatIsKnownOfIt() throws Exception {
        StreamTableEnvironment tables = tables();
        tables.executeSql(table(
                "id INT, name STRING, fate STRING METADATA VIRTUAL, cause STRING METADATA VIRTUAL, il STRING METADATA VIRTUAL, "
                        + "s STRING METADATA FROM 'source' VIRTUAL, b BIGINT METADATA FROM 'start' VIRTUAL, "
                        + "e BIGINT METADATA FROM 'end' VIRTUAL, lap INT METADATA VIRTUAL, k STRING METADATA FROM 'kind' VIRTUAL, "
                        + "c STRING METADATA FROM 'cluster' VIRTUAL, p INT METADATA FROM 'partition' VIRTUAL, "
                        + "o BIGINT METADATA FROM 'offset' VIRTUAL, event_time TIMESTAMP_LTZ(3) METADATA VIRTUAL, "
                        + "append_time TIMESTAMP_LTZ(3) METADATA VIRTUAL, v BYTES METADATA FROM 'value' VIRTUAL, "
                        + "WATERMARK FOR append_time AS append_time - INTERVAL '1' SECOND",
                ", 'scan.watermark.idle-timeout' = '1 s'"));
        assertEquals(
                List.of(
                        "+I[1, ä, null, e" + A + ".0.a.0, " + A + ", 0, 10, 0, e, normal, 3, 100, null, 2026-11-23T08:00:00.100Z]",
                        "+I[2, null, null, e" + A + ".a.a.0.1795420800123, " + A
                                + ", 10, 20, 0, e, normal, 3, 101, 2026-11-23T08:00:00.123Z, 2026-11-23T08:00:00.101Z]"),
                rows(tables, "SELECT id, name, cause, il, s, b, e, lap, k, c, p, o, event_time, append_time FROM src "
                        + "WHERE fate IS NULL"));
        List<String> apart = rows(tables, "SELECT id, fate, il, c, o, DECODE(v, 'UTF-8') FROM src WHERE fate IS NOT NULL");
        assertEquals(List.of("+I[null, quarantined, e" + A + ".14.a.0, failover, 51, {\"id\": \"three]"), apart);
        List<String> causes = rows(tables, "SELECT cause FROM src WHERE fate IS NOT NULL");
        assertTrue(causes.get(0).startsWith("+I[json: "), causes.toString());
    }

    @Test
    void aQueryThatWouldNotSeeFatesIsRefusedUnlessThatIsSaid() throws Exception {
        StreamTableEnvironment tables = tables();
        tables.executeSql(table("id INT, fate STRING METADATA VIRTUAL", ""));
        assertTrue(refusal(() -> tables.executeSql("SELECT id FROM src").collect()).contains("WHERE fate IS NULL"));
        tables.executeSql("DROP TABLE src");
        tables.executeSql(table("id INT", ", 'set-apart' = 'count'"));
        assertEquals(List.of("+I[1]", "+I[2]"), rows(tables, "SELECT id FROM src"));
        tables.executeSql("DROP TABLE src");
        tables.executeSql(table("id INT", ", 'set-apart' = 'fail'"));
        assertTrue(refusal(() -> rows(tables, "SELECT id FROM src")).contains("topic a.b.c.1f"));
    }

    @Test
    void optionsThatCannotBeAreRefusedWithWhatToDo() {
        StreamTableEnvironment tables = tables();
        String[][] refused = {
            {"id INT NOT NULL", "", "remove NOT NULL"},
            {"id INT", ", 'json.ignore-parse-errors' = 'true'", "records may not vanish"},
            {"id INT", ", 'properties.group.id' = 'g'", "is said by"},
            {"id INT", ", 'startup' = 'yesterday'", "startup"},
            {"id INT", ", 'clustrs' = 'a'", "clustrs"},
            {"id INT", ", 'hand-over.from' = '" + folder.resolve("absent.json") + "'", "hand-over.from"},
        };
        for (String[] line : refused) {
            tables.executeSql("DROP TABLE IF EXISTS src");
            tables.executeSql(table(line[0] + ", fate STRING METADATA VIRTUAL", line[1]));
            String text = refusal(() -> tables.executeSql("SELECT * FROM src").collect());
            assertTrue(text.contains(line[2]), line[1] + ": " + text);
        }
    }

    @Test
    void checkpointsThatWouldLoseRecordsAreRefused() {
        String[][] unsafe = {
            {"execution.checkpointing.unaligned.enabled", "true", "needs aligned checkpoints"},
            {"execution.checkpointing.mode", "AT_LEAST_ONCE", "needs exactly-once checkpoints"},
        };
        for (String[] line : unsafe) {
            configuration.setString("execution.checkpointing.interval", "1 s");
            configuration.setString(line[0], line[1]);
            StreamTableEnvironment tables = tables();
            configuration.removeKey(line[0]);
            tables.executeSql(table("id INT, fate STRING METADATA VIRTUAL", ""));
            String text = refusal(() -> tables.executeSql("SELECT id, fate FROM src").collect());
            assertTrue(text.contains(line[2]), text);
        }
    }

    /** Fails once, when enough has been seen and taken into a checkpoint. */
    public static final class Stumble extends ScalarFunction {
        private static final AtomicInteger SEEN = new AtomicInteger();

        /** The number itself. */
        public Integer eval(Integer id) throws InterruptedException {
            Thread.sleep(1);
            if (SEEN.incrementAndGet() == 1_500) {
                throw new IllegalStateException("stumbled");
            }
            return id;
        }
    }

    @Test
    void aJobThatFailsOnTheWayLosesAndDoublesNothing() throws Exception {
        FakeFactory.PIECES.clear();
        List<Piece> pieces = new ArrayList<>();
        for (int at = 0; at < 3_000; at++) {
            String source = String.format("%07x%017x", 29_900_000, at % 7);
            Provenance record = new Provenance(Kind.EVENT, source, at / 7 * 10L, at / 7 * 10L + 10, 0, null);
            byte[] value = ("{\"id\": " + at + "}").getBytes(StandardCharsets.UTF_8);
            pieces.add(Piece.of(record, 0, at % 3, at / 3, 1_795_420_800_000L + at, value));
            if (at % 4 == 0 && at > 40) {
                pieces.add(Piece.of(pieces.get(at - 40).provenance(), 1, 0, at / 4, 1_795_420_800_000L + at, pieces.get(at - 40).value));
            }
        }
        FakeFactory.PIECES.addAll(pieces);
        configuration.setString("execution.checkpointing.interval", "100 ms");
        configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, folder.resolve("checkpoints").toUri().toString());
        configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        Path objects = folder.resolve("objects");
        StreamTableEnvironment tables = tables();
        tables.createTemporarySystemFunction("stumble", Stumble.class);
        tables.executeSql(table("id INT, fate STRING METADATA VIRTUAL", ", 'hand-over.to' = '" + objects.toUri() + "'"));
        List<String> rows = rows(tables, "SELECT stumble(id) FROM src WHERE fate IS NULL");
        Set<String> distinct = new HashSet<>(rows);
        assertTrue(Stumble.SEEN.get() > 3_000, "it never failed: " + Stumble.SEEN);
        assertEquals(3_000, rows.size());
        assertEquals(3_000, distinct.size());
        try (java.util.stream.Stream<Path> files = Files.list(objects)) {
            assertTrue(files.anyMatch(path -> path.toString().endsWith(".json")), "nothing was handed over");
        }
    }
}
