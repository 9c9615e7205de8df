//! `fuzz`: coverage-guided fuzzing of one target, of a package's, or of all, on stable Rust (decision 0011).
//!
//! A target is a test in a package's `src/fuzz.rs`; its corpus lies beside it in `__fuzz__/<target>/corpus`. What the fuzzer
//! finds on its way goes to `target/fuzz/found`, so that a later run goes on from there. An input that breaks the target is
//! written into the corpus as `found-...`: from then on `cargo test` fails, until it is mended and the file has a name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{cargo, root, step};

/// What makes rustc's LLVM tell libFuzzer which code was reached. All of it is stable; sanitizers are not, and in code
/// without `unsafe` a panic, an abort, a hang and memory without end are what there is to find.
const FLAGS: [&str; 9] = [
    "--cfg fuzzing",
    "--cfg fuzzing_libfuzzer",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "-Ccodegen-units=1",
];
/// How long each target is fuzzed if nothing else is said.
const MINUTES: f64 = 10.0;
/// Longest input that is made up; a corpus may hold longer ones.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// What one input may take: seconds, and MiB of memory.
const SECONDS_MAX: usize = 10;
const MEMORY_MIB_MAX: usize = 1_024;

/// One target.
#[derive(Debug)]
struct Target {
    package: String,
    name: String,
    corpus: PathBuf,
    features: Option<String>,
}

/// Fuzzes the targets that the arguments name: `[PACKAGE | TARGET | PACKAGE/TARGET]... [--minutes N]`.
pub fn run(arguments: &[String]) -> Result<()> {
    let (mut minutes, mut wanted, mut rest) = (MINUTES, Vec::new(), arguments.iter());
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--minutes" => minutes = rest.next().context("--minutes needs a number")?.parse()?,
            flag if flag.starts_with('-') => bail!("unknown flag {flag}; use [TARGET]... [--minutes N]"),
            name => wanted.push(name),
        }
    }
    let all = targets()?;
    let is_wanted = |target: &Target, name: &str| {
        name == target.name || name == target.package || name == format!("{}/{}", target.package, target.name)
    };
    if let Some(unknown) = wanted.iter().find(|name| !all.iter().any(|target| is_wanted(target, name))) {
        let names: Vec<String> = all.iter().map(|target| format!("{}/{}", target.package, target.name)).collect();
        bail!("no target {unknown}; there are {}", names.join(", "));
    }
    let chosen = |target: &&Target| wanted.is_empty() || wanted.iter().any(|name| is_wanted(target, name));
    let broken: Vec<&str> =
        all.iter().filter(chosen).filter(|target| fuzz(target, minutes).is_err()).map(|t| t.name.as_str()).collect();
    ensure!(broken.is_empty(), "broken: {}; see above, and the new files in their corpora", broken.join(", "));
    Ok(())
}

/// Every target of every package.
fn targets() -> Result<Vec<Target>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let package = entry?.path();
        let Ok(text) = fs::read_to_string(package.join("src/fuzz.rs")) else { continue };
        let manifest = fs::read_to_string(package.join("Cargo.toml"))?;
        let name = package.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let features = manifest.contains("\nkafka = [").then(|| format!("{name}/kafka"));
        for target in text.split("check!(name = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let corpus = package.join("src/__fuzz__").join(target).join("corpus");
            all.push(Target { package: name.clone(), name: target.to_owned(), corpus, features: features.clone() });
        }
    }
    all.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(all)
}

fn fuzz(target: &Target, minutes: f64) -> Result<()> {
    let (found, corpus) = (root().join("target/fuzz/found").join(&target.package).join(&target.name), &target.corpus);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(corpus)?;
    let arguments = [
        plain(&found)?,
        plain(corpus)?,
        format!("-artifact_prefix={}/found-", plain(corpus)?),
        format!("-max_total_time={:.0}", minutes * 60.0),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-timeout={SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        "-print_final_stats=1".to_owned(),
    ];
    // With a target named, build scripts and macros are built without the flags: they are those of every build.
    let host = host()?;
    let mut command = cargo(&["test", "--lib", "--target", &host, "--package", &target.package]);
    command.args(target.features.iter().flat_map(|features| ["--features", features]));
    command.args(["--", &format!("fuzz::{}", target.name), "--exact", "--nocapture", "--test-threads", "1"]);
    command.env("RUSTFLAGS", FLAGS.join(" ")).env("BOLERO_LIBFUZZER_ARGS", arguments.join(" "));
    step(&format!("fuzz {}/{}", target.package, target.name), &mut command)
}

/// libFuzzer's arguments are parted at blanks.
fn plain(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains(' '));
    text.map(str::to_owned).with_context(|| format!("{}: a path without blanks is needed", path.display()))
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}
