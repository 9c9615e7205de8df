package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.util.BitSet;
import java.util.Locale;
import java.util.Random;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.junit.jupiter.api.Test;

class RangesTest {
    @Test
    void rangeSetsAreAsTheVectorsSay() throws IOException {
        for (JsonNode line : Vectors.read("ranges.ndjson", 50)) {
            String text = line.toString();
            long[] held = Ranges.of(Vectors.pairs(line.get("held")));
            long[] other = Ranges.of(Vectors.pairs(line.get("other")));
            long start = line.get("range").get(0).longValue();
            long end = line.get("range").get(1).longValue();
            assertArrayEquals(Vectors.pairs(line.get("set")), held, text);
            String relation = Ranges.relation(held, start, end).name().toLowerCase(Locale.ROOT);
            assertEquals(line.get("relation").textValue(), relation, text);
            assertArrayEquals(Vectors.pairs(line.get("union")), Ranges.union(held, other), text);
            assertArrayEquals(Vectors.pairs(line.get("difference")), Ranges.difference(held, other), text);
            assertEquals(line.get("total").longValue(), Ranges.total(held), text);
            assertEquals(line.get("contiguous_end").longValue(), Ranges.contiguousEnd(held), text);
            assertEquals(line.get("end").longValue(), Ranges.end(held), text);
            assertArrayEquals(Vectors.pairs(line.get("inserted")), Ranges.insert(held.clone(), start, end), text);
        }
    }

    @Test
    void equalsASetOfOrdinals() {
        long seed = System.nanoTime();
        Random random = new Random(seed);
        for (int round = 0; round < 3_000; round++) {
            String where = "seed " + seed + ", round " + round;
            BitSet model = new BitSet();
            BitSet otherModel = new BitSet();
            long[] set = Ranges.NONE;
            long[] other = Ranges.NONE;
            for (int i = random.nextInt(14); i > 0; i--) {
                int start = random.nextInt(60);
                int end = start + random.nextInt(8);
                int inside = model.get(start, end).cardinality();
                Ranges.Relation expected = inside == end - start ? Ranges.Relation.CONTAINED
                        : inside == 0 ? Ranges.Relation.DISJOINT : Ranges.Relation.OVERLAPPING;
                assertEquals(expected, Ranges.relation(set, start, end), where);
                if (random.nextBoolean()) {
                    set = Ranges.insert(set, start, end);
                    model.set(start, end);
                } else {
                    other = Ranges.insert(other, start, end);
                    otherModel.set(start, end);
                }
            }
            assertArrayEquals(ranges(model), set, where);
            assertEquals(model.cardinality(), Ranges.total(set), where);
            BitSet union = (BitSet) model.clone();
            union.or(otherModel);
            assertArrayEquals(ranges(union), Ranges.union(set, other), where);
            BitSet difference = (BitSet) model.clone();
            difference.andNot(otherModel);
            assertArrayEquals(ranges(difference), Ranges.difference(set, other), where);
            assertArrayEquals(ranges(model), set, where + ": changed by a look at it");
        }
    }

    @Test
    void whatIsNoRangeIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> Ranges.of(1));
        assertThrows(IllegalArgumentException.class, () -> Ranges.of(2, 1));
        assertThrows(IllegalArgumentException.class, () -> Ranges.of(-1, 1));
    }

    private static long[] ranges(BitSet model) {
        long[] set = new long[2 * model.size() + 2];
        int length = 0;
        for (int start = model.nextSetBit(0); start >= 0; start = model.nextSetBit((int) set[length - 1])) {
            set[length++] = start;
            set[length++] = model.nextClearBit(start);
        }
        return java.util.Arrays.copyOf(set, length);
    }
}
