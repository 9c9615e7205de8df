//! A leg's state as records of a compacted topic: now and then a snapshot in pieces, between them the change of each
//! commit. Pure.
//!
//! ```text
//! key <leg>#s<piece>   headers commit, pieces   value: that piece of the snapshot, JSON
//! key <leg>#d<n>       headers commit, base     value: the n-th change since the snapshot of commit `base`, JSON
//! ```
//!
//! Compaction keeps the last record of each key, so changes of an older snapshot may still stand there: they name another
//! base and count for nothing.

use std::collections::BTreeMap;

use kafka::batch::Record;

use crate::state::{Commit, LegState};

/// Bytes of one piece of a snapshot.
const PIECE_BYTES: usize = 512 << 10;
/// Changes after which a snapshot follows: what a recovery reads at most beside it.
const CHANGES_MAX: u64 = 200;
/// A snapshot follows sooner when the changes since the last have this many times its bytes.
const CHANGES_PER_SNAPSHOT: usize = 4;
/// Changes of fewer bytes than this are never a reason for a snapshot.
const CHANGES_BYTES_MIN: usize = 1 << 20;

/// A record of the state topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// Its key.
    pub key: String,
    /// Its headers.
    pub headers: [(&'static str, String); 2],
    /// Its value.
    pub value: Vec<u8>,
}

/// Where the last snapshot and the changes since stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    base: u64,
    changes: u64,
    changes_bytes: usize,
    snapshot_bytes: usize,
}

impl Book {
    /// The records that make `state`, just changed by `commit`, durable.
    pub fn records(&mut self, leg: &str, state: &LegState, commit: &Commit) -> Vec<StateRecord> {
        let change = json(commit);
        let is_long =
            self.changes_bytes + change.len() > CHANGES_BYTES_MIN.max(CHANGES_PER_SNAPSHOT * self.snapshot_bytes);
        if self.changes < CHANGES_MAX && !is_long && change.len() <= PIECE_BYTES {
            let headers = [("commit", state.commit.to_string()), ("base", self.base.to_string())];
            let record = StateRecord { key: format!("{leg}#d{}", self.changes), headers, value: change };
            self.changes += 1;
            self.changes_bytes += record.value.len();
            return vec![record];
        }
        let snapshot = json(state);
        *self = Self { base: state.commit, changes: 0, changes_bytes: 0, snapshot_bytes: snapshot.len() };
        let pieces: Vec<&[u8]> = snapshot.chunks(PIECE_BYTES).collect();
        let headers = [("commit", state.commit.to_string()), ("pieces", pieces.len().to_string())];
        let record = |(at, piece): (usize, &&[u8])| StateRecord {
            key: format!("{leg}#s{at}"),
            headers: headers.clone(),
            value: piece.to_vec(),
        };
        pieces.iter().enumerate().map(record).collect()
    }
}

/// States and commits are maps with text keys and numbers: nothing that JSON cannot say.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a leg's state has a JSON form")
}

/// The state gathered from the topic's records, in the order of their offsets.
#[derive(Debug, Default)]
pub struct Folded {
    state: LegState,
    book: Book,
    pieces: BTreeMap<usize, Vec<u8>>,
    pieces_of: u64,
    failure: Option<String>,
    /// A change that is not there although a later one is.
    gap: Option<String>,
}

impl Folded {
    /// Takes a record, if it is this leg's.
    pub fn add(&mut self, leg: &str, record: &Record) {
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let Some(kind) = key.and_then(|key| key.strip_prefix(leg)?.strip_prefix('#')) else { return };
        let number = |name| record.header(name).and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
        let value = record.value.as_deref().unwrap_or_default();
        let taken = match (kind.strip_prefix('s'), kind.strip_prefix('d')) {
            (Some(piece), _) => piece
                .parse()
                .ok()
                .zip(number("commit"))
                .zip(number("pieces"))
                .map(|((piece, commit), pieces)| self.add_piece(piece, commit, pieces as usize, value)),
            (_, Some(_)) => {
                number("commit").zip(number("base")).map(|(commit, base)| self.add_change(commit, base, value))
            }
            _ => None,
        };
        let what = || format!("the record at offset {} of leg {leg}'s state", record.offset);
        match taken {
            Some(Ok(())) => {}
            Some(Err(cause)) => drop(self.failure.get_or_insert_with(|| format!("{} cannot be read: {cause}", what()))),
            None => drop(self.failure.get_or_insert_with(|| format!("{} is none of isolane's", what()))),
        }
    }

