package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.flink.formats.parquet.ParquetInputFile;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.parquet.hadoop.ParquetFileReader;

/** What the footers of a folder's committed files say together; each of them says how many rows it has, and no range is in two. */
final class Said {
    final Map<String, long[]> ranges = new TreeMap<>();
    final Set<String> columns = new HashSet<>();
    long rows;

    static Said of(Path folder) throws IOException {
        Said said = new Said();
        for (Path path : files(folder)) {
            said.read(path);
        }
        return said;
    }

    /** A table of the format, whose files lie in a folder of its name. */
    static String table(Path folder, String name, String columns, String more, String options) {
        return "CREATE TABLE " + name + " (" + columns + ") " + more + " WITH ('connector' = 'filesystem', 'path' = '"
                + folder.resolve(name).toUri() + "', 'format' = 'isolane-parquet'" + options + ")";
    }

    /** Committed files: Flink's sink gives all others a dot. */
    static List<Path> files(Path folder) {
        return all(folder).stream().filter(path -> !path.getFileName().toString().startsWith(".")).toList();
    }

    /** Files, whatever they are called; a job may be renaming them meanwhile. */
    static List<Path> all(Path folder) {
        List<Path> all = new ArrayList<>();
        try {
            Files.walkFileTree(folder, new SimpleFileVisitor<>() {
                @Override
                public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
                    all.add(file);
                    return FileVisitResult.CONTINUE;
                }

                @Override
                public FileVisitResult visitFileFailed(Path file, IOException error) throws IOException {
                    if (error instanceof NoSuchFileException) {
                        return FileVisitResult.CONTINUE;
                    }
                    throw error;
                }
            });
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return all;
    }

    static ParquetFileReader open(Path path) throws IOException {
        org.apache.flink.core.fs.Path file = new org.apache.flink.core.fs.Path(path.toUri());
        return ParquetFileReader.open(new ParquetInputFile(file.getFileSystem().open(file), Files.size(path)));
    }

    static Map<String, String> footer(Path path) throws IOException {
        try (ParquetFileReader reader = open(path)) {
            return reader.getFileMetaData().getKeyValueMetaData();
        }
    }

    private void read(Path path) throws IOException {
        try (ParquetFileReader reader = open(path)) {
            Map<String, String> footer = reader.getFileMetaData().getKeyValueMetaData();
            assertEquals(reader.getRecordCount(), Long.parseLong(footer.get("isolane.rows")), path.toString());
            assertEquals("0", footer.get("isolane.repeated"), path.toString());
            reader.getFileMetaData().getSchema().getFields().forEach(field -> columns.add(field.getName()));
            rows += reader.getRecordCount();
            new ObjectMapper().readTree(footer.get("isolane.ranges")).fields()
                    .forEachRemaining(source -> add(path, source.getKey(), source.getValue()));
        }
    }

    private void add(Path path, String source, JsonNode pairs) {
        long[] set = ranges.getOrDefault(source, Ranges.NONE);
        for (JsonNode pair : pairs) {
            long start = pair.get(0).longValue();
            long end = pair.get(1).longValue();
            assertEquals(Ranges.Relation.DISJOINT, Ranges.relation(set, start, end), "twice: " + source + " in " + path);
            set = Ranges.insert(set, start, end);
        }
        ranges.put(source, set);
    }

    /** The ranges as text, for equality. */
    Map<String, String> texts() {
        return texts(ranges);
    }

    static Map<String, String> texts(Map<String, long[]> ranges) {
        Map<String, String> texts = new TreeMap<>();
        ranges.forEach((source, set) -> texts.put(source, Arrays.toString(set)));
        return texts;
    }
}
