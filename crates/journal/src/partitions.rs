//! Which partition a batch goes to. Pure: a function of what the batch is, so that every gateway, and each try, chooses
//! the same one.
//!
//! Eviction, the blacklist and the choice of the cluster will narrow what this chooses from; until then it is all
//! partitions of the normal cluster.

use stream::Batch;
use stream::config::{Order, StreamConfig};
use stream::facts::Place;
use stream::provenance::{Range, SourceId};

/// The cluster that takes everything as long as nothing is diverted.
pub const NORMAL: u8 = 0;
/// Ordinals of one source that stay together where no order is asked for: enough that a leg's range sets stay small.
const STICKY_ORDINALS: u64 = 512 << 10;

/// The place for a batch of a stream that has `partitions` in each cluster.
pub fn choose(config: &StreamConfig, partitions: u32, batch: &Batch) -> Place {
    Place { cluster: NORMAL, partition: partition(config.spec.order, partitions, batch.source, batch.range) }
}

fn partition(order: Order, partitions: u32, source: SourceId, range: Range) -> u32 {
    let stretch = match order {
        Order::None => range.start / STICKY_ORDINALS,
        Order::Source => 0,
    };
    // The source's last bytes are a hash already; an odd factor spreads neighbouring stretches (Knuth's, 2^64 / phi).
    let bytes = source.as_bytes();
    let hash = u64::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]]);
    let spread = hash.wrapping_add(stretch).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (spread % u64::from(partitions.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_stays_for_a_stretch_or_for_good_and_all_partitions_are_used() {
        let source = |n: u32| SourceId::derive(1, &[&n.to_be_bytes()]);
        let at = |order, n, start| partition(order, 6, source(n), Range::new(start, start + 10));
        for n in 0..50 {
            assert_eq!(at(Order::None, n, 0), at(Order::None, n, STICKY_ORDINALS - 1));
            assert_eq!(at(Order::Source, n, 0), at(Order::Source, n, 1 << 40));
        }
        let mut counts = [0; 6];
        (0..6_000).for_each(|n| counts[at(Order::Source, n, 0) as usize] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        let mut counts = [0; 6];
        (0..600).for_each(|n| counts[at(Order::None, 7, n * STICKY_ORDINALS) as usize] += 1);
        assert!(counts.iter().all(|count| (50..150).contains(count)), "{counts:?}");
    }
}
