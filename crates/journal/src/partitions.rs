//! Which partitions a batch goes to. Pure: a function of what the batch is, so that every gateway, and each try, chooses
//! the same ones.
//!
//! Eviction, the blacklist and the choice of the cluster will narrow what this chooses from; until then it is all
//! partitions of the normal cluster.

use std::sync::Arc;

use stream::config::{Order, StreamConfig};
use stream::facts::Place;
use stream::provenance::SourceId;
use stream::{Batch, View};

use crate::order_key;

/// The cluster that takes everything as long as nothing is diverted.
pub const NORMAL: u8 = 0;
/// Ordinals of one source that stay together where no order is asked for: enough that a leg's range sets stay small.
const STICKY_ORDINALS: u64 = 512 << 10;

/// What of a batch goes where, for a stream that has `partitions` in each cluster: all of it to one place, unless the
/// stream keeps the order of keys. Then each record goes where its key does, and one without a key where its source does.
pub fn spread(config: &StreamConfig, partitions: u32, batch: &Arc<Batch>) -> Vec<(Place, Arc<Batch>)> {
    let (source, start) = (batch.source, batch.range.start);
    let place = |partition| Place { cluster: NORMAL, partition };
    let of_source = |stretch| pick(partitions, of_source(source).wrapping_add(stretch));
    match (config.spec.order, &config.spec.order_key) {
        (Order::Key, Some(key)) if partitions > 1 => {
            let of_key = |record: &View<'_>| {
                order_key::hash_of(key, record.body).map_or(of_source(0), |hash| pick(partitions, hash))
            };
            batch.part(of_key).into_iter().map(|(partition, part)| (place(partition), Arc::new(part))).collect()
        }
        (Order::None, _) => vec![(place(of_source(start / STICKY_ORDINALS)), Arc::clone(batch))],
        (Order::Source | Order::Key, _) => vec![(place(of_source(0)), Arc::clone(batch))],
    }
}

/// The source's last bytes are a hash already.
fn of_source(source: SourceId) -> u64 {
    let bytes = source.as_bytes();
    u64::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]])
}

/// One of `partitions`. An odd factor spreads neighbours (Knuth's, 2^64 / phi).
fn pick(partitions: u32, hash: u64) -> u32 {
    let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (spread % u64::from(partitions.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::config::{OrderKey, StreamSpec};
    use stream::{BatchBuilder, Incarnation, Kind};

    fn config(order: Order) -> StreamConfig {
        let key = OrderKey::Column { number: 1, by: " ".to_owned() };
        let order_key = (order == Order::Key).then_some(key);
        let spec = StreamSpec { order, order_key, ..StreamSpec::new("a.b.c".parse().unwrap()) };
        StreamConfig { incarnation: Incarnation(1), version: 1, spec }
    }

    fn batch(source: u32, start: u64, lines: &[&str]) -> Arc<Batch> {
        let mut builder = BatchBuilder::new(start);
        lines.iter().for_each(|line| builder.push(Kind::Event, builder.end() + 10, None, line.as_bytes()));
        let source = SourceId::derive(1, &[&source.to_be_bytes()]);
        Arc::new(builder.take(&"a.b.c".parse().unwrap(), Incarnation(1), source).unwrap())
    }

    #[test]
    fn a_source_stays_for_a_stretch_or_for_good_and_all_partitions_are_used() {
        let at = |order, n, start| match spread(&config(order), 6, &batch(n, start, &["x"])).as_slice() {
            [(place, _)] => place.partition,
            several => panic!("{several:?}"),
        };
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

    #[test]
    fn a_key_stays_in_one_partition_in_order_and_all_partitions_are_used() {
        let lines: Vec<String> = (0..900).map(|n| format!("key{} {n}", n % 300)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let whole = batch(1, 0, &lines);
        let shares = spread(&config(Order::Key), 6, &whole);
        assert_eq!(shares.iter().map(|(_, share)| share.len()).sum::<usize>(), whole.len());
        assert!(shares.len() == 6 && shares.iter().all(|(_, share)| share.len() > 75), "{:?}", shares.len());
        for (place, share) in &shares {
            for record in share.records() {
                let line = std::str::from_utf8(&record.body).unwrap();
                let other = spread(&config(Order::Key), 6, &batch(2, 7, &[line]));
                assert_eq!(other[0].0, *place, "{line} from another source");
            }
            assert!(share.records().is_sorted_by_key(|record| record.range.start));
        }
        assert_eq!(spread(&config(Order::Key), 1, &whole).len(), 1, "one partition has all keys");
    }
}
