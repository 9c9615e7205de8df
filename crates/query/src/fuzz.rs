//! Fuzz targets of what users write and what their records hold. Each test is one (decision 0011): with the other tests it
//! runs its corpus in `__fuzz__` and some noise, under `cargo xtask fuzz` whatever reaches new code.

use bolero::check;
use stream::{Header, Kind, Range, SourceId};

use crate::leg::hand_over::HandOver;
use crate::sql::{self, InputRow, Job, RowFate};

/// Runs every leg of a job over these bodies; each record has its fate.
fn run(job: &Job, bodies: &[&[u8]]) {
    let (source, range) = (SourceId::derive(1, &[]), Range::new(0, 1));
    let header = Header { kind: Kind::Event, source, range, lap: 0, event_time_ms: None };
    let rows: Vec<InputRow<'_>> =
        bodies.iter().map(|body| InputRow { body, header: &header, append_time_ms: 7 }).collect();
    for leg in &job.legs {
        let output = leg.run(&rows);
        assert_eq!(output.fates.len(), rows.len());
        let delivered = output.fates.iter().filter(|fate| **fate == RowFate::Delivered).count();
        assert_eq!(
            (output.batch.num_rows(), output.origin.len(), output.event_times_ms.len()),
            (delivered, delivered, delivered)
        );
        assert_eq!(output.batch.schema(), leg.schema);
    }
}

/// A job's text; behind zero bytes records that it is run over, if it is one. Problems have a place in the text.
#[test]
fn job() {
    check!(name = "job").for_each(|bytes: &[u8]| {
        let mut parts = bytes.split(|byte| *byte == 0);
        let Some(Ok(text)) = parts.next().map(std::str::from_utf8) else { return };
        match sql::check(text, &["files", "s"]) {
            Ok(job) => run(&job, &parts.collect::<Vec<_>>()),
            Err(error) => {
                assert!(!error.problems.is_empty() && !error.to_string().is_empty());
                let lines = text.split('\n').count() as u64;
                assert!(error.problems.iter().all(|problem| problem.line <= lines + 1));
            }
        }
    });
}

/// Records between zero bytes, as JSON of every type.
#[test]
fn json() {
    let text = "CREATE TABLE r (a STRING, b INT, c DOUBLE, d DECIMAL(20, 5), e BOOLEAN, f TIMESTAMP(3), g DATE, \
        h ROW<i BIGINT, j ROW<k STRING>>, l TIMESTAMP_LTZ(3)) WITH ('format' = 'json'); \
        INSERT INTO files SELECT a, b, c, d, e, f, g, h.j.k AS k, JSON_VALUE(a, '$.x[1].y') AS v, l FROM r;";
    let job = sql::check(text, &["files"]);
    let job = std::panic::AssertUnwindSafe(job.unwrap_or_else(|error| panic!("{error}")));
    check!(name = "json").for_each(|bytes: &[u8]| run(&job, &bytes.split(|byte| *byte == 0).collect::<Vec<_>>()));
}

/// A hand-over object's text; what is one stays the same when it is written and read again, and so does what a leg makes
/// of it.
#[test]
fn hand_over() {
    check!(name = "hand_over").for_each(|bytes: &[u8]| {
        let object = match HandOver::read(bytes) {
            Ok(object) => object,
            Err(error) => return assert!(!error.to_string().is_empty()),
        };
        let text = object.text().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(HandOver::read(text.as_bytes()).ok().as_ref(), Some(&object));
        let Ok(state) = object.state() else { return };
        assert!(state.sources.values().all(|source| !source.last.is_empty()));
        let own = HandOver::of(&object.topic, &object.job, &state);
        assert_eq!(own.state().ok().as_ref(), Some(&state));
        assert_eq!((own.checkpoint, own.horizon_minutes), (object.checkpoint, object.horizon_minutes));
    });
}
