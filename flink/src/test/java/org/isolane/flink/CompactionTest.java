package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.parquet.example.data.Group;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** Files that Flink has put together, by its own sink on a small cluster in this process: rows and footers stay those of its parts. */
class CompactionTest {
    private static final int RECORDS = 3_000;
    private static final int SOURCES = 7;
    /** Each kind of column that a sink can have; most are NULL now and then. */
    private static final String[] COLUMNS = {
        "a BOOLEAN", "MOD(id, 2) = 0",
        "b TINYINT", "CAST(MOD(id, 200) - 100 AS TINYINT)",
        "c SMALLINT", "CAST(id * 10 AS SMALLINT)",
        "d BIGINT", "CAST(id AS BIGINT) * 1000000000000",
        "e FLOAT", "CAST(id AS FLOAT) / 7",
        "f DOUBLE", "CAST(id AS DOUBLE) / 7",
        "g DECIMAL(9, 2)", "CAST(id / 3.0 AS DECIMAL(9, 2))",
        "h DECIMAL(38, 9)", "CAST(id / 3.0 AS DECIMAL(38, 9)) * 1000000000",
        "i DATE", "CAST(TO_TIMESTAMP_LTZ(id * 86400, 0) AS DATE)",
        "j TIMESTAMP(3)", "CAST(TO_TIMESTAMP_LTZ(id * 86399, 3) AS TIMESTAMP(3))",
        "k TIMESTAMP(9)", "CAST(TO_TIMESTAMP_LTZ(id * 86399, 3) AS TIMESTAMP(9))",
        "l TIMESTAMP_LTZ(3)", "TO_TIMESTAMP_LTZ(-id * 86399, 3)",
        "m BYTES", "ENCODE(CAST(id AS STRING), 'UTF-8')",
        "n CHAR(4)", "CAST('ü' || CAST(MOD(id, 10) AS STRING) AS CHAR(4))",
        "o STRING", "IF(MOD(id, 5) = 0, CAST(NULL AS STRING), 'n' || CAST(id AS STRING))",
        "p ROW<q INT, r ROW<s STRING, t DECIMAL(5, 1)>>", "ROW(id, ROW(IF(MOD(id, 3) = 0, CAST(NULL AS STRING), 'x'), CAST(id / 10.0 AS DECIMAL(5, 1))))",
    };

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(2)
            .build());

    @TempDir
    Path folder;

    private StreamTableEnvironment tables() {
        FakeFactory.PIECES.clear();
        List<Piece> pieces = new ArrayList<>();
        for (int at = 0; at < RECORDS; at++) {
            Provenance record = new Provenance(Kind.EVENT, source(at), at / SOURCES * 10L, at / SOURCES * 10L + 10, 0, null);
            byte[] value = ("{\"id\": " + at + "}").getBytes(StandardCharsets.UTF_8);
            pieces.add(Piece.of(record, 0, at % 3, at / 3, 1_795_420_800_000L + at, value));
        }
        FakeFactory.PIECES.addAll(pieces);
        Configuration configuration = new Configuration();
        configuration.setString("execution.checkpointing.interval", "100 ms");
        configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, folder.resolve("checkpoints").toUri().toString());
        configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        env.setParallelism(2);
        StreamTableEnvironment tables = StreamTableEnvironment.create(env);
        tables.executeSql("CREATE TABLE src (id INT, fate STRING METADATA VIRTUAL, il STRING METADATA VIRTUAL) WITH ("
                + "'connector' = 'isolane-fake', 'clusters' = 'normal=a:1', 'topic' = 'a.b.c.1f', 'format' = 'json')");
        return tables;
    }

    private static String source(int record) {
        return String.format("%07x%017x", 29_900_000, record % SOURCES);
    }

    private static List<String> parts(Path file) throws Exception {
        String files = Said.footer(file).get("isolane.files");
        List<String> parts = new ArrayList<>();
        if (files != null) {
            new ObjectMapper().readTree(files).forEach(name -> parts.add(name.asText()));
        }
        return parts;
    }

    @Test
    void eachDeliveredRecordIsOnceInFilesThatWerePutTogetherByAJobThatFailedOnTheWay() throws Exception {
        StreamTableEnvironment tables = tables();
        tables.createTemporarySystemFunction("stumble", Stumble.class);
        tables.executeSql(Said.table(folder, "days", "il STRING, id INT, `day` STRING", "PARTITIONED BY (`day`)", ", 'auto-compaction' = 'true'"));
        tables.executeSql("INSERT INTO days SELECT il, stumble(id, '" + folder.resolve("days") + "', " + RECORDS / 3 + "), "
                + "'d' || CAST(MOD(id, 2) AS STRING) FROM src WHERE fate IS NULL").await();

        Path days = folder.resolve("days");
        List<Path> files = Said.files(days);
        assertTrue(Stumble.filesThen(folder.resolve("days")) > 0, "it never failed behind a file that was seen");
        assertTrue(files.size() > Stumble.filesThen(folder.resolve("days")), "nothing came after the failure");
        assertTrue(files.stream().allMatch(file -> file.getFileName().toString().startsWith("compacted-part-")), files.toString());
        assertTrue(Said.all(days).stream().noneMatch(file -> file.getFileName().toString().startsWith(".uncompacted-")));

        Map<String, long[]> ranges = new TreeMap<>();
        for (int at = 0; at < RECORDS; at++) {
            long start = at / SOURCES * 10L;
            ranges.merge(source(at), new long[] {start, start + 10}, Ranges::union);
        }
        Said said = Said.of(days);
        assertEquals(Said.texts(ranges), said.texts());
        assertEquals(RECORDS, said.rows);
        List<String> all = new ArrayList<>();
        for (Path file : files) {
            parts(file).forEach(name -> all.add(file.getParent().getFileName() + "/" + name));
        }
        assertTrue(all.size() > 1, "no two files were put together");
        assertEquals(all.size(), all.stream().distinct().count(), "a file is in two");
        assertTrue(all.stream().allMatch(name -> name.contains("/part-")), all.toString());
        List<String> wanted = IntStream.range(0, RECORDS).mapToObj(at -> "id: " + at + "\n").sorted().toList();
        assertEquals(wanted, rows(days));
    }

    @Test
    void everyKindOfColumnComesThroughAsItIs() throws Exception {
        StreamTableEnvironment tables = tables();
        StringBuilder columns = new StringBuilder("id INT");
        StringBuilder values = new StringBuilder("id");
        for (int at = 0; at < COLUMNS.length; at += 2) {
            columns.append(", ").append(COLUMNS[at]);
            values.append(", ").append(COLUMNS[at + 1]);
        }
        tables.executeSql(Said.table(folder, "apart", columns + ", il STRING", "", ""));
        tables.executeSql(Said.table(folder, "together", columns + ", il STRING", "", ", 'auto-compaction' = 'true'"));
        StatementSet both = tables.createStatementSet();
        for (String name : List.of("apart", "together")) {
            both.addInsertSql("INSERT INTO " + name + " SELECT " + values + ", il FROM src WHERE fate IS NULL");
        }
        both.execute().await();
        int parts = 0;
        for (Path file : Said.files(folder.resolve("together"))) {
            parts += parts(file).size();
        }
        assertTrue(parts > 1, "no two files were put together");
        List<String> apart = rows(folder.resolve("apart"));
        assertEquals(RECORDS, apart.size());
        assertEquals(apart, rows(folder.resolve("together")));
        assertEquals(Said.of(folder.resolve("apart")).texts(), Said.of(folder.resolve("together")).texts());
    }

    /** All rows of a folder as they lie there, in a fixed order: Flink's own format cannot read times before 1970. */
    private static List<String> rows(Path folder) throws Exception {
        List<String> rows = new ArrayList<>();
        for (Path path : Said.files(folder)) {
            try (PartReader reader = PartReader.open(new org.apache.flink.core.fs.Path(path.toUri()))) {
                for (Group row = reader.next(); row != null; row = reader.next()) {
                    rows.add(row.toString());
                }
            }
        }
        return rows.stream().sorted().toList();
    }

    @Test
    void aTableIsReadByFlinksOwnFormatOnly() throws Exception {
        StreamTableEnvironment tables = tables();
        Files.createDirectories(folder.resolve("bad"));
        for (String options : List.of("", ", 'auto-compaction' = 'true'")) {
            tables.executeSql("DROP TABLE IF EXISTS bad");
            tables.executeSql(Said.table(folder, "bad", "id INT, il STRING", "", options));
            assertTrue(ParquetFormatTest.refusal(() -> tables.executeSql("SELECT id FROM bad")).contains("use 'format' = 'parquet'"));
        }
    }
}
