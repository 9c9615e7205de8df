package org.isolane.flink;

/** Hexadecimal digits of ASCII text, and nothing else: Java's own parsers also take digits of other scripts and signs. */
final class Hex {
    private Hex() {}

    /** The digit's value, or -1. */
    static int digit(char c) {
        if (c >= '0' && c <= '9') {
            return c - '0';
        }
        int small = c | 0x20;
        return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
    }

    /** The number that {@code text} is from {@code from} to {@code to}, or -1 if it is none or above {@code max}. */
    static long number(String text, int from, int to, long max) {
        int length = to - from;
        if (length < 1 || length > 16) {
            return -1;
        }
        long number = 0;
        for (int at = from; at < to; at++) {
            int digit = digit(text.charAt(at));
            if (digit < 0) {
                return -1;
            }
            number = number << 4 | digit;
        }
        return number < 0 || number > max ? -1 : number;
    }
}
