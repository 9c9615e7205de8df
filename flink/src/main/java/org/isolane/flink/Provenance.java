package org.isolane.flink;

import java.nio.charset.StandardCharsets;

/**
 * The header {@code il}: which part of which source a record is.
 *
 * <pre>
 * &lt;kind&gt;&lt;source&gt;.&lt;start&gt;.&lt;length&gt;.&lt;lap&gt;[.&lt;event time&gt;]
 * e01a2b3c4d5e6f708192a3b4c.1f4.64.0.1795420800000
 * </pre>
 *
 * Start, length and lap are hexadecimal, the event time is decimal (SQL can turn that into a time).
 *
 * @param kind what the record is
 * @param source where it was read, see {@link SourceId}
 * @param start first ordinal covered
 * @param end first ordinal not covered
 * @param lap how often it was pressed back, 0 to {@link #LAP_MAX}
 * @param eventTimeMs event time in ms since 1970 where a protocol or producer states one, else null
 */
public record Provenance(Kind kind, String source, long start, long end, int lap, Long eventTimeMs) {
    /** Name of the header. */
    public static final String HEADER = "il";
    /** Longest header, in bytes of ASCII. */
    public static final int BYTES_MAX = 64;
    /** First ordinal that a source may not reach: 256 TiB of decompressed bytes. */
    public static final long ORDINAL_MAX = 1L << 48;
    /** Most ordinals of one record. */
    public static final long LENGTH_MAX = 0xffff_ffffL;
    /** How often a record can be pressed back. */
    public static final int LAP_MAX = 15;
    /** Latest and, negated, earliest event time in ms since 1970: the year 2286. */
    public static final long EVENT_TIME_MS_MAX = 9_999_999_999_999L;

    /**
     * Reads a header's bytes.
     *
     * @throws HeaderException if they are none
     */
    public static Provenance parse(byte[] bytes) throws HeaderException {
        // Every byte becomes one character, so that a foreign one is seen for what it is.
        return parse(new String(bytes, StandardCharsets.ISO_8859_1));
    }

    /**
     * Reads a header's text.
     *
     * @throws HeaderException if it is none
     */
    public static Provenance parse(String text) throws HeaderException {
        if (text.isEmpty() || text.length() > BYTES_MAX || !isAscii(text)) {
            throw new HeaderException(text, "must be 1 to 64 ASCII characters");
        }
        Kind kind = Kind.ofLetter(text.charAt(0));
        if (kind == null) {
            throw new HeaderException(text, "unknown kind");
        }
        int at = 1 + SourceId.DIGITS;
        if (text.length() < at) {
            throw new HeaderException(text, "no source");
        }
        String source = SourceId.parse(text.substring(1, at));
        int startEnd = partEnd(text, at);
        long start = part(text, at, startEnd, ORDINAL_MAX - 1, "bad start");
        int lengthEnd = partEnd(text, startEnd);
        long length = part(text, startEnd, lengthEnd, LENGTH_MAX, "bad length");
        int lapEnd = partEnd(text, lengthEnd);
        int lap = (int) part(text, lengthEnd, lapEnd, LAP_MAX, "bad lap");
        Long eventTimeMs = lapEnd == text.length() ? null : (Long) eventTime(text, lapEnd + 1);
        return new Provenance(kind, source, start, start + length, lap, eventTimeMs);
    }

    /** The header as it travels. */
    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(BYTES_MAX).append(kind.letter()).append(source);
        text.append('.').append(Long.toHexString(start)).append('.').append(Long.toHexString(end - start));
        text.append('.').append(Integer.toHexString(lap));
        if (eventTimeMs != null) {
            text.append('.').append(eventTimeMs.longValue());
        }
        return text.toString();
    }

    /** Whether it covers no part of its source. */
    public boolean isEmpty() {
        return start == end;
    }

    private static boolean isAscii(String text) {
        return text.chars().allMatch(c -> c < 0x80);
    }

    /** Where the part ends that the dot at {@code dot} begins. */
    private static int partEnd(String text, int dot) {
        int next = text.indexOf('.', dot + 1);
        return next < 0 ? text.length() : next;
    }

    private static long part(String text, int dot, int end, long max, String what) throws HeaderException {
        boolean begins = dot < text.length() && text.charAt(dot) == '.';
        long number = begins ? Hex.number(text, dot + 1, end, max) : -1;
        if (number < 0) {
            throw new HeaderException(text, what);
        }
        return number;
    }

    private static long eventTime(String text, int from) throws HeaderException {
        int digits = from < text.length() && text.charAt(from) == '-' ? from + 1 : from;
        long time = digits == text.length() ? -1 : 0;
        for (int at = digits; at < text.length() && time >= 0; at++) {
            char c = text.charAt(at);
            time = c < '0' || c > '9' ? -1 : time * 10 + (c - '0');
            time = time > EVENT_TIME_MS_MAX ? -1 : time;
        }
        if (time < 0) {
            throw new HeaderException(text, "bad event time");
        }
        return digits == from ? time : -time;
    }
}