    fn add_piece(&mut self, at: usize, commit: u64, pieces: usize, value: &[u8]) -> Result<(), serde_json::Error> {
        if commit != self.pieces_of {
            self.pieces.clear();
            self.pieces_of = commit;
        }
        self.pieces.insert(at, value.to_vec());
        if self.pieces.len() < pieces {
            return Ok(());
        }
        let whole: Vec<u8> = std::mem::take(&mut self.pieces).into_values().flatten().collect();
        self.state = serde_json::from_slice(&whole)?;
        self.gap = None;
        self.book = Book { base: commit, changes: 0, changes_bytes: 0, snapshot_bytes: whole.len() };
        Ok(())
    }

    fn add_change(&mut self, commit: u64, base: u64, value: &[u8]) -> Result<(), serde_json::Error> {
        // Of an older snapshot, left standing by compaction.
        if base != self.book.base || commit <= self.state.commit {
            return Ok(());
        }
        if commit != self.state.commit + 1 {
            // No loss, if a snapshot follows.
            let missing = self.state.commit + 1;
            self.gap.get_or_insert_with(|| format!("the change of commit {missing} is missing before {commit}"));
            return Ok(());
        }
        self.state.apply(commit, &serde_json::from_slice(value)?);
        self.book.changes += 1;
        self.book.changes_bytes += value.len();
        Ok(())
    }

    /// The state, and how to go on writing it.
    pub fn finish(self) -> Result<(LegState, Book), String> {
        match self.failure.or(self.gap) {
            None => Ok((self.state, self.book)),
            Some(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::SourceState;
    use bytes::Bytes;
    use proptest::prelude::*;
    use stream::fate::FateCounts;
    use stream::provenance::{Range, SourceId};

    fn commit(n: u64, sources: u64) -> Commit {
        let source = |i: u64| {
            let taken = [Range::new(n * 10, n * 10 + 7)].into_iter().collect();
            (SourceId::derive(1, &[&i.to_be_bytes()]), SourceState { taken, finished: None, last: Vec::new() })
        };
        let fates = FateCounts { delivered: n, ..FateCounts::default() };
        Commit { sources: (0..sources).map(source).collect(), fates, ..Commit::default() }
    }

    fn log_of(leg: &str, records: Vec<StateRecord>, log: &mut Vec<Record>) {
        for StateRecord { key, headers, value } in records {
            let headers = headers.map(|(name, value)| (Bytes::from(name), Bytes::from(value))).to_vec();
            let (offset, key) = (log.len() as i64, Some(Bytes::from(key)));
            log.push(Record { offset, time_ms: 0, key, value: Some(value.into()), headers });
        }
        // Another leg's record lies between, whose name begins like this one's.
        let key = Some(Bytes::from(format!("{leg}2#d0")));
        log.push(Record { offset: log.len() as i64, time_ms: 0, key, value: None, headers: Vec::new() });
    }

    /// What compaction leaves: the last record of each key, and whatever it has not come to yet.
    fn compacted(log: &[Record], up_to: usize) -> Vec<Record> {
        let is_last =
            |(at, record): &(usize, &Record)| *at >= up_to || !log[at + 1..].iter().any(|r| r.key == record.key);
        log.iter().enumerate().filter(is_last).map(|(_, record)| record.clone()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_state_is_found_again_after_any_compaction_and_goes_on(
            commits in 1..450_u64, sources in 1..40_u64, up_to: usize, restart in 0..450_u64,
        ) {
            let (mut state, mut book, mut log) = (LegState::default(), Book::default(), Vec::new());
            for n in 1..=commits {
                let commit = commit(n, sources);
                state.apply(n, &commit);
                log_of("leg", book.records("leg", &state, &commit), &mut log);
                if n == restart {
                    let mut folded = Folded::default();
                    log.iter().for_each(|record| folded.add("leg", record));
                    let found = folded.finish().unwrap();
                    prop_assert_eq!(&found.0, &state);
                    book = found.1;
                }
            }
            let up_to = up_to % (log.len() + 1);
            let mut folded = Folded::default();
            compacted(&log, up_to).iter().for_each(|record| folded.add("leg", record));
            prop_assert_eq!(folded.finish().unwrap().0, state);
        }
    }
}
