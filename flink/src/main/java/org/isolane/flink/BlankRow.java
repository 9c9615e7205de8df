package org.isolane.flink;

import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.MapData;
import org.apache.flink.table.data.RawValueData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.types.RowKind;

/**
 * A row whose columns say nothing. They are asked all the same, and those that are NOT NULL without asking first whether they are.
 */
abstract class BlankRow implements RowData {
    @Override
    public int getArity() {
        return 0;
    }

    @Override
    public RowKind getRowKind() {
        return RowKind.INSERT;
    }

    @Override
    public void setRowKind(RowKind kind) {}

    @Override
    public boolean isNullAt(int at) {
        return true;
    }

    @Override
    public StringData getString(int at) {
        return null;
    }

    @Override
    public boolean getBoolean(int at) {
        return false;
    }

    @Override
    public byte getByte(int at) {
        return 0;
    }

    @Override
    public short getShort(int at) {
        return 0;
    }

    @Override
    public int getInt(int at) {
        return 0;
    }

    @Override
    public long getLong(int at) {
        return 0;
    }

    @Override
    public float getFloat(int at) {
        return 0;
    }

    @Override
    public double getDouble(int at) {
        return 0;
    }

    @Override
    public DecimalData getDecimal(int at, int precision, int scale) {
        return null;
    }

    @Override
    public TimestampData getTimestamp(int at, int precision) {
        return null;
    }

    @Override
    public <T> RawValueData<T> getRawValue(int at) {
        return null;
    }

    @Override
    public byte[] getBinary(int at) {
        return null;
    }

    @Override
    public ArrayData getArray(int at) {
        return null;
    }

    @Override
    public MapData getMap(int at) {
        return null;
    }

    @Override
    public RowData getRow(int at, int fields) {
        return null;
    }
}
