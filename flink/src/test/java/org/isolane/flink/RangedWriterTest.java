package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.flink.api.connector.sink2.CommittingSinkWriter;
import org.apache.flink.api.connector.sink2.StatefulSinkWriter;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.junit.jupiter.api.Test;

/** What goes into a transaction, and when. */
class RangedWriterTest {
    private static final String A = "01c83db0000000000000000a";
    private static final String B = "01c83db0000000000000000b";

    private final Log log = new Log();
    private final RangedWriter<String, String> writer =
            new RangedWriter<>(log, 1, new RangedWriter.Writer("out", "0f", 3), new UnregisteredMetricsGroup());

    /** A transactional sink that notes what it is asked to do. */
    private static final class Log implements StatefulSinkWriter<Outgoing, String>, CommittingSinkWriter<Outgoing, String> {
        private final List<String> steps = new ArrayList<>();
        private final List<String> ranges = new ArrayList<>();

        @Override
        public void write(Outgoing outgoing, Context context) {
            steps.add(outgoing instanceof Outgoing.Row row ? "row " + row.row().getInt(0) : "ranges");
            if (outgoing instanceof Outgoing.Ranges told) {
                ranges.add(told.text());
            }
        }

        @Override
        public void flush(boolean isEnd) {
            steps.add("flush");
        }

        @Override
        public Collection<String> prepareCommit() {
            steps.add("close the transaction");
            return List.of("transaction");
        }

        @Override
        public List<String> snapshotState(long checkpoint) {
            return List.of("state " + checkpoint);
        }

        @Override
        public void close() {
            steps.add("close");
        }
    }

    private static RowData row(int id, String il) {
        return GenericRowData.of(id, StringData.fromString(il));
    }

    private static String il(String source, long start, long end) {
        return new Provenance(Kind.EVENT, source, start, end, 0, null).toString();
    }

    @Test
    void rangesAreTheLastOfATransactionAndSpeakOfItsRowsOnly() throws Exception {
        writer.write(row(1, il(A, 10, 20)), null);
        writer.write(row(2, il(B, 0, 7)), null);
        writer.write(row(3, il(A, 0, 10)), null);
        writer.flush(false);
        assertEquals(List.of("transaction"), writer.prepareCommit());
        assertEquals(List.of("state 7"), writer.snapshotState(7));
        writer.write(row(4, il(A, 20, 30)), null);
        writer.write(row(5, il(A, 20, 30)), null);
        writer.flush(true);
        writer.prepareCommit();
        writer.close();
        assertEquals(
                List.of("row 1", "row 2", "row 3", "ranges", "flush", "close the transaction",
                        "row 4", "row 5", "ranges", "flush", "close the transaction", "close"),
                log.steps);
        String who = "{\"format\":\"isolane.delivered.1\",\"topic\":\"out\",\"job\":\"0f\",\"subtask\":3,";
        assertEquals(
                List.of(who + "\"rows\":3,\"repeated\":0,\"ranges\":{\"" + A + "\":[[0,20]],\"" + B + "\":[[0,7]]}}",
                        who + "\"rows\":2,\"repeated\":10,\"ranges\":{\"" + A + "\":[[20,30]]}}"),
                log.ranges);
    }

    @Test
    void aTransactionWithoutRowsHasNoRanges() throws Exception {
        writer.flush(false);
        writer.prepareCommit();
        assertEquals(List.of("flush", "close the transaction"), log.steps);
    }

    @Test
    void soManyRangesGoOutAsTheyCome() throws Exception {
        int rows = 2 * RangedWriter.RANGES_MAX + 1;
        for (int at = 0; at < rows; at++) {
            writer.write(row(at, il(A, (1L << 47) + 2L * at, (1L << 47) + 2L * at + 1)), null);
        }
        writer.flush(false);
        assertEquals(3, log.ranges.size());
        assertEquals("ranges", log.steps.get(RangedWriter.RANGES_MAX));
        long[] all = Ranges.NONE;
        long told = 0;
        for (String text : log.ranges) {
            assertTrue(text.length() < 900_000, "longer than a topic takes: " + text.length());
            JsonNode record = new ObjectMapper().readTree(text);
            told += record.get("rows").longValue();
            for (JsonNode range : record.get("ranges").get(A)) {
                all = Ranges.insert(all, range.get(0).longValue(), range.get(1).longValue());
            }
        }
        assertEquals(rows, told);
        assertEquals(rows, Ranges.total(all));
    }

    @Test
    void aRowThatCannotBeAccountedForFailsTheJobBeforeItIsWritten() {
        Throwable missing = assertThrows(IllegalArgumentException.class, () -> writer.write(row(1, null), null));
        assertTrue(missing.getMessage().contains("metadata column 'il'"), missing.getMessage());
        Throwable none = assertThrows(IllegalArgumentException.class, () -> writer.write(row(1, "x" + A + ".0.1.0"), null));
        assertTrue(none.getMessage().contains("unknown kind"), none.getMessage());
        assertEquals(List.of(), log.steps);
    }
}
