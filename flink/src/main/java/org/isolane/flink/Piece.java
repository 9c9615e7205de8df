package org.isolane.flink;

/** A journal record between the readers and whoever takes it. Public fields, so that Flink serializes it field by field. */
public final class Piece {
    /** Number of the cluster. */
    public int cluster;
    /** Partition of the topic. */
    public int partition;
    /** Offset in the partition. */
    public long offset;
    /** Which log the partition is, where that is news, else {@link TopicLog#UNKNOWN}: see {@link Lag}. */
    public long log;
    /** When the journal took it, in ms since 1970. */
    public long appendTimeMs;
    /** The record's source: what records are keyed by. */
    public String source;
    /** Letter of its kind. */
    public char kind;
    /** First ordinal covered. */
    public long start;
    /** First ordinal not covered. */
    public long end;
    /** How often it was pressed back. */
    public int lap;
    /** Event time from the header in ms since 1970, or null. */
    public Long eventTimeMs;
    /** The record's bytes; empty where there are none. */
    public byte[] value;
    /** Names of all headers, or null where no query asks for them. */
    public String[] headerNames;
    /** Their values. */
    public byte[][] headerValues;

    /** For Flink. */
    public Piece() {}

    /** A piece of what {@code record} says, at a place. */
    static Piece of(Provenance record, int cluster, int partition, long offset, long appendTimeMs, byte[] value) {
        Piece piece = new Piece();
        piece.cluster = cluster;
        piece.partition = partition;
        piece.offset = offset;
        piece.appendTimeMs = appendTimeMs;
        piece.source = record.source();
        piece.kind = record.kind().letter();
        piece.start = record.start();
        piece.end = record.end();
        piece.lap = record.lap();
        piece.eventTimeMs = record.eventTimeMs();
        piece.value = value;
        return piece;
    }

    /** Its provenance. */
    Provenance provenance() {
        return new Provenance(Kind.ofLetter(kind), source, start, end, lap, eventTimeMs);
    }
}
