package org.isolane.flink;

import java.io.IOException;
import java.io.Serializable;
import java.util.Arrays;
import org.apache.flink.core.fs.FileStatus;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;

/**
 * Publishes a hand-over object with each completed checkpoint. Every subtask writes its part while the checkpoint is made;
 * once it is complete, subtask 0 joins the parts to {@code <folder>/<job>-<checkpoint>.json}. So an object exists only for
 * what Flink itself would restore, and one is missing if subtask 0 dies at that moment: the next checkpoint brings another.
 *
 * <p>A leg of the embedded engine that begins from an object leaves a mark beside it, {@link #TAKEN} behind its name. From then on the
 * job whose object it is delivers no more.
 *
 * <p>Limit: the objects of the last {@link #KEPT} checkpoints of a job are kept.
 */
final class Publisher implements Serializable {
    private static final long serialVersionUID = 1;
    /** Objects of a job that are kept. */
    static final int KEPT = 3;
    /** Behind an object's name: the mark of the leg that has begun from it. */
    static final String TAKEN = ".taken";

    private final String folder;
    private final String topic;

    Publisher(String folder, String topic) {
        this.folder = folder;
        this.topic = topic;
    }

    /** An object of this topic for a subtask to fill. */
    HandOver begin(String job, long checkpoint) {
        HandOver part = new HandOver();
        part.topic = topic;
        part.job = job;
        part.checkpoint = checkpoint;
        return part;
    }

    /** Writes what one subtask knows at a checkpoint that is being made. */
    void writePart(HandOver part, int subtask) throws IOException {
        Path path = partPath(part.job, part.checkpoint, subtask);
        path.getFileSystem().mkdirs(path.getParent());
        part.write(path);
    }

    /**
     * Refuses a job of which a leg has taken an object.
     *
     * @throws IllegalStateException if one was taken; the message says which, and what to do
     */
    void refuseTaken(String job) throws IOException {
        Path all = new Path(folder);
        FileSystem fs = all.getFileSystem();
        if (!fs.exists(all)) {
            return;
        }
        for (FileStatus status : fs.listStatus(all)) {
            String name = status.getPath().getName();
            if (name.startsWith(job + "-") && name.endsWith(".json" + TAKEN)) {
                throw new IllegalStateException("a leg of the embedded engine has begun from a hand-over object of this job, and delivers"
                        + " what comes: " + status.getPath() + " says which. Stop the job. To go on here, hand that leg over and begin a"
                        + " new job from its object; if the leg has delivered nothing, remove it, and then this mark");
            }
        }
    }

    /** Joins the parts of all subtasks of a completed checkpoint, and removes what is older. */
    Path publish(String job, long checkpoint, int subtasks) throws IOException {
        HandOver whole = begin(job, checkpoint);
        for (int subtask = 0; subtask < subtasks; subtask++) {
            whole.add(HandOver.read(partPath(job, checkpoint, subtask)));
        }
        Path path = new Path(folder, name(job, checkpoint) + ".json");
        whole.write(path);
        clean(job, checkpoint);
        return path;
    }

    private void clean(String job, long checkpoint) throws IOException {
        Path parts = new Path(new Path(folder, "parts"), job);
        FileSystem fs = parts.getFileSystem();
        for (FileStatus status : fs.listStatus(parts)) {
            if (Long.parseLong(status.getPath().getName()) <= checkpoint) {
                fs.delete(status.getPath(), true);
            }
        }
        String[] names = Arrays.stream(fs.listStatus(new Path(folder)))
                .map(status -> status.getPath().getName())
                .filter(name -> name.startsWith(job + "-") && name.endsWith(".json"))
                .sorted()
                .toArray(String[]::new);
        for (int at = 0; at < names.length - KEPT; at++) {
            fs.delete(new Path(folder, names[at]), false);
        }
    }

    private Path partPath(String job, long checkpoint, int subtask) {
        Path parts = new Path(new Path(folder, "parts"), job);
        return new Path(new Path(parts, Long.toString(checkpoint)), subtask + ".json");
    }

    private static String name(String job, long checkpoint) {
        // So many digits sort as the numbers do.
        return String.format("%s-%019d", job, checkpoint);
    }
}
