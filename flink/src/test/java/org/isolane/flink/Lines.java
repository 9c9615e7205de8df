package org.isolane.flink;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/** A format for tests of the operator alone: one column of text; {@code bad} cannot be read. */
final class Lines implements DeserializationSchema<RowData> {
    private static final long serialVersionUID = 1;

    @Override
    public RowData deserialize(byte[] message) throws IOException {
        String text = new String(message, StandardCharsets.UTF_8);
        if (text.startsWith("bad")) {
            throw new IOException("not a line", new IllegalStateException(text));
        }
        return text.isEmpty() ? null : GenericRowData.of(StringData.fromString(text));
    }

    @Override
    public boolean isEndOfStream(RowData row) {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return TypeInformation.of(RowData.class);
    }
}
