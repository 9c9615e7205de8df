package org.isolane.flink;

/** A header that is none of isolane's. Its message says what is wrong with it, in the words of the Rust side. */
public final class HeaderException extends Exception {
    private final String what;

    HeaderException(String text, String what) {
        super("provenance header \"" + beginning(text) + "\": " + what, null, false, false);
        this.what = what;
    }

    /** What is wrong. */
    public String what() {
        return what;
    }

    private static String beginning(String text) {
        return text.length() <= Provenance.BYTES_MAX ? text : text.substring(0, Provenance.BYTES_MAX);
    }
}
