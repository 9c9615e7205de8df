package org.isolane.flink;

/**
 * Something replayable that one collector reads for one stream: 24 hex digits, of which the first 7 are its birth in minutes
 * since 1970 and the others a hash. Here it is its text, in small letters: what Flink's {@code keyBy} and SQL both can use.
 */
public final class SourceId {
    /** Digits of the text. */
    static final int DIGITS = 24;
    private static final int BIRTH_DIGITS = 7;

    private SourceId() {}

    /**
     * The id's text as it is always printed.
     *
     * @throws HeaderException unless it is 24 hex digits
     */
    public static String parse(String text) throws HeaderException {
        if (text.length() == DIGITS) {
            boolean small = true;
            int at = 0;
            while (at < DIGITS && Hex.digit(text.charAt(at)) >= 0) {
                small &= text.charAt(at) > 'F' || text.charAt(at) <= '9';
                at++;
            }
            if (at == DIGITS) {
                return small ? text : text.toLowerCase(java.util.Locale.ROOT);
            }
        }
        throw new HeaderException(text, "source is not 24 hex digits");
    }

    /** Birth in minutes since 1970, of a text that {@link #parse} gave. */
    public static int birthMinutes(String id) {
        int minutes = 0;
        for (int at = 0; at < BIRTH_DIGITS; at++) {
            minutes = minutes << 4 | Hex.digit(id.charAt(at));
        }
        return minutes;
    }
}
