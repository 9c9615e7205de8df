package org.isolane.flink;

import java.io.IOException;
import java.util.function.ToLongFunction;
import org.apache.flink.api.common.state.KeyedStateStore;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.KeyedStateBackend;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.runtime.state.VoidNamespaceSerializer;

/**
 * What a subtask knows of sources: keyed state, per source the ranges taken, its length once its end was read, and where it was last
 * seen; beside it the horizon.
 *
 * <p>Limit: a {@link Footprint}, beyond which the job fails. What is complete and gone is forgotten before each checkpoint, which
 * looks at each source once.
 */
final class KnownSources {
    private final KeyedStateBackend<String> backend;
    private final ValueStateDescriptor<long[]> takenDescriptor;
    private final ValueState<long[]> taken;
    private final ValueState<Long> finished;
    private final ValueState<long[]> last;
    private final Footprint footprint;
    private int horizonMinutes = Dedup.NO_HORIZON;

    KnownSources(KeyedStateStore store, KeyedStateBackend<String> backend, Footprint footprint) {
        this.backend = backend;
        this.footprint = footprint;
        takenDescriptor = new ValueStateDescriptor<>("taken", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO);
        taken = store.getState(takenDescriptor);
        finished = store.getState(new ValueStateDescriptor<>("finished", Types.LONG));
        last = store.getState(new ValueStateDescriptor<>("last", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO));
    }

    /** The horizon is this at least. */
    void horizon(int minutes) {
        horizonMinutes = Math.max(horizonMinutes, minutes);
    }

    /** Birth of the youngest source forgotten, in minutes since 1970, or {@link Dedup#NO_HORIZON}. */
    int horizonMinutes() {
        return horizonMinutes;
    }

    /** Counts what was restored. */
    void restored() throws Exception {
        eachSource((source, set) -> footprint.know(set, places()));
    }

    /** Knows a source as it was handed over. */
    void begin(String source, HandOver.Taken handed) throws IOException {
        backend.setCurrentKey(source);
        taken.update(handed.ranges());
        last.update(handed.last());
        if (handed.finished() >= 0) {
            finished.update(handed.finished());
        }
        footprint.know(handed.ranges(), handed.last());
    }

    /** Judges a record of the current key, seen at a place, and remembers it. */
    Dedup.Verdict take(Provenance record, LastPlaces.Seen seen, String topic) throws IOException {
        long[] known = taken.value();
        Dedup.Verdict verdict = Dedup.judge(record, known, horizonMinutes);
        if (!Dedup.leavesTrace(record, known, horizonMinutes)) {
            return verdict;
        }
        if (known == null) {
            footprint.know(Ranges.NONE, LastPlaces.NONE);
        }
        if (known == null || verdict != Dedup.Verdict.DOUBLE) {
            insert(record, known == null ? Ranges.NONE : known);
        }
        see(seen);
        footprint.refuseExcess(topic);
        if (record.kind() == Kind.END) {
            Long length = finished.value();
            finished.update(length == null ? (Long) record.end() : (Long) Math.max(length, record.end()));
        }
        return verdict;
    }

    private void insert(Provenance record, long[] known) throws IOException {
        // Its length is taken first: the set itself is changed where that can be.
        int before = known.length;
        long[] set = Ranges.insert(known, record.start(), record.end());
        footprint.change((set.length - before) / 2, 0);
        taken.update(set);
    }

    private void see(LastPlaces.Seen seen) throws IOException {
        long[] before = places();
        long[] after = LastPlaces.see(before, seen);
        footprint.change(0, LastPlaces.count(after) - LastPlaces.count(before));
        last.update(after);
    }

    private long[] places() throws IOException {
        long[] places = last.value();
        return places == null ? LastPlaces.NONE : places;
    }

    /** Forgets what nobody will bring again, and moves the horizon. */
    void forget(ToLongFunction<HandOver.Place> starts, long reachedMs) throws Exception {
        boolean isPressed = footprint.isPressed();
        eachSource((source, set) -> {
            if (Forgetting.may(set, finished.value(), places(), starts, reachedMs, isPressed)) {
                footprint.forget(set, places());
                taken.clear();
                finished.clear();
                last.clear();
                horizon(SourceId.birthMinutes(source));
            }
        });
    }

    /** Tells whoever goes on from here. */
    void tell(HandOver part) throws Exception {
        part.horizonMinutes = horizonMinutes;
        eachSource((source, set) -> {
            Long length = finished.value();
            part.sources.put(source, new HandOver.Taken(set, length == null ? -1 : length, places()));
        });
    }

    /** What is done with each source that is known, as the current key. */
    private interface Visit {
        void to(String source, long[] set) throws Exception;
    }

    private void eachSource(Visit visit) throws Exception {
        backend.applyToAllKeys(
                VoidNamespace.INSTANCE, VoidNamespaceSerializer.INSTANCE, takenDescriptor,
                (source, state) -> visit.to(source, state.value()));
    }
}
