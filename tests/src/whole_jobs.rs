//! Whole jobs that both engines must answer alike: their texts and inputs, and their answers as text, so that what a real Flink said can be
//! kept and compared. `cargo xtask golden jobs` makes and checks what is kept; a test runs the same jobs on the embedded engine.
//!
//! A job is a file of `crates/query/tests/golden/jobs`: its text, which says at its top `-- input: FILE` (beside it, or real
//! data) and `-- sinks: NAME, ...`; and `-- differs: NAME` if it shows a difference between the engines. Record n of its input,
//! counted from 0, has the header, the append time and the partition that [`Record`] gives it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

/// The source that all records are of.
pub const SOURCE: &str = "1c83d0a000000000deadbeef";
/// When the journal took the first record, in ms since 1970; one comes every 10 ms.
const APPENDED_MS: i64 = 1_431_820_800_000;
/// The first record's own time; every second has one, a minute later each.
const SENT_MS: i64 = 1_446_249_600_000;
/// Rows and records that are kept in full, and how much of each; of real data none are: they are somebody else's.
const KEPT_ROWS: usize = 3;
const KEPT_CHARS: usize = 240;
/// What stands for the cause of a record that cannot be decoded: each engine has its own words for that.
pub const UNDECODED: &str = "cannot be decoded";

/// A job.
pub struct Job {
    /// Its file's name without the ending.
    pub name: String,
    /// Its text.
    pub sql: String,
    /// Its sinks.
    pub sinks: Vec<String>,
    /// The file of its records, a line each.
    pub input: PathBuf,
    /// The difference that it shows, if it shows one.
    pub differs: Option<String>,
}

/// One record of a job's input.
pub struct Record<'a> {
    /// Its header `il`.
    pub header: String,
    /// When the journal took it, in ms since 1970.
    pub append_time_ms: i64,
    /// Its own bytes.
    pub body: &'a [u8],
}

impl Job {
    /// Whether its input lies beside it.
    fn is_made(&self) -> bool {
        self.input.starts_with(folder())
    }

    /// The bytes of its input.
    pub fn read_input(&self) -> Result<Vec<u8>> {
        let advice = "set ISOLANE_DATA to the folder of the real data; without it nothing is compared";
        fs::read(&self.input).with_context(|| format!("job {}: {}: {advice}", self.name, self.input.display()))
    }
}

/// The folder of the jobs.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/query/tests/golden/jobs")
}

/// All jobs, by name.
pub fn jobs() -> Result<Vec<Job>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("ISOLANE_DATA").map_or(beside, PathBuf::from);
    let mut jobs = Vec::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".sql")) else { continue };
        let sql = fs::read_to_string(&path)?;
        let said = |key: &str| sql.lines().find_map(|line| line.strip_prefix(&format!("-- {key}: ")));
        let (input, sinks) =
            said("input").zip(said("sinks")).with_context(|| format!("{name}: no input or no sinks"))?;
        let own = folder().join(input);
        let input = if own.is_file() { own } else { data.join(input) };
        let sinks = sinks.split(", ").map(str::to_owned).collect();
        let differs = said("differs").map(str::to_owned);
        jobs.push(Job { name: name.to_owned(), sinks, input, differs, sql });
    }
    jobs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(jobs)
}

/// The records of an input, as they are offered to both engines.
pub fn records(input: &[u8]) -> Vec<Record<'_>> {
    let lines = input.strip_suffix(b"\n").unwrap_or(input).split(|byte| *byte == b'\n').enumerate();
    let placed = lines.scan(0, |end, (n, body)| {
        let (start, length) = (*end, body.len() + 1);
        *end += length;
        let sent = if n % 2 == 0 { format!(".{}", SENT_MS + n as i64 * 60_000) } else { String::new() };
        let header = format!("e{SOURCE}.{start:x}.{length:x}.0{sent}");
        Some(Record { header, append_time_ms: APPENDED_MS + n as i64 * 10, body })
    });
    placed.collect()
}

/// What an engine made of a job: rows and records set apart, by sink, a line of text each.
#[derive(Default)]
pub struct Answers {
    /// What was delivered.
    pub rows: BTreeMap<String, Vec<String>>,
    /// What was set apart.
    pub apart: BTreeMap<String, Vec<String>>,
}

