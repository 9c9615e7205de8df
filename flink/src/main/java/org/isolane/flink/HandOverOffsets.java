package org.isolane.flink;

import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.kafka.common.TopicPartition;

/**
 * Where a job that begins from a hand-over object reads a cluster. Of a partition that the object does not name nothing was taken: it is
 * read from its beginning. Flink's own offsets of a map ask the consumer group of such a one, and fail where there is no group.
 */
record HandOverOffsets(HashMap<TopicPartition, Long> offsets) implements OffsetsInitializer {
    static HandOverOffsets of(HandOver object, String topic, int cluster) {
        HashMap<TopicPartition, Long> offsets = new HashMap<>();
        object.positions.forEach((place, position) -> {
            if (place.cluster() == cluster) {
                offsets.put(new TopicPartition(topic, place.partition()), position.offset());
            }
        });
        return new HandOverOffsets(offsets);
    }

    @Override
    public Map<TopicPartition, Long> getPartitionOffsets(Collection<TopicPartition> partitions, PartitionOffsetsRetriever kafka) {
        Map<TopicPartition, Long> all = new HashMap<>();
        partitions.forEach(partition -> all.put(partition, offsets.getOrDefault(partition, KafkaPartitionSplit.EARLIEST_OFFSET)));
        return all;
    }

    @Override
    public OffsetResetStrategy getAutoOffsetResetStrategy() {
        return OffsetResetStrategy.EARLIEST;
    }
}
