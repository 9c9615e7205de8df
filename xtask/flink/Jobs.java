// Whole jobs on Flink: those whose answers the embedded engine must repeat (`cargo xtask golden jobs`), and those whose cost it is held
// against (`cargo xtask bench flink`).
//
//   java [-Dworkers=N] -cp 'FLINK/lib/*:EXTRA/*' Jobs.java BROKERS WORK
//
// WORK/jobs.tsv names each job, its topic and the file of its records, or - for a topic that has them; WORK/texts/JOB.sql is its text as
// `isolane sql flink` wrote it. The records are offered to a real Kafka first, with headers, append times and partitions as
// tests/src/whole_jobs.rs says. Then each job reads its topic through the connector, to where it ended when the job began, and writes what it is told to: WORK/out/JOB.
// One small cluster in this JVM runs all jobs, N at a time, in their order. What it says of a job's CPU is the JVM's meanwhile: with one
// worker it is the job's own, compilers and garbage collector included. Its state is that of its largest checkpoint.

import com.sun.management.OperatingSystemMXBean;
import java.io.ByteArrayOutputStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

import org.apache.flink.api.common.JobID;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Jobs {
    /** Jobs that run at the same time, and subtasks of each. */
    static final int WORKERS = Integer.getInteger("workers", 2);
    static final int SUBTASKS = 2;
    static final long JOB_MINUTES_MAX = 5;
    static final int PARTITIONS = 4;
    // As in tests/src/whole_jobs.rs.
    static final String SOURCE = "1c83d0a000000000deadbeef";
    static final long APPENDED_MS = 1_431_820_800_000L;
    static final long SENT_MS = 1_446_249_600_000L;

    public static void main(String[] arguments) {
        int status = 1;
        Path work = Path.of(arguments[1]);
        try (MiniCluster cluster = start()) {
            List<String> names = new ArrayList<>();
            Map<String, Path> inputs = new LinkedHashMap<>();
            for (String line : Files.readAllLines(work.resolve("jobs.tsv"))) {
                String[] job = line.split("\t");
                names.add(job[0]);
                if (!job[2].equals("-")) inputs.put(job[1], Path.of(job[2]));
            }
            if (!inputs.isEmpty()) offer(arguments[0], inputs);
            Configuration client = configuration();
            client.setString("execution.target", "remote");
            client.setString("rest.address", cluster.getRestAddress().get().getHost());
            client.setString("rest.port", "" + cluster.getRestAddress().get().getPort());
            ExecutorService workers = Executors.newFixedThreadPool(WORKERS);
            List<Future<?>> running = new ArrayList<>();
            for (String name : names) {
                running.add(workers.submit(() -> run(cluster, client, name, Files.readString(work.resolve("texts/" + name + ".sql")))));
            }
            for (Future<?> job : running) job.get();
            status = 0;
        } catch (Throwable failure) {
            failure.printStackTrace();
        }
        System.exit(status); // Flink's own threads would keep the JVM
    }

    static Configuration configuration() {
        Configuration c = new Configuration();
        c.setString("restart-strategy.type", "none");
        c.setString("parallelism.default", "" + SUBTASKS);
        c.setString("execution.checkpointing.interval", "2 s");
        // In the job manager's memory a checkpoint holds 5 MB at most.
        c.setString("execution.checkpointing.dir", Path.of(System.getProperty("java.io.tmpdir"), "checkpoints").toUri().toString());
        c.setString("rest.address", "localhost");
        c.setString("rest.port", "0");
        c.setString("taskmanager.memory.network.min", "64mb");
        c.setString("taskmanager.memory.network.max", "64mb");
        c.setString("taskmanager.memory.managed.size", "16mb");
        c.setString("classloader.check-leaked-classloader", "false");
        c.setString("table.local-time-zone", "UTC");
        return c;
    }

    static MiniCluster start() throws Exception {
        MiniCluster cluster = new MiniCluster(new MiniClusterConfiguration.Builder()
            .setConfiguration(configuration()).setNumTaskManagers(1).setNumSlotsPerTaskManager(SUBTASKS * WORKERS).build());
        cluster.start();
        return cluster;
    }

    /** Each topic's records, in order, from partition to partition. */
    static void offer(String brokers, Map<String, Path> inputs) throws Exception {
        Properties kafka = new Properties();
        kafka.setProperty("bootstrap.servers", brokers);
        kafka.setProperty("acks", "all");
        kafka.setProperty("linger.ms", "5");
        // A new topic's leader may refuse the first batch; numbered ones that were sent behind it never get in order again. Without
        // numbers a batch may come twice: its ranges say so, and the connector drops it.
        kafka.setProperty("enable.idempotence", "false");
        kafka.setProperty("max.in.flight.requests.per.connection", "1");
        try (Admin admin = Admin.create(kafka)) {
            // Append times lie in the past: nothing may be removed for its age.
            Map<String, String> kept = Map.of("retention.ms", "-1");
            List<NewTopic> topics = new ArrayList<>();
            inputs.keySet().forEach(name -> topics.add(new NewTopic(name, PARTITIONS, (short) 1).configs(kept)));
            admin.createTopics(topics).all().get();
        }
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(kafka, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<?>> sent = new ArrayList<>();
            for (Map.Entry<String, Path> input : inputs.entrySet()) {
                long start = 0;
                int n = 0;
                for (byte[] body : lines(Files.readAllBytes(input.getValue()))) {
                    String time = n % 2 == 0 ? "." + (SENT_MS + n * 60_000L) : "";
                    int length = body.length + 1;
                    String il = "e" + SOURCE + "." + Long.toHexString(start) + "." + Integer.toHexString(length) + ".0" + time;
                    RecordHeader header = new RecordHeader("il", il.getBytes(StandardCharsets.US_ASCII));
                    sent.add(producer.send(new ProducerRecord<>(
                        input.getKey(), n % PARTITIONS, APPENDED_MS + n * 10L, null, body, List.of(header))));
                    start += length;
                    n++;
                }
            }
            producer.flush();
            for (Future<?> one : sent) one.get();
        }
    }

    static List<byte[]> lines(byte[] input) {
        List<byte[]> lines = new ArrayList<>();
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (int at = 0; at < input.length; at++) {
            if (input[at] != '\n') {
                line.write(input[at]);
            }
            if (input[at] == '\n' || at == input.length - 1) {
                lines.add(line.toByteArray());
                line.reset();
            }
        }
        return lines;
    }

    /** Runs a job to its end; its files are committed then. */
    static Void run(MiniCluster cluster, Configuration client, String name, String script) throws Exception {
        long began = System.nanoTime();
        long cpuBefore = cpu();
        int set = script.indexOf("EXECUTE STATEMENT SET BEGIN\n");
        long state;
        try {
            TableEnvironment session =
                TableEnvironment.create(EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(client).build());
            for (String statement : script.substring(0, set).split(";\n")) {
                session.executeSql(statement);
            }
            if (script.contains("`isolane source`")) session.executeSql("ALTER TABLE `isolane source` SET ('bounded' = 'true')");
            TableResult job = session.executeSql(script.substring(set));
            job.await(JOB_MINUTES_MAX, TimeUnit.MINUTES);
            JobID id = job.getJobClient().orElseThrow().getJobID();
            state = cluster.getExecutionGraph(id).get().getCheckpointStatsSnapshot().getSummaryStats().getStateSizeStats().getMaximum();
        } catch (Exception failure) {
            throw new Exception("job " + name, failure);
        }
        System.err.println("   " + name + ": " + (System.nanoTime() - began) / 1_000_000 + " ms, CPU " + (cpu() - cpuBefore) / 1_000_000
            + " ms, state " + state + " B");
        return null;
    }

    /** What this JVM has used, in ns. */
    static long cpu() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }
}
