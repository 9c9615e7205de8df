//! Where topics end: the one thing that admin asks the journal, behind a trait so that tests state the ends themselves.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use journal::{AnyJournal, Journal};
use tokio::time::timeout;

use crate::ledger::End;

/// How long the journal may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The ends of topics by key; a topic that the journal does not know is left out. The error is for people.
pub type EndsAnswer = Result<HashMap<String, Vec<End>>, String>;

/// Whoever knows where topics end.
pub trait Ends: Send + Sync + 'static {
    /// The ends of `topics`, each no older than this call.
    fn ends(&self, topics: Vec<String>) -> Pin<Box<dyn Future<Output = EndsAnswer> + Send + '_>>;
}

/// The journal's own ends.
pub struct JournalEnds(pub AnyJournal);

impl Ends for JournalEnds {
    fn ends(&self, topics: Vec<String>) -> Pin<Box<dyn Future<Output = EndsAnswer> + Send + '_>> {
        Box::pin(async move {
            let answer = timeout(ANSWER, self.0.bounds(&topics)).await;
            let bounds = answer
                .map_err(|_| format!("the journal did not answer within {} s", ANSWER.as_secs()))?
                .map_err(|refusal| refusal.to_string())?;
            let mut ends: HashMap<String, Vec<End>> = HashMap::new();
            for bound in bounds {
                let end =
                    End { place: bound.place, offset: bound.end_offset, overtaken_records: bound.overtaken_records };
                ends.entry(bound.topic).or_default().push(end);
            }
            Ok(ends)
        })
    }
}

/// Where no journal is known.
pub struct NoEnds;

impl Ends for NoEnds {
    fn ends(&self, _: Vec<String>) -> Pin<Box<dyn Future<Output = EndsAnswer> + Send + '_>> {
        Box::pin(async { Err("no journal is configured".to_owned()) })
    }
}
