package org.isolane.flink;

import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.table.functions.ScalarFunction;

/** Fails once for each folder of files, at the first of the rows behind some when a file has been committed there. */
public final class Stumble extends ScalarFunction {
    private static final long serialVersionUID = 1;
    private static final Map<String, Integer> SEEN = new ConcurrentHashMap<>();
    private static final Map<String, Integer> FILES_THEN = new ConcurrentHashMap<>();

    /** How many files there were when it failed; 0: it never did. */
    static int filesThen(Path folder) {
        return FILES_THEN.getOrDefault(folder.toString(), 0);
    }

    /** The number itself. */
    public Integer eval(Integer id, String folder, Integer behind) {
        if (SEEN.merge(folder, 1, Integer::sum) > behind && !FILES_THEN.containsKey(folder)) {
            int files = Said.files(Path.of(folder)).size();
            if (files > 0 && FILES_THEN.putIfAbsent(folder, files) == null) {
                throw new IllegalStateException("stumbled");
            }
        }
        return id;
    }
}