impl Answers {
    /// What is kept of them: how many, a digest of all, and the first if the job's input was made for it.
    pub fn summary(&self, job: &Job) -> String {
        let rows_kept = if job.is_made() { KEPT_ROWS } else { 0 };
        let of = |lines: &BTreeMap<String, Vec<String>>| -> Value {
            let some = lines.iter().filter(|(_, lines)| !lines.is_empty());
            some.map(|(sink, lines)| (sink.clone(), summary(lines.clone(), rows_kept)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let whole = json!({"rows": of(&self.rows), "set apart": of(&self.apart)});
        format!("{whole:#}\n")
    }

    /// All of them, sorted.
    pub fn whole(&self) -> String {
        let mut text = String::new();
        for (what, lines) in [("row", &self.rows), ("set apart", &self.apart)] {
            for (sink, lines) in lines {
                let mut lines = lines.clone();
                lines.sort();
                lines.iter().for_each(|line| text += &format!("{sink}: {what}: {line}\n"));
            }
        }
        text
    }
}

fn summary(mut lines: Vec<String>, rows_kept: usize) -> Value {
    lines.sort();
    let digest = blake3::hash(lines.join("\n").as_bytes()).to_hex();
    let short = |line: &String| line.chars().take(KEPT_CHARS).collect::<String>();
    let first: Vec<String> = lines.iter().take(rows_kept).map(short).collect();
    json!({"count": lines.len(), "digest": &digest[..32], "first": first})
}

/// A row as a line: the folder of its hour, and its columns.
pub fn row(hour: &str, batch: &RecordBatch, row: usize) -> String {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    let cells = cells.map(|(field, column)| format!(" {}={}", field.name(), cell(column, row)));
    hour.to_owned() + &cells.collect::<String>()
}

/// A record set apart as a line.
pub fn set_apart(il: &str, cause: &str, body: &[u8]) -> String {
    format!("{il} {} {cause}", &blake3::hash(body).to_hex()[..8])
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => format!("{:?}f", column.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Date32 => format!("day {}", column.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(unit, _) => format!("{} us", micros(column, *unit, row)),
        DataType::Utf8 => Value::from(column.as_string::<i32>().value(row)).to_string(),
        DataType::Binary => format!("{:x?}", column.as_binary::<i32>().value(row)),
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns().iter();
            let cells =
                fields.iter().zip(columns).map(|(field, column)| format!(" {}={}", field.name(), cell(column, row)));
            format!("({})", cells.collect::<String>().trim_start())
        }
        other => format!("a column of type {other}"),
    }
}

fn micros(column: &dyn Array, unit: TimeUnit, row: usize) -> i128 {
    let value = |value: i64, nanos: i128| i128::from(value) * nanos / 1_000;
    match unit {
        TimeUnit::Second => value(column.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000),
        TimeUnit::Millisecond => value(column.as_primitive::<TimestampMillisecondType>().value(row), 1_000_000),
        TimeUnit::Microsecond => value(column.as_primitive::<TimestampMicrosecondType>().value(row), 1_000),
        TimeUnit::Nanosecond => value(column.as_primitive::<TimestampNanosecondType>().value(row), 1),
    }
}

/// The answers of a job that Flink has run with its output in `dir`.
pub fn of_flink(job: &Job, dir: &Path) -> Result<Answers> {
    let mut answers = Answers::default();
    for sink in &job.sinks {
        let lines = answers.rows.entry(sink.clone()).or_default();
        each_file(&dir.join(sink), &mut |path, batch| {
            let part = |key: &str| path.iter().find_map(|part| part.to_str()?.strip_prefix(key));
            let hour = part("dt=").zip(part("hour=")).with_context(|| format!("{}: no hour", path.display()))?;
            let hour = format!("{} {}", hour.0, hour.1);
            lines.extend((0..batch.num_rows()).map(|at| row(&hour, batch, at)));
            Ok(())
        })?;
        let lines = answers.apart.entry(sink.clone()).or_default();
        for (folder, undecoded) in
            [("sink=__HIVE_DEFAULT_PARTITION__".to_owned(), true), (format!("sink={sink}"), false)]
        {
            each_file(&dir.join("set-apart").join(folder), &mut |path, batch| {
                let text = |name: &str| batch.column_by_name(name).map(|column| column.as_string::<i32>());
                let value = batch.column_by_name("value").map(|column| column.as_binary::<i32>());
                let columns = text("il").zip(text("cause")).zip(value).zip(text("fate"));
                let (((il, cause), value), fate) = columns.with_context(|| format!("{}: columns", path.display()))?;
                for at in 0..batch.num_rows() {
                    ensure!(fate.value(at) == "quarantined", "{}: fate {}", path.display(), fate.value(at));
                    let cause = if undecoded { UNDECODED } else { cause.value(at) };
                    lines.push(set_apart(il.value(at), cause, value.value(at)));
                }
                Ok(())
            })?;
        }
    }
    Ok(answers)
}

/// Reads all committed files under a folder, if it is there.
fn each_file(dir: &Path, take: &mut impl FnMut(&Path, &RecordBatch) -> Result<()>) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match path.is_dir() {
            true => each_file(&path, take)?,
            false if name.starts_with(['.', '_']) => {
                ensure!(!name.contains("inprogress"), "{} was not committed", path.display())
            }
            false => {
                let file = ParquetRecordBatchReaderBuilder::try_new(File::open(&path)?)?.build()?;
                file.into_iter()
                    .try_for_each(|batch| take(&path, &batch?))
                    .with_context(|| path.display().to_string())?;
            }
        }
    }
    Ok(())
}
