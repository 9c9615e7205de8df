package org.isolane.flink;

import java.util.Locale;

/** How a record ended, for a leg; the words are those of the Rust side and of the ledger. */
public enum Fate {
    /** In the sink. */
    DELIVERED,
    /** Left out by the stream's own SQL. */
    FILTERED,
    /** Kept apart with its cause: it could not be decoded, converted or mapped. */
    QUARANTINED,
    /** Kept apart because the sink had closed its partition. */
    LATE,
    /** Left out in the agent by the stream's own policy. */
    DROPPED;

    private final String word = name().toLowerCase(Locale.ROOT);

    /** The word, as it stands in columns and metrics. */
    public String word() {
        return word;
    }
}
