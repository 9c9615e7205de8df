// The answers of Flink's SQL functions, which the embedded engine must repeat: `cargo xtask golden`.
//
//   java -cp 'FLINK/lib/*' Golden.java CASES OUT EVERY
//
// Reads the cases (see cases.txt) and writes one JSON line per case; with EVERY > 1 only every EVERY-th expression is
// asked and the cases of the others are empty lines, so that a line's number is the case's number in any run.
// Every input comes from a JSON file, never from a literal: the planner would fold a literal and answer by itself.
// Each expression is one query over all inputs of its block. If that fails, each input is asked alone, so that a failure
// belongs to one case. One small cluster in this JVM runs all queries; session time zone UTC.

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.Table;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

public final class Golden {
    static final ObjectMapper JSON = new ObjectMapper();
    /** Queries planned and run at the same time; the cluster has a slot for each. */
    static final int WORKERS = 3;
    /** Longest wait for all inputs of one expression. */
    static final long EXPRESSION_MINUTES_MAX = 10;

    /** Columns with their SQL types, the inputs, and what is asked about each of them. */
    record Block(String name, Map<String, String> types, List<List<Object>> rows, List<Question> questions) {}

    record Question(String function, String sql, boolean refused) {}

    /** What Flink said about one input: text or NULL, or that the query failed. */
    record Answer(String text, boolean fails) {}

    /** The query failed while it ran, for the reason named as the cause. */
    static final class FailedAtRunTime extends Exception {
        FailedAtRunTime(Throwable cause) {
            super(cause);
        }
    }

    public static void main(String[] arguments) {
        int status = 1;
        try (MiniCluster cluster = start()) {
            Configuration client = configuration();
            client.setString("execution.target", "remote");
            client.setString("rest.address", cluster.getRestAddress().get().getHost());
            client.setString("rest.port", "" + cluster.getRestAddress().get().getPort());
            Path out = Path.of(arguments[1]).toAbsolutePath();
            Path inputs = Files.createDirectories(out.resolveSibling("inputs"));
            Files.writeString(out, ask(read(Path.of(arguments[0])), client, inputs, Integer.parseInt(arguments[2])));
            status = 0;
        } catch (Throwable failure) {
            failure.printStackTrace();
        }
        System.exit(status); // Flink's own threads would keep the JVM
    }

    static Configuration configuration() {
        Configuration c = new Configuration();
        c.setString("restart-strategy.type", "none");
        c.setString("parallelism.default", "1");
        c.setString("rest.address", "localhost");
        c.setString("rest.port", "0");
        c.setString("taskmanager.memory.network.min", "32mb");
        c.setString("taskmanager.memory.network.max", "32mb");
        c.setString("taskmanager.memory.managed.size", "16mb");
        c.setString("classloader.check-leaked-classloader", "false");
        c.setString("table.local-time-zone", "UTC");
        c.setString("table.exec.resource.default-parallelism", "1");
        return c;
    }

    static MiniCluster start() throws Exception {
        MiniCluster cluster = new MiniCluster(new MiniClusterConfiguration.Builder()
            .setConfiguration(configuration()).setNumTaskManagers(1).setNumSlotsPerTaskManager(2 * WORKERS).build());
        cluster.start();
        return cluster;
    }

    // Reading the cases

    static List<Block> read(Path cases) throws Exception {
        List<Block> blocks = new ArrayList<>();
        for (String line : Files.readAllLines(cases)) {
            if (line.isBlank() || line.startsWith("#")) continue;
            String[] words = line.split(" ", 2);
            Block block = blocks.isEmpty() ? null : blocks.get(blocks.size() - 1);
            switch (words[0]) {
                case "table" -> blocks.add(new Block("t" + blocks.size(), types(words[1]), new ArrayList<>(), new ArrayList<>()));
                case "values" -> { for (Object value : JSON.readValue(words[1], Object[].class)) block.rows.add(row(value)); }
                case "row" -> block.rows.add(row(JSON.readValue(words[1], Object[].class)));
                case "refused" -> block.questions.add(question(words[1], true));
                default -> block.questions.add(question(line, false));
            }
        }
        return blocks;
    }

    static Map<String, String> types(String columns) {
        Map<String, String> types = new LinkedHashMap<>();
        for (String column : columns.split("; ")) types.put(column.split(" ", 2)[0], column.split(" ", 2)[1]);
        return types;
    }

    static List<Object> row(Object... values) {
        List<Object> row = new ArrayList<>(); // List.of takes no null
        for (Object value : values) row.add(value);
        return row;
    }

    static Question question(String line, boolean refused) {
        String[] parts = line.split(": ", 2);
        return new Question(parts[0], parts[1], refused);
    }

    // Asking

