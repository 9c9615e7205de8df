//! `ledger`: accounts for every record of a stream; with `--verify` from the committed files themselves as well. Ends with
//! a non-zero code if anything is missing, doubled or damaged.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sink::files::footers::Footers;
use sink::files::verify::VerifyReport;
use stream::StreamId;
use stream::config::{Engine, SinkKind, StreamConfig};
use stream::control::AdminClient;
use stream::disk::RealDisk;

use super::{folder_of, table};
use crate::args;

#[derive(Serialize)]
struct Account {
    #[serde(flatten)]
    ledger: admin::ledger::Ledger,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verified: Vec<Verified>,
}

#[derive(Serialize)]
struct Verified {
    leg: String,
    folder: PathBuf,
    report: VerifyReport,
}

/// Prints the account.
pub async fn run(args: args::Ledger) -> Result<ExitCode> {
    let id: StreamId = args.id.parse()?;
    let admin = AdminClient::new(args.admin.admin.clone());
    let ledger: admin::ledger::Ledger = admin.get(&format!("/api/v1/ledger/{id}")).await?;
    let verified = if args.verify { verify(&admin, &id, &args.data_dir).await? } else { Vec::new() };
    let account = Account { ledger, verified };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&account)?);
    } else {
        print(&account);
    }
    Ok(if account.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify(admin: &AdminClient, id: &StreamId, data_dir: &Path) -> Result<Vec<Verified>> {
    let stream: StreamConfig = admin.get(&format!("/api/v1/streams/{id}")).await?;
    let verify_sink = |spec: &stream::config::SinkSpec| -> Result<Option<Verified>> {
        let SinkKind::Files { path, .. } = &spec.kind else {
            eprintln!("{}: only files are verified here; read the topic with read_committed", spec.name);
            return Ok(None);
        };
        let folder = folder_of(&stream, &spec.name, path.as_deref(), data_dir);
        if stream.spec.engine == Engine::Flink {
            let born = UNIX_EPOCH + Duration::from_millis(stream.incarnation.born_ms().unsigned_abs());
            let report = footers(&folder, born)?;
            return Ok(Some(Verified { leg: spec.name.clone(), folder, report }));
        }
        let report = sink::files::verify::verify(&RealDisk, &folder)
            .with_context(|| format!("{}: is --data-dir the one that `up` uses?", folder.display()))?;
        Ok(Some(Verified { leg: spec.name.clone(), folder, report }))
    };
    stream.spec.sinks.iter().filter_map(|spec| verify_sink(spec).transpose()).collect()
}

/// What files that a job on Flink has committed say of themselves: there is no list of them to hold them against.
fn footers(folder: &Path, born: SystemTime) -> Result<VerifyReport> {
    let mut footers = Footers::new(folder.to_owned(), born);
    footers.read_on()?;
    ensure!(footers.files() > 0, "{}: no files; is --data-dir where the engine role publishes?", folder.display());
    let findings = footers.findings().to_vec();
    Ok(VerifyReport { files: footers.files(), rows: footers.rows(), findings, ..VerifyReport::default() })
}

impl Account {
    fn is_good(&self) -> bool {
        let complete = self.ledger.legs.iter().all(|leg| leg.missing == 0);
        complete && self.verified.iter().all(|verified| verified.report.findings.is_empty())
    }
}

fn print(account: &Account) {
    let ledger = &account.ledger;
    let collected = &ledger.collected;
    println!("stream {} (incarnation {}, version {})", ledger.stream, ledger.incarnation, ledger.version);
    println!(
        "collected: {} sources, {} bytes seen, {} acknowledged, {} set apart by the agent",
        collected.sources_total, collected.seen, collected.acknowledged, collected.set_apart
    );
    if let Some(cause) = &ledger.ends_unknown {
        println!("the journal's ends are not known, so nothing can be called missing: {cause}");
    }
    let titles = [
        "leg",
        "commit",
        "delivered",
        "filtered",
        "quarantined",
        "late",
        "doubles removed",
        "in flight bytes",
        "missing bytes",
    ];
    table::print(&titles, &ledger.legs.iter().map(leg_row).collect::<Vec<_>>());
    for leg in &ledger.legs {
        for missing in &leg.missing_ranges {
            let ranges: Vec<String> =
                missing.ranges.as_slice().iter().map(|r| format!("{}..{}", r.start, r.end)).collect();
            println!("MISSING in {}: source {} ({}): {}", leg.leg, missing.source, missing.name, ranges.join(", "));
        }
        if let Some(failure) = &leg.failure {
            println!("{} stands still: {failure}", leg.leg);
        }
    }
    account.verified.iter().for_each(print_verified);
}

fn leg_row(leg: &admin::ledger::LegBalance) -> Vec<String> {
    let fates = &leg.fates;
    let numbers = [
        Some(leg.commit),
        Some(fates.delivered),
        leg.counted(fates.filtered),
        Some(fates.in_quarantine()),
        leg.counted(fates.late),
        leg.counted(fates.doubles),
        Some(leg.in_flight),
        Some(leg.missing),
    ];
    let texts = numbers.map(|number| number.map_or_else(|| "-".to_owned(), |number| number.to_string()));
    std::iter::once(leg.leg.clone()).chain(texts).collect()
}

fn print_verified(verified: &Verified) {
    let report = &verified.report;
    println!(
        "verified {}: {} commits, {} files, {} rows in {}",
        verified.leg,
        report.commits,
        report.files,
        report.rows,
        verified.folder.display()
    );
    report.findings.iter().for_each(|finding| println!("WRONG in {}: {finding}", verified.leg));
}
