package org.isolane.flink;

import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.connector.source.util.ratelimit.RateLimiterStrategy;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;

/** {@code 'connector' = 'isolane-fake'}: the connector with a list of pieces in place of Kafka. */
public final class FakeFactory extends Factory {
    /** What the clusters hold. */
    static final List<Piece> PIECES = new CopyOnWriteArrayList<>();
    /** How many are read before a checkpoint must be complete; else nothing would be when a job fails on the way. */
    static final int PER_CHECKPOINT = 500;

    @Override
    public String factoryIdentifier() {
        return "isolane-fake";
    }

    @Override
    Source source(Source.Settings settings, DecodingFormat<DeserializationSchema<RowData>> format, DataType physical) {
        return new Fake(settings, format, physical);
    }

    /** Nothing is ever removed. */
    private static final class NoStarts implements Starts {
        private static final long serialVersionUID = 1;

        @Override
        public void open() {}

        @Override
        public void watch(HandOver.Place place) {}

        @Override
        public long of(HandOver.Place place) {
            return 0;
        }

        @Override
        public void close() {}
    }

    private static final class Fake extends Source {
        private final Settings settings;
        private final DecodingFormat<DeserializationSchema<RowData>> format;
        private final DataType physical;

        Fake(Settings settings, DecodingFormat<DeserializationSchema<RowData>> format, DataType physical) {
            super(settings, format, physical);
            this.settings = settings;
            this.format = format;
            this.physical = physical;
        }

        @Override
        Source anew() {
            return new Fake(settings, format, physical);
        }

        @Override
        Starts starts(Settings of) {
            return new NoStarts();
        }

        @Override
        DataStream<Piece> read(ProviderContext provider, StreamExecutionEnvironment env) {
            TypeInformation<Piece> type = TypeInformation.of(Piece.class);
            if (PIECES.size() <= PER_CHECKPOINT) {
                return env.fromData(type, PIECES.toArray(Piece[]::new));
            }
            DataGeneratorSource<Piece> paced = new DataGeneratorSource<>(
                    at -> PIECES.get(at.intValue()), PIECES.size(), RateLimiterStrategy.perCheckpoint(PER_CHECKPOINT), type);
            return env.fromSource(paced, WatermarkStrategy.noWatermarks(), "fake").setParallelism(1);
        }
    }
}
