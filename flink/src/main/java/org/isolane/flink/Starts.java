package org.isolane.flink;

import java.io.Serializable;

/** The oldest offset that each partition still keeps: what is before it will not be read again by anybody. */
interface Starts extends Serializable, AutoCloseable {
    /** Begins to ask. */
    void open();

    /** Asks for this place too, from now on. */
    void watch(HandOver.Place place);

    /** The oldest offset of a place as last heard; 0 until then. */
    long of(HandOver.Place place);

    @Override
    void close();
}
