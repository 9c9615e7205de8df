package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HandOverTest {
    @TempDir
    Path folder;

    /** The Rust side reads the same text as a leg's state. */
    @Test
    void theTextIsTheOneThatTheRustSideReads() throws IOException {
        String text = Files.readString(Path.of("../crates/stream/vectors/hand-over.json"));
        HandOver object = HandOver.parse(text);
        assertEquals(text, object.print());
        assertArrayEquals(
                new long[] {0, 500, 600, 1L << 48}, object.sources.get("01a2b3c4d5e6f708192a3b4c").ranges());
        assertEquals(new HandOver.Position(17, 1_795_420_800_000L, 7), object.positions.get(new HandOver.Place(0, 0)));
        // All 64 bits count: as a number of Java's it is negative.
        assertEquals(new HandOver.Position(1, 1_795_420_799_999L, -2), object.positions.get(new HandOver.Place(1, 0)));
        assertEquals(TopicLog.UNKNOWN, object.positions.get(new HandOver.Place(0, 2)).log());
        assertEquals(500, object.sources.get("01c83dc0000000000000000b").finished());
        assertEquals(-1, object.sources.get("01c83db0000000000000000a").finished());
        long[] last = object.sources.get("01c83dc0000000000000000b").last();
        assertEquals(2, LastPlaces.count(last));
        HandOver.Place second = new HandOver.Place(0, 2);
        assertEquals(new LastPlaces.Seen(second, (1L << 48) - 2, 1_795_420_800_001L), LastPlaces.get(last, 1));
        // Where nobody said where a source was last seen, it was behind no position.
        long[] positions = object.withLast(object.sources.get("01a2b3c4d5e6f708192a3b4c")).last();
        assertEquals(3, LastPlaces.count(positions));
        assertEquals(new LastPlaces.Seen(new HandOver.Place(0, 0), 16, 1_795_420_800_000L), LastPlaces.get(positions, 0));
        assertEquals(29_900_123, object.horizonMinutes);
    }

    @Test
    void aPartitionThatAnObjectDoesNotNameIsReadFromItsBeginningAndNobodyIsAsked() {
        HandOver object = new HandOver();
        object.positions.put(new HandOver.Place(0, 1), new HandOver.Position(7, 0, 0));
        object.positions.put(new HandOver.Place(1, 0), new HandOver.Position(9, 0, 0));
        List<TopicPartition> partitions = List.of(new TopicPartition("t", 0), new TopicPartition("t", 1));
        Map<TopicPartition, Long> offsets = HandOverOffsets.of(object, "t", 0).getPartitionOffsets(partitions, null);
        assertEquals(Map.of(partitions.get(0), KafkaPartitionSplit.EARLIEST_OFFSET, partitions.get(1), 7L), offsets);
    }

    @Test
    void whatIsNoObjectIsRefusedWithTheReason() {
        String source = "{\"format\":\"isolane.hand-over.1\",\"topic\":\"t\",\"positions\":[],\"sources\":{\"%s\":{\"taken\":%s}}}";
        String id = "01a2b3c4d5e6f708192a3b4c";
        String[][] broken = {
            {"", "format"}, {"{", "end-of-input"}, {"[]", "format"}, {"{\"format\":\"isolane.hand-over.2\"}", "format"},
            {"{\"format\":\"isolane.hand-over.1\"}", "topic"},
            {"{\"format\":\"isolane.hand-over.1\",\"topic\":\"t\",\"sources\":{}}", "positions"},
            {"{\"format\":\"isolane.hand-over.1\",\"topic\":\"t\",\"positions\":[{\"place\":{\"cluster\":0,\"partition\":-1},"
                    + "\"offset\":1}],\"sources\":{}}", "partition"},
            {"{\"format\":\"isolane.hand-over.1\",\"topic\":\"t\",\"positions\":[{\"place\":{\"cluster\":0,\"partition\":1},"
                    + "\"offset\":\"1\"}],\"sources\":{}}", "offset"},
            {"{\"format\":\"isolane.hand-over.1\",\"topic\":\"t\",\"positions\":[{\"place\":{\"cluster\":0,\"partition\":1},"
                    + "\"offset\":1,\"log\":18446744073709551616}],\"sources\":{}}", "log"},
            {String.format(source, "01a2", "[]"), "source"}, {String.format(source, id, "[[1]]"), "taken"},
            {String.format(source, id, "[[5,4]]"), "no range"}, {String.format(source, id, "[[\"0\",4]]"), "taken"},
            {String.format(source, id, "null"), "taken"},
        };
        for (String[] line : broken) {
            IOException error = assertThrows(IOException.class, () -> HandOver.parse(line[0]), line[0]);
            assertTrue(error.getMessage().contains(line[1]), line[0] + ": " + error.getMessage());
        }
    }

    @Test
    void whichLogAPositionIsOfIsKnownFromEither() {
        HandOver.Position told = new HandOver.Position(3, 1, 9);
        HandOver.Position further = new HandOver.Position(5, 2, TopicLog.UNKNOWN);
        assertEquals(new HandOver.Position(5, 2, 9), HandOver.Position.max(told, further));
        assertEquals(new HandOver.Position(5, 2, 9), HandOver.Position.max(further, told));
    }

    /** By the function in {@code crates/kafka/src/cluster.rs}. */
    @Test
    void aTopicsLogIsTheNumberThatTheRustSideMakesOfItsId() {
        assertEquals(0x0123_4567_89ab_cdefL ^ 0xfedc_ba98_0000_0001L, TopicLog.of(new Uuid(0x0123_4567_89ab_cdefL, 0xfedc_ba98_0000_0001L)));
        assertEquals(1, TopicLog.of(new Uuid(5, 5)));
        assertEquals(TopicLog.UNKNOWN, TopicLog.of(Uuid.ZERO_UUID));
    }

    @Test
    void aSourceThatTwoSubtasksKnowIsAnError() throws IOException {
        HandOver one = new HandOver();
        HandOver other = new HandOver();
        one.sources.put("01a2b3c4d5e6f708192a3b4c", new HandOver.Taken(Ranges.of(0, 4), -1, LastPlaces.NONE));
        other.sources.put("01a2b3c4d5e6f708192a3b4c", new HandOver.Taken(Ranges.of(4, 8), -1, LastPlaces.NONE));
        assertThrows(IOException.class, () -> one.add(other));
    }

    @Test
    void whoFindsTheNameFindsAllOfIt() throws IOException {
        org.apache.flink.core.fs.Path path = new org.apache.flink.core.fs.Path(folder.toString(), "object.json");
        HandOver object = new HandOver();
        object.write(path);
        object.checkpoint = 8;
        object.write(path);
        assertEquals(8, HandOver.read(path).checkpoint);
        try (java.util.stream.Stream<Path> files = Files.list(folder)) {
            assertEquals(1, files.count(), "something is left beside it");
        }
        Files.writeString(folder.resolve("torn.json"), object.print().substring(0, 20));
        IOException error = assertThrows(
                IOException.class, () -> HandOver.read(new org.apache.flink.core.fs.Path(folder.toString(), "torn.json")));
        assertTrue(error.getMessage().contains("torn.json"), error.getMessage());
    }
}
