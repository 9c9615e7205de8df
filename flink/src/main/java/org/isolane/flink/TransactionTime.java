package org.isolane.flink;

import org.apache.flink.table.api.ValidationException;

/**
 * How long a transaction may stay open. It begins behind one checkpoint and is committed when the next is complete; if the job
 * fails in between, when it has been restored. A broker that ends it sooner has lost rows that Flink believes to be written.
 */
final class TransactionTime {
    /** How long a job may need to come back: what the Rust side gives a leg. */
    static final long MARGIN_MS = 90_000;
    /** What a broker allows unless it is told otherwise. */
    static final long BROKER_MS = 900_000;

    private TransactionTime() {}

    /**
     * The transaction timeout, in ms: as stated, else as long as every broker allows.
     *
     * @param intervalMs between checkpoints
     * @param timeoutMs how long a checkpoint may take
     * @param stated by the table, or null
     * @throws ValidationException if that is shorter than a checkpoint and a restart may take
     */
    static long of(long intervalMs, long timeoutMs, String stated) {
        long needed = Math.addExact(Math.addExact(intervalMs, timeoutMs), MARGIN_MS);
        long given = stated == null ? BROKER_MS : number(stated);
        if (given < needed) {
            throw new ValidationException("a transaction may stay open for " + given + " ms, and one may need " + needed
                    + " ms: a checkpoint interval of " + intervalMs + ", a checkpoint that takes its whole timeout of " + timeoutMs
                    + ", and a restart of " + MARGIN_MS + ". The broker would end it and its rows be lost: lower"
                    + " 'execution.checkpointing.timeout' or the interval, or say 'properties.transaction.timeout.ms' = '" + needed
                    + "' or more, which the brokers have to allow with transaction.max.timeout.ms (" + BROKER_MS
                    + " unless it is set)");
        }
        return given;
    }

    private static long number(String text) {
        try {
            return Integer.parseInt(text.trim());
        } catch (NumberFormatException error) {
            throw new ValidationException("'properties.transaction.timeout.ms' = '" + text + "' is no number of ms", error);
        }
    }
}
