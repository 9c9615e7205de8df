/**
 * Isolane's table connector for Apache Flink.
 *
 * <p>The way of a record: {@link org.isolane.flink.Factory} reads the table's options, {@link org.isolane.flink.Source} lays
 * a stock Kafka source per cluster, of the partitions that {@link org.isolane.flink.Partitions} finds;
 * {@link org.isolane.flink.Reader} makes a {@link org.isolane.flink.Piece} of each Kafka record, and behind a {@code keyBy}
 * of the source {@link org.isolane.flink.Taker} drops what was taken before, by its {@link org.isolane.flink.KnownSources}, decodes the
 * rest, and gives what cannot be decoded a fate. {@link org.isolane.flink.HandOver} is how another engine goes on from there.
 * On the way out {@link org.isolane.flink.ParquetFormat} has Flink's file sink write {@link org.isolane.flink.ParquetFile}s, whose
 * footers say what was {@link org.isolane.flink.Delivered}; or {@link org.isolane.flink.KafkaTableFactory} reads the options of a Kafka
 * topic, {@link org.isolane.flink.KafkaTable} lays Flink's transactional sink within a {@link org.isolane.flink.RangedSink}, and
 * {@link org.isolane.flink.RangedWriter} writes each {@link org.isolane.flink.Outgoing} row and, before a transaction is closed, its
 * ranges, which {@link org.isolane.flink.KafkaRecords} lays out.
 *
 * <p>Pure, and held against the Rust side by common test vectors ({@code crates/stream/vectors}):
 * {@link org.isolane.flink.Provenance}, {@link org.isolane.flink.SourceId}, {@link org.isolane.flink.Ranges},
 * {@link org.isolane.flink.Dedup}, {@link org.isolane.flink.Forgetting}.
 */
package org.isolane.flink;
