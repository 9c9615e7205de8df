package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.junit.jupiter.api.Test;

/** What a sink table takes, and what it refuses before a job is started. */
class KafkaTableTest {
    private static final String COLUMNS = "id INT, il STRING METADATA, k STRING METADATA FROM 'key', "
            + "h MAP<STRING, STRING> METADATA FROM 'headers', t TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'";
    private static final String PREFIX = ", 'transactional-id-prefix' = 'p'";

    private final Configuration configuration = new Configuration();

    private String plan(String columns, String options) {
        StreamTableEnvironment tables =
                StreamTableEnvironment.create(StreamExecutionEnvironment.getExecutionEnvironment(configuration));
        tables.executeSql("CREATE TABLE src (id INT, il STRING) WITH ('connector' = 'datagen', 'number-of-rows' = '1')");
        tables.executeSql("CREATE TABLE snk (" + columns + ") WITH ('connector' = 'isolane-kafka', "
                + "'brokers' = '127.0.0.1:1', 'topic' = 'out', 'format' = 'json'" + options + ")");
        String columnsGiven = columns.equals(COLUMNS) ? "id, il, 'k', MAP['a', 'b'], CURRENT_TIMESTAMP" : "*";
        return tables.explainSql("INSERT INTO snk SELECT " + columnsGiven + " FROM src");
    }

    private String refusal(String columns, String options) {
        StringBuilder text = new StringBuilder();
        for (Throwable error = assertThrows(Exception.class, () -> plan(columns, options)); error != null; error = error.getCause()) {
            text.append(error.getMessage()).append('\n');
        }
        return text.toString();
    }

    @Test
    void keyHeadersAndTimeAreColumnsOfText() {
        configuration.setString("execution.checkpointing.interval", "1 s");
        String plan = plan(COLUMNS, PREFIX);
        assertTrue(plan.contains("snk"), plan);
    }

    @Test
    void optionsThatCannotBeAreRefusedWithWhatToDo() {
        configuration.setString("execution.checkpointing.interval", "1 s");
        String[][] refused = {
            {COLUMNS, "", "transactional-id-prefix"},
            {COLUMNS, ", 'transactional-id-prefix' = 'a b'", "must be 1 to 249"},
            {COLUMNS, PREFIX + ", 'ranges-topic' = 'out'", "another topic"},
            {COLUMNS, PREFIX + ", 'properties.transactional.id' = 'x'", "is said by the connector itself"},
            {COLUMNS, PREFIX + ", 'properties.transaction.timeout.ms' = '600000'", "may need 691000 ms"},
            {COLUMNS, PREFIX + ", 'properties.transaction.timeout.ms' = 'long'", "no number of ms"},
            {COLUMNS, PREFIX + ", 'lost-transactions' = 'shrug'", "lost-transactions"},
            {COLUMNS, PREFIX + ", 'brokrs' = 'a'", "brokrs"},
            {"id INT, il STRING", PREFIX, "`il` STRING METADATA"},
        };
        for (String[] line : refused) {
            String text = refusal(line[0], line[1]);
            assertTrue(text.contains(line[2]), line[1] + ": " + text);
        }
    }

    @Test
    void jobsWhoseTransactionsWouldNotBeCommittedAreRefused() {
        assertTrue(refusal(COLUMNS, PREFIX).contains("execution.checkpointing.interval"));
        configuration.setString("execution.checkpointing.interval", "1 s");
        String[][] unsafe = {
            {"execution.checkpointing.unaligned.enabled", "true"},
            {"execution.checkpointing.mode", "AT_LEAST_ONCE"},
            {"execution.runtime-mode", "BATCH"},
        };
        for (String[] line : unsafe) {
            configuration.setString(line[0], line[1]);
            assertTrue(refusal(COLUMNS, PREFIX).contains("aligned, exactly-once"), line[0]);
            configuration.removeKey(line[0]);
        }
        configuration.setString("execution.checkpointing.min-pause", "1 h");
        assertTrue(refusal(COLUMNS, PREFIX).contains("may need 4290000 ms"));
    }

    @Test
    void aTransactionOutlivesACheckpointAndARestart() {
        assertEquals(900_000, TransactionTime.of(1_000, 600_000, null));
        assertEquals(691_000, TransactionTime.of(1_000, 600_000, " 691000 "));
        assertThrows(ValidationException.class, () -> TransactionTime.of(1_000, 600_000, "690999"));
        Throwable error = assertThrows(ValidationException.class, () -> TransactionTime.of(3_600_000, 600_000, null));
        assertTrue(error.getMessage().contains("'properties.transaction.timeout.ms' = '4290000'"), error.getMessage());
        assertEquals(4_290_000, TransactionTime.of(3_600_000, 600_000, "4290000"));
    }
}