    /** The lines of all cases. */
    static String ask(List<Block> blocks, Configuration client, Path inputs, int every) throws Exception {
        for (Block block : blocks) Files.writeString(input(inputs, block), rows(block));
        ExecutorService workers = Executors.newFixedThreadPool(WORKERS);
        ThreadLocal<StreamTableEnvironment> session = ThreadLocal.withInitial(() -> session(client, blocks, inputs));
        List<Future<String>> parts = new ArrayList<>();
        for (Block block : blocks) {
            for (Question question : block.questions) {
                boolean asked = parts.size() % every == 0;
                parts.add(workers.submit(() -> asked ? lines(session.get(), block, question) : unasked(block, question)));
            }
        }
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < parts.size(); i++) {
            lines.append(parts.get(i).get(EXPRESSION_MINUTES_MAX, TimeUnit.MINUTES));
            if ((i + 1) % 50 == 0) System.err.println("   " + (i + 1) + " of " + parts.size() + " expressions");
        }
        return lines.toString();
    }

    /** A planner with all blocks as tables. A planner serves one thread only. */
    static StreamTableEnvironment session(Configuration client, List<Block> blocks, Path inputs) {
        StreamTableEnvironment session = StreamTableEnvironment.create(
            StreamExecutionEnvironment.getExecutionEnvironment(client),
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(client).build());
        for (Block block : blocks) {
            StringBuilder columns = new StringBuilder("id INT");
            block.types.forEach((name, type) -> columns.append(", ").append(name).append(' ').append(type));
            session.executeSql("CREATE TEMPORARY TABLE " + block.name + " (" + columns + ") WITH ('connector' = 'filesystem', "
                + "'path' = '" + input(inputs, block).toUri() + "', 'format' = 'json', 'json.timestamp-format.standard' = 'SQL')");
        }
        return session;
    }

    static Path input(Path inputs, Block block) {
        return inputs.resolve(block.name + ".json");
    }

    /** The file behind a block's table. */
    static String rows(Block block) throws Exception {
        StringBuilder text = new StringBuilder();
        for (int id = 0; id < block.rows.size(); id++) {
            Map<String, Object> row = new LinkedHashMap<>();
            row.put("id", id);
            row.putAll(values(block, id));
            text.append(JSON.writeValueAsString(row)).append('\n');
        }
        return text.toString();
    }

    static Map<String, Object> values(Block block, int id) {
        Map<String, Object> values = new LinkedHashMap<>();
        for (String name : block.types.keySet()) values.put(name, block.rows.get(id).get(values.size()));
        return values;
    }

    static String unasked(Block block, Question question) {
        return question.refused ? "" : "\n".repeat(block.rows.size());
    }

    /** The lines of one expression's cases; none if Flink refuses it, as the cases say it must. */
    static String lines(StreamTableEnvironment session, Block block, Question question) throws Exception {
        String type;
        try {
            Table query = query(session, block, question, "");
            type = query.getResolvedSchema().getColumnDataTypes().get(1).getLogicalType().asSummaryString();
            query.explain();
        } catch (RuntimeException refusal) {
            if (question.refused) return "";
            throw new IllegalStateException("refused by Flink: " + question.sql, refusal);
        }
        if (question.refused) throw new IllegalStateException("no longer refused by Flink: " + question.sql);
        StringBuilder lines = new StringBuilder();
        List<Answer> answers = answers(session, block, question);
        for (int id = 0; id < answers.size(); id++) {
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("fn", question.function);
            line.put("expr", question.sql);
            line.put("types", block.types);
            line.put("in", values(block, id));
            line.put("out", answers.get(id).text);
            line.put("type", type);
            line.put("error", answers.get(id).fails ? "fails" : null);
            lines.append(JSON.writeValueAsString(line)).append('\n');
        }
        return lines.toString();
    }

    static Table query(StreamTableEnvironment session, Block block, Question question, String where) {
        return session.sqlQuery("SELECT id, r, CAST(r AS STRING) AS s FROM (SELECT id, " + question.sql + " AS r FROM "
            + block.name + where + ")");
    }

    /** The answers for all inputs together or, if that fails, for each input alone. */
    static List<Answer> answers(StreamTableEnvironment session, Block block, Question question) throws Exception {
        int inputs = block.rows.size();
        try {
            return run(query(session, block, question, ""), question, 0, inputs);
        } catch (FailedAtRunTime together) {
            List<Answer> answers = new ArrayList<>();
            for (int id = 0; id < inputs; id++) {
                try {
                    answers.addAll(run(query(session, block, question, " WHERE id = " + id), question, id, 1));
                } catch (FailedAtRunTime alone) {
                    answers.add(new Answer(null, true));
                }
            }
            return answers;
        }
    }

    /** Runs a query to its end; one answer for each of the `count` inputs from `first`. */
    static List<Answer> run(Table query, Question question, int first, int count) throws Exception {
        Answer[] answers = new Answer[count];
        try (CloseableIterator<Row> rows = query.execute().collect()) {
            while (rows.hasNext()) {
                Row row = rows.next();
                String text = (String) row.getField(2);
                if ((row.getField(1) == null) != (text == null)) throw new AssertionError("its text differs in NULL: " + question.sql);
                answers[(Integer) row.getField(0) - first] = new Answer(text, false);
            }
        } catch (Exception failure) {
            throw byTheExpression(failure) ? new FailedAtRunTime(failure) : failure;
        }
        for (Answer answer : answers) {
            if (answer == null) throw new AssertionError("an input without a row: " + question.sql);
        }
        return List.of(answers);
    }

    /** Whether the expression failed, and not the cluster under it (no slot, no memory, a lost connection). */
    static boolean byTheExpression(Throwable failure) {
        Throwable root = failure;
        while (root.getCause() != null) root = root.getCause();
        return root instanceof RuntimeException || root instanceof JsonProcessingException;
    }
}
