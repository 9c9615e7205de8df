package org.isolane.flink;

import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.common.eventtime.TimestampAssigner;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkGeneratorSupplier;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkOutputMultiplexer;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.table.data.RowData;

/**
 * The watermark of one subtask: the minimum over the partitions of all clusters that are not idle. Each partition has a
 * generator of its own, made by the table's WATERMARK FOR; a partition is idle by the table's
 * {@code scan.watermark.idle-timeout}, and one that has brought nothing to this subtask holds nothing up here; nor does a subtask
 * to which none has brought anything.
 */
final class Watermarks {
    private final WatermarkStrategy<RowData> strategy;
    private final WatermarkGeneratorSupplier.Context context;
    private final WatermarkOutput output;
    private final WatermarkOutputMultiplexer outputs;
    private final Map<HandOver.Place, Line> lines = new HashMap<>();

    /** A partition's generator, and the ways out for it. */
    private record Line(WatermarkGenerator<RowData> generator, WatermarkOutput immediate, WatermarkOutput deferred) {}

    Watermarks(WatermarkStrategy<RowData> strategy, WatermarkGeneratorSupplier.Context context, WatermarkOutput output) {
        this.strategy = strategy;
        this.context = context;
        this.output = output;
        this.outputs = new WatermarkOutputMultiplexer(output);
    }

    /** A row came from a place. */
    void row(HandOver.Place place, RowData row) {
        Line line = lines.computeIfAbsent(place, this::line);
        line.generator.onEvent(row, TimestampAssigner.NO_TIMESTAMP, line.immediate);
    }

    /** Time has passed. Who has seen no row yet knows nothing that the other subtasks should wait for. */
    void tick() {
        if (lines.isEmpty()) {
            output.markIdle();
            return;
        }
        lines.values().forEach(line -> line.generator.onPeriodicEmit(line.deferred));
        outputs.onPeriodicEmit();
    }

    private Line line(HandOver.Place place) {
        String id = place.cluster() + "/" + place.partition();
        outputs.registerNewOutput(id, watermark -> {});
        return new Line(
                strategy.createWatermarkGenerator(context), outputs.getImmediateOutput(id), outputs.getDeferredOutput(id));
    }
}
