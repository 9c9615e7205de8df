package org.isolane.flink;

/** What a journal record is. All but events and pressed-back ones have an empty value, and become no row. */
public enum Kind {
    /** An event. */
    EVENT('e'),
    /** A mark of bytes that the agent dropped by the stream's own policy. */
    MARK('m'),
    /** The end of a source: nothing will follow this ordinal. */
    END('z'),
    /** A heartbeat: time goes on although nothing is sent. */
    HEARTBEAT('h'),
    /** An event that was pressed back into its topic. */
    PRESSED_BACK('p');

    private static final Kind[] ALL = values();

    private final char letter;

    Kind(char letter) {
        this.letter = letter;
    }

    /** The letter that stands for it in headers. */
    public char letter() {
        return letter;
    }

    /** Whether it has a value of its own, and becomes a row. */
    public boolean isRecord() {
        return this == EVENT || this == PRESSED_BACK;
    }

    /** The kind of a letter, or null. */
    public static Kind ofLetter(int letter) {
        for (Kind kind : ALL) {
            if (kind.letter == letter) {
                return kind;
            }
        }
        return null;
    }
}
