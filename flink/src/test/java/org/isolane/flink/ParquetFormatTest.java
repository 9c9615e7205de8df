package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.ServiceLoader;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;
import org.apache.parquet.hadoop.ParquetFileReader;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** Files of the format, by Flink's own sink on a small cluster in this process, read by Parquet's and Flink's own readers. */
class ParquetFormatTest {
    private static final int RECORDS = 3_000;
    private static final int SOURCES = 7;
    private static final int BROKEN_EVERY = 100;
    private static final int FILTERED_EVERY = 3;

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(2)
            .build());

    @TempDir
    Path folder;

    private final Configuration configuration = new Configuration();

    @BeforeEach
    void begin() {
        FakeFactory.PIECES.clear();
        List<Piece> pieces = new ArrayList<>();
        for (int at = 0; at < RECORDS; at++) {
            Provenance record = new Provenance(Kind.EVENT, source(at), at / SOURCES * 10L, at / SOURCES * 10L + 10, 0, null);
            String text = "{\"id\": " + at + ", \"day\": \"d" + at % 2 + "\"" + (at % BROKEN_EVERY == 0 ? "" : "}");
            byte[] value = text.getBytes(StandardCharsets.UTF_8);
            pieces.add(Piece.of(record, 0, at % 3, at / 3, 1_795_420_800_000L + at, value));
            if (at % 4 == 0 && at > 40) {
                Piece copy = pieces.get(at - 40);
                pieces.add(Piece.of(copy.provenance(), 1, 0, at / 4, 1_795_420_800_000L + at, copy.value));
            }
        }
        FakeFactory.PIECES.addAll(pieces);
    }

    private static String source(int record) {
        return String.format("%07x%017x", 29_900_000, record % SOURCES);
    }

    private StreamTableEnvironment tables() {
        configuration.setString("execution.checkpointing.interval", "100 ms");
        configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, folder.resolve("checkpoints").toUri().toString());
        configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        env.setParallelism(2);
        StreamTableEnvironment tables = StreamTableEnvironment.create(env);
        tables.executeSql("CREATE TABLE src (id INT, `day` STRING, fate STRING METADATA VIRTUAL, cause STRING METADATA VIRTUAL, "
                + "il STRING METADATA VIRTUAL) WITH ('connector' = 'isolane-fake', 'clusters' = 'normal=a:1;failover=c:1', "
                + "'topic' = 'a.b.c.1f', 'format' = 'json', 'hand-over.to' = '" + folder.resolve("objects").toUri() + "')");
        return tables;
    }

    private interface Which {
        boolean is(int record);
    }

    /** The ranges of some of the records, as text, for equality. */
    private static Map<String, String> ranges(Which which) {
        Map<String, long[]> ranges = new TreeMap<>();
        for (int at = 0; at < RECORDS; at++) {
            if (which.is(at)) {
                long start = at / SOURCES * 10L;
                ranges.merge(source(at), new long[] {start, start + 10}, Ranges::union);
            }
        }
        return Said.texts(ranges);
    }

    private List<Row> rows(StreamTableEnvironment tables, String query) throws Exception {
        List<Row> rows = new ArrayList<>();
        try (CloseableIterator<Row> each = tables.executeSql(query).collect()) {
            each.forEachRemaining(rows::add);
        }
        return rows;
    }

    @Test
    void theFootersOfAJobThatFailedOnTheWayHaveEachDeliveredRecordOnce() throws Exception {
        StreamTableEnvironment tables = tables();
        tables.createTemporarySystemFunction("stumble", Stumble.class);
        tables.executeSql(Said.table(folder, "good", "id INT, il STRING", "", ""));
        tables.executeSql(Said.table(folder, "apart", "cause STRING, provenance STRING", "", ", 'isolane-parquet.il' = 'provenance'"));
        StatementSet both = tables.createStatementSet();
        both.addInsertSql("INSERT INTO good SELECT stumble(id, '" + folder.resolve("good") + "', " + RECORDS / 3 + "), il FROM src "
                + "WHERE fate IS NULL AND MOD(id, " + FILTERED_EVERY + ") <> 0");
        both.addInsertSql("INSERT INTO apart SELECT cause, il FROM src WHERE fate IS NOT NULL");
        both.execute().await();

        Which isBroken = at -> at % BROKEN_EVERY == 0;
        Which isGood = at -> at % FILTERED_EVERY != 0 && !isBroken.is(at);
        assertTrue(Stumble.filesThen(folder.resolve("good")) > 0, "it never failed behind a committed file");
        Said good = Said.of(folder.resolve("good"));
        Said apart = Said.of(folder.resolve("apart"));
        assertTrue(Said.files(folder.resolve("good")).size() > Stumble.filesThen(folder.resolve("good")), "nothing was committed after the failure");
        assertEquals(ranges(isGood), good.texts());
        assertEquals(ranges(isBroken), apart.texts());
        assertEquals(Set.of("id"), good.columns);

        tables.executeSql("CREATE TABLE again (id INT) WITH ('connector' = 'filesystem', 'path' = '"
                + folder.resolve("good").toUri() + "', 'format' = 'parquet')");
        List<Row> rows = rows(tables, "SELECT id FROM again");
        assertEquals(good.rows, rows.size());
        assertEquals(
                Stream.iterate(0, at -> at + 1).limit(RECORDS).filter(isGood::is).toList(),
                rows.stream().map(row -> (Integer) row.getField(0)).sorted().toList());
        assertEquals(RECORDS / BROKEN_EVERY, apart.rows);
        filteredIsWhatWasTakenAndStandsInNoFile(good, apart, at -> !isGood.is(at) && !isBroken.is(at));
    }

    private void filteredIsWhatWasTakenAndStandsInNoFile(Said good, Said apart, Which which) throws IOException {
        Path newest;
        try (Stream<Path> objects = Files.list(folder.resolve("objects"))) {
            newest = objects.filter(path -> path.toString().endsWith(".json")).max(Comparator.comparing(ParquetFormatTest::checkpoint))
                    .orElseThrow();
        }
        Map<String, long[]> filtered = new TreeMap<>();
        HandOver.read(new org.apache.flink.core.fs.Path(newest.toUri())).sources.forEach((source, taken) -> {
            long[] left = Ranges.difference(taken.ranges(), good.ranges.getOrDefault(source, Ranges.NONE));
            filtered.put(source, Ranges.difference(left, apart.ranges.getOrDefault(source, Ranges.NONE)));
        });
        assertEquals(ranges(which), Said.texts(filtered));
    }

    private static long checkpoint(Path object) {
        String name = object.getFileName().toString();
        return Long.parseLong(name.substring(name.lastIndexOf('-') + 1, name.lastIndexOf('.')));
    }

    @Test
    void partitionsHaveFilesAndFootersOfTheirOwn() throws Exception {
        StreamTableEnvironment tables = tables();
        tables.executeSql(Said.table(folder, "days", "il STRING, id INT, `day` STRING", "PARTITIONED BY (`day`)",
                ", 'isolane-parquet.compression' = 'ZSTD', 'sink.rolling-policy.file-size' = '1 kb'"));
        tables.executeSql("INSERT INTO days SELECT il, id, `day` FROM src WHERE fate IS NULL").await();
        Said even = Said.of(folder.resolve("days/day=d0"));
        Said odd = Said.of(folder.resolve("days/day=d1"));
        assertEquals(ranges(at -> at % 2 == 0 && at % BROKEN_EVERY != 0), even.texts());
        assertEquals(ranges(at -> at % 2 == 1), odd.texts());
        assertEquals(Set.of("id"), odd.columns);
        try (ParquetFileReader reader = Said.open(Said.files(folder.resolve("days/day=d1")).get(0))) {
            assertEquals("ZSTD", reader.getFooter().getBlocks().get(0).getColumns().get(0).getCodec().name());
        }
    }

    @Test
    void tablesThatCouldSayNothingOfTheirRowsAreRefused() {
        String[][] refused = {
            {"id INT, name STRING", "", "", "id, `day`", "needs a column `il` STRING"},
            {"id INT, il INT", "", "", "id, id", "needs a column `il` STRING"},
            {"id INT, il STRING", "PARTITIONED BY (il)", "", "id, il", "not partitioned by"},
            {"il STRING", "", "", "il", "needs a column beside"},
        };
        StreamTableEnvironment tables = tables();
        for (String[] line : refused) {
            tables.executeSql("DROP TABLE IF EXISTS bad");
            tables.executeSql(Said.table(folder, "bad", line[0], line[1], line[2]));
            String insert = "INSERT INTO bad SELECT " + line[3] + " FROM src WHERE fate IS NULL";
            assertTrue(refusal(() -> tables.executeSql(insert)).contains(line[4]), String.join(" ", line));
        }
    }

    @Test
    void aRowWithoutItsProvenanceIsNotWritten() {
        for (String[] line : new String[][] {{"CAST(NULL AS STRING)", "no provenance"}, {"'e1.2.3'", "provenance is none"}}) {
            configuration.setString("restart-strategy.fixed-delay.attempts", "0");
            StreamTableEnvironment tables = tables();
            tables.executeSql(Said.table(folder, "bad", "id INT, il STRING", "", ""));
            String insert = "INSERT INTO bad SELECT id, " + line[0] + " FROM src WHERE fate IS NULL";
            String text = refusal(() -> tables.executeSql(insert).await());
            assertTrue(text.contains(line[1]), text);
            assertEquals(List.of(), Said.files(folder.resolve("bad")));
        }
    }

    static String refusal(org.junit.jupiter.api.function.Executable call) {
        StringBuilder text = new StringBuilder();
        for (Throwable error = assertThrows(Exception.class, call); error != null; error = error.getCause()) {
            text.append(error.getMessage()).append('\n');
        }
        return text.toString();
    }

    /** Flink's filesystem connector loads every format there is to find one. */
    @Test
    void theFormatIsFoundAndHarmsNobodyWhereParquetIsNotInstalled() throws Exception {
        ClassLoader bare = new ClassLoader(getClass().getClassLoader()) {
            @Override
            protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
                if (name.startsWith("org.apache.parquet.") || name.startsWith("org.apache.hadoop.")
                        || name.startsWith("org.apache.flink.formats.parquet.")) {
                    throw new ClassNotFoundException(name);
                }
                if (!name.startsWith("org.isolane.flink.ParquetF")) {
                    return super.loadClass(name, resolve);
                }
                try (var in = getResourceAsStream(name.replace('.', '/') + ".class")) {
                    byte[] bytes = in.readAllBytes();
                    Class<?> known = findLoadedClass(name);
                    return known != null ? known : defineClass(name, bytes, 0, bytes.length);
                } catch (IOException error) {
                    throw new ClassNotFoundException(name, error);
                }
            }
        };
        Class<?> format = Class.forName("org.isolane.flink.ParquetFormat", true, bare);
        assertEquals(bare, format.getClassLoader());
        Object made = format.getConstructor().newInstance();
        assertEquals("isolane-parquet", format.getMethod("factoryIdentifier").invoke(made));
        assertThrows(NoClassDefFoundError.class, () -> Class.forName("org.isolane.flink.ParquetFile", true, bare));
        assertTrue(ServiceLoader.load(org.apache.flink.table.factories.Factory.class, getClass().getClassLoader()).stream()
                .anyMatch(provider -> provider.type().equals(ParquetFormat.class)));
    }
}
