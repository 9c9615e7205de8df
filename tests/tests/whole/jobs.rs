//! Whole jobs on real data, on the embedded engine: what a real Flink has answered is kept (`cargo xtask golden jobs`), and is
//! answered here too, row by row and record by record, but for differences that have a name and that `sql check` warns of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use harness::whole_jobs::{self, Answers, Job, UNDECODED};
use query::sql::{self, InputRow, RowFate};
use stream::Header;

/// Records that a leg takes at a time.
const BATCH: usize = 1_000;
/// Jobs without a difference that there are at least.
const ALIKE_MIN: usize = 12;

#[test]
fn whole_jobs_are_answered_as_by_flink() -> Result<()> {
    let jobs = whole_jobs::jobs()?;
    let mut wrong = Vec::new();
    for job in &jobs {
        let kept = whole_jobs::folder().join(format!("{}.json", job.name));
        let advice = || format!("{}: make it with `cargo xtask golden jobs`", kept.display());
        let kept = fs::read_to_string(&kept).with_context(advice)?;
        let answers = answers(job)?;
        match (&job.differs, answers.summary(job) == kept) {
            (None, true) => {}
            (None, false) => wrong.push(told(job, &answers)?),
            (Some(name), false) => ensure!(is_warned_of(job, name)?, "{}: no warning of {name}", job.name),
            (Some(_), true) => wrong.push(format!("{}: no difference any more: take its name away", job.name)),
        }
    }
    ensure!(wrong.is_empty(), "other answers than Flink's:\n{}", wrong.join("\n"));
    let shown: BTreeSet<&str> = jobs.iter().filter_map(|job| job.differs.as_deref()).collect();
    ensure!(
        shown == BTreeSet::from(["json-rest", "raw-utf8", "text-length"]),
        "other differences are shown: {shown:?}"
    );
    ensure!(jobs.iter().filter(|job| job.differs.is_none()).count() >= ALIKE_MIN, "too few jobs");
    Ok(())
}

fn is_warned_of(job: &Job, name: &str) -> Result<bool> {
    let sinks: Vec<&str> = job.sinks.iter().map(String::as_str).collect();
    Ok(sql::differences(&job.sql, &sinks)?.iter().any(|differs| differs.difference.name == name))
}

/// All answers go to a file, to be held against Flink's `target/flink-jobs/answers/NAME.rows`.
fn told(job: &Job, answers: &Answers) -> Result<String> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.rows", job.name));
    fs::write(&path, answers.whole())?;
    Ok(format!("{}: see {}\n{}", job.name, path.display(), answers.summary(job)))
}

/// What the embedded engine makes of a job.
fn answers(job: &Job) -> Result<Answers> {
    let input = job.read_input()?;
    let records = whole_jobs::records(&input);
    let headers: Vec<Header> = records.iter().map(|record| record.header.parse()).collect::<Result<_, _>>()?;
    let rows: Vec<InputRow> = (records.iter().zip(&headers))
        .map(|(record, header)| InputRow { body: record.body, header, append_time_ms: record.append_time_ms })
        .collect();
    let sinks: Vec<&str> = job.sinks.iter().map(String::as_str).collect();
    let checked = sql::check(&job.sql, &sinks).with_context(|| format!("job {}", job.name))?;
    let mut answers = Answers::default();
    for leg in &checked.legs {
        let delivered = answers.rows.entry(leg.sink.clone()).or_default();
        let apart = answers.apart.entry(leg.sink.clone()).or_default();
        for rows in rows.chunks(BATCH) {
            let output = leg.run(rows);
            for (at, ms) in output.event_times_ms.iter().enumerate() {
                let hour = DateTime::from_timestamp_millis(*ms).context("a time outside the calendar")?;
                delivered.push(whole_jobs::row(&hour.format("%Y-%m-%d %H").to_string(), &output.batch, at));
            }
            for (row, fate) in rows.iter().zip(&output.fates) {
                if let RowFate::Failed(cause) = fate {
                    let undecoded = ["json: ", "raw: "].iter().any(|format| cause.starts_with(format));
                    let cause = if undecoded { UNDECODED } else { cause };
                    apart.push(whole_jobs::set_apart(&row.header.to_string(), cause, row.body));
                }
            }
        }
    }
    Ok(answers)
}
