package org.isolane.flink;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

/** The test vectors that the Rust side makes and checks as well. */
final class Vectors {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Vectors() {}

    /** The lines of a file of vectors, at least {@code atLeast} of them: a file that was emptied must not pass. */
    static List<JsonNode> read(String name, int atLeast) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of("../crates/stream/vectors").resolve(name))) {
            lines.add(JSON.readTree(line));
        }
        if (lines.size() < atLeast) {
            throw new IOException(name + ": " + lines.size() + " lines");
        }
        return lines;
    }

    /** Pairs {@code [[start, end], ...]} as numbers one behind the other, in their order. */
    static long[] pairs(JsonNode node) {
        long[] numbers = new long[2 * node.size()];
        for (int at = 0; at < node.size(); at++) {
            numbers[2 * at] = node.get(at).get(0).longValue();
            numbers[2 * at + 1] = node.get(at).get(1).longValue();
        }
        return numbers;
    }
}
