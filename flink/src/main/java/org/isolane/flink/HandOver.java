package org.isolane.flink;

import java.io.IOException;
import java.math.BigInteger;
import java.util.Iterator;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.core.fs.FSDataInputStream;
import org.apache.flink.core.fs.FSDataOutputStream;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.ArrayNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.ObjectNode;

/**
 * Where a leg stands, for whoever goes on from there: JSON text whose fields are those of a leg's state on the Rust side.
 *
 * <pre>
 * {"format": "isolane.hand-over.1", "topic": "a.b.c.1f", "job": "...", "checkpoint": 7, "horizon_minutes": null,
 *  "positions": [{"place": {"cluster": 0, "partition": 2}, "offset": 17, "append_time_ms": 1795420800000, "log": 1234}],
 *  "sources": {"01a2b3c4d5e6f708192a3b4c": {"taken": [[0, 500]], "finished": 500,
 *   "last": [{"place": {"cluster": 0, "partition": 2}, "offset": 16, "append_time_ms": 1795420800000}]}}}
 * </pre>
 *
 * Everything before {@code offset} has been taken; of a partition that is not named nothing was. {@code append_time_ms} is that of the last record taken,
 * {@code log} the number of the partition's log without sign, left out where it is not known, see {@link TopicLog}. {@code finished} is a source's length,
 * once its end was read. {@code last} is where the source was last seen, per place. Where it is empty the positions stand for it: no
 * record of any source was seen behind them, so that a source may be forgotten later than it could be, never sooner.
 */
final class HandOver {
    /** The value of {@code format}. */
    static final String FORMAT = "isolane.hand-over.1";
    /** Longest object: twice what range sets may take on the Rust side, as text. */
    static final long BYTES_MAX = 256L << 20;

    private static final ObjectMapper JSON = new ObjectMapper();

    /** A partition of a cluster. */
    record Place(int cluster, int partition) implements Comparable<Place> {
        @Override
        public int compareTo(Place other) {
            return cluster != other.cluster ? Integer.compare(cluster, other.cluster)
                    : Integer.compare(partition, other.partition);
        }
    }

    /** How far a place has been taken: everything before the offset, the last of it appended at a time in ms since 1970. */
    record Position(long offset, long appendTimeMs, long log) {
        /** The one further on; which log it is of may be known from either. */
        static Position max(Position one, Position other) {
            Position further = one.offset >= other.offset ? one : other;
            long log = one.log == TopicLog.UNKNOWN ? other.log : one.log;
            return further.log == log ? further : new Position(further.offset, further.appendTimeMs, log);
        }
    }

    /** What is known of a source: its ranges, its length or -1, and where it was last seen, see {@link LastPlaces}. */
    record Taken(long[] ranges, long finished, long[] last) {}

    String topic = "";
    String job = "";
    long checkpoint;
    int horizonMinutes = Dedup.NO_HORIZON;
    final Map<Place, Position> positions = new TreeMap<>();
    final Map<String, Taken> sources = new TreeMap<>();

    /** Adds what another subtask of the same checkpoint knows. No source is known to two of them. */
    void add(HandOver part) throws IOException {
        if (part.checkpoint != checkpoint || !part.topic.equals(topic)) {
            throw new IOException("parts of other checkpoints or topics: " + part.topic + ", " + part.checkpoint);
        }
        part.positions.forEach((place, position) -> positions.merge(place, position, Position::max));
        horizonMinutes = Math.max(horizonMinutes, part.horizonMinutes);
        for (Map.Entry<String, Taken> source : part.sources.entrySet()) {
            if (sources.put(source.getKey(), source.getValue()) != null) {
                throw new IOException("source " + source.getKey() + " is known to two subtasks");
            }
        }
    }

    /** Its text. */
    String print() throws IOException {
        ObjectNode root = JSON.createObjectNode();
        root.put("format", FORMAT).put("topic", topic).put("job", job).put("checkpoint", checkpoint);
        root.put("horizon_minutes", horizonMinutes == Dedup.NO_HORIZON ? null : (Integer) horizonMinutes);
        ArrayNode places = root.putArray("positions");
        positions.forEach((place, position) -> {
            ObjectNode node = places.addObject();
            putPlace(node, place);
            node.put("offset", position.offset).put("append_time_ms", position.appendTimeMs);
            if (position.log != TopicLog.UNKNOWN) {
                node.put("log", new BigInteger(Long.toUnsignedString(position.log)));
            }
        });
        ObjectNode all = root.putObject("sources");
        sources.forEach((id, taken) -> {
            ObjectNode node = all.putObject(id);
            ArrayNode ranges = node.putArray("taken");
            for (int at = 0; at < taken.ranges.length; at += 2) {
                ranges.addArray().add(taken.ranges[at]).add(taken.ranges[at + 1]);
            }
            node.put("finished", taken.finished < 0 ? null : (Long) taken.finished);
            ArrayNode last = node.putArray("last");
            for (int at = 0; at < LastPlaces.count(taken.last); at++) {
                LastPlaces.Seen seen = LastPlaces.get(taken.last, at);
                ObjectNode one = last.addObject();
                putPlace(one, seen.place());
                one.put("offset", seen.offset()).put("append_time_ms", seen.appendTimeMs());
            }
        });
        return JSON.writeValueAsString(root) + "\n";
    }

