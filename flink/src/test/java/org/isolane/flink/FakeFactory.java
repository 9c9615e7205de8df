package org.isolane.flink;

import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
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

    @Override
    public String factoryIdentifier() {
        return "isolane-fake";
    }

    @Override
    Source source(Source.Settings settings, DecodingFormat<DeserializationSchema<RowData>> format, DataType physical) {
        return new Fake(settings, format, physical);
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
        DataStream<Piece> read(ProviderContext provider, StreamExecutionEnvironment env) {
            return env.fromData(TypeInformation.of(Piece.class), PIECES.toArray(Piece[]::new));
        }
    }
}