    private static void putPlace(ObjectNode node, Place place) {
        node.putObject("place").put("cluster", place.cluster).put("partition", place.partition);
    }

    private static Place place(JsonNode node) throws IOException {
        JsonNode place = required(node, "place");
        return new Place((int) number(place, "cluster"), (int) number(place, "partition"));
    }

    /**
     * Reads the text.
     *
     * @throws IOException if it is no hand-over object; the message says where
     */
    static HandOver parse(String text) throws IOException {
        try {
            JsonNode root = JSON.readTree(text);
            if (!FORMAT.equals(root.path("format").textValue())) {
                throw new IOException("format is not " + FORMAT);
            }
            HandOver object = new HandOver();
            object.topic = required(root, "topic").asText();
            object.job = root.path("job").asText("");
            object.checkpoint = root.path("checkpoint").asLong(0);
            object.horizonMinutes = root.path("horizon_minutes").asInt(Dedup.NO_HORIZON);
            for (JsonNode node : required(root, "positions")) {
                // The Rust side's own states have no time here.
                Position position = new Position(number(node, "offset"), node.path("append_time_ms").asLong(0), log(node));
                object.positions.merge(place(node), position, Position::max);
            }
            for (Iterator<Map.Entry<String, JsonNode>> each = required(root, "sources").fields(); each.hasNext(); ) {
                Map.Entry<String, JsonNode> source = each.next();
                object.sources.put(SourceId.parse(source.getKey()), taken(source.getValue()));
            }
            return object;
        } catch (JsonProcessingException | HeaderException | IllegalArgumentException error) {
            throw new IOException(error.getMessage(), error);
        }
    }

    private static Taken taken(JsonNode node) throws IOException {
        JsonNode pairs = required(node, "taken");
        long[] numbers = new long[2 * pairs.size()];
        for (int at = 0; at < pairs.size(); at++) {
            if (pairs.get(at).size() != 2 || !pairs.get(at).get(0).isIntegralNumber() || !pairs.get(at).get(1).isIntegralNumber()) {
                throw new IOException("taken has a range that is none: " + pairs.get(at));
            }
            numbers[2 * at] = pairs.get(at).get(0).longValue();
            numbers[2 * at + 1] = pairs.get(at).get(1).longValue();
        }
        return new Taken(Ranges.of(numbers), node.path("finished").asLong(-1), last(node.path("last")));
    }

    private static long[] last(JsonNode node) throws IOException {
        long[] last = LastPlaces.NONE;
        for (JsonNode one : node) {
            last = LastPlaces.see(last, new LastPlaces.Seen(place(one), number(one, "offset"), required(one, "append_time_ms").asLong()));
        }
        return last;
    }

    /** A source for whoever goes on from here: where it was last seen, or else the last records of all that was taken. */
    Taken withLast(Taken source) {
        if (source.last.length > 0) {
            return source;
        }
        long[] last = LastPlaces.NONE;
        for (Map.Entry<Place, Position> entry : positions.entrySet()) {
            Position position = entry.getValue();
            last = LastPlaces.see(last, new LastPlaces.Seen(entry.getKey(), position.offset - 1, position.appendTimeMs));
        }
        return new Taken(source.ranges, source.finished, last);
    }

    private static JsonNode required(JsonNode node, String field) throws IOException {
        JsonNode value = node.get(field);
        if (value == null || value.isNull()) {
            throw new IOException("there is no '" + field + "'");
        }
        return value;
    }

    private static long number(JsonNode node, String field) throws IOException {
        JsonNode value = required(node, field);
        if (!value.isIntegralNumber() || value.longValue() < 0) {
            throw new IOException("'" + field + "' is no number from 0: " + value);
        }
        return value.longValue();
    }

    private static long log(JsonNode node) throws IOException {
        JsonNode value = node.path("log");
        boolean isNumber = value.isIntegralNumber() && value.bigIntegerValue().signum() >= 0 && value.bigIntegerValue().bitLength() <= 64;
        if (!value.isMissingNode() && !isNumber) {
            throw new IOException("'log' is no number of 64 bits without sign: " + value);
        }
        return isNumber ? value.bigIntegerValue().longValue() : TopicLog.UNKNOWN;
    }

    /** Reads the object at a path. */
    static HandOver read(Path path) throws IOException {
        try {
            return parse(readText(path));
        } catch (IOException error) {
            throw new IOException("hand-over object " + path + ": " + error.getMessage(), error);
        }
    }

    private static String readText(Path path) throws IOException {
        FileSystem fs = path.getFileSystem();
        long length = fs.getFileStatus(path).getLen();
        if (length > BYTES_MAX) {
            throw new IOException(length + " bytes, at most " + BYTES_MAX + " are read");
        }
        try (FSDataInputStream in = fs.open(path)) {
            return new String(in.readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
        }
    }

    /** Writes it beside the path, makes it durable, and renames: whoever finds the name finds all of it. */
    void write(Path path) throws IOException {
        FileSystem fs = path.getFileSystem();
        Path temporary = new Path(path.getParent(), "." + path.getName() + ".inflight");
        try (FSDataOutputStream out = fs.create(temporary, FileSystem.WriteMode.OVERWRITE)) {
            out.write(print().getBytes(java.nio.charset.StandardCharsets.UTF_8));
            out.sync();
        }
        if (!fs.rename(temporary, path)) {
            throw new IOException("cannot rename " + temporary + " to " + path);
        }
    }
}
