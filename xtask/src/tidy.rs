//! The house's rules that no compiler checks: headers, lengths, arrows between rooms, who may know what, and how far a
//! newcomer must read to follow a record. Each failure says the rule and the place.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::run::root;

/// Longest file before its tests.
const FILE_LINES_MAX: usize = 500;
/// The way of a record, in ARCHITECTURE.md: files and lines without tests.
const WAY_FILES_MAX: usize = 15;
const WAY_LINES_MAX: usize = 5_000;

/// Which rooms a room may depend on.
const ARROWS: [(&str, &[&str]); 9] = [
    ("stream", &[]),
    ("kafka", &["stream"]),
    ("journal", &["kafka", "stream"]),
    ("sink", &["kafka", "stream"]),
    ("agent", &["stream"]),
    ("gateway", &["stream", "journal"]),
    ("query", &["stream", "journal", "sink"]),
    ("admin", &["stream", "journal"]),
    ("flink", &["stream"]),
];

/// Who alone may depend on a library.
const KNOWN_BY: [(&str, &[&str]); 6] = [
    ("sqlx", &["admin"]),
    ("maud", &["admin"]),
    ("sqlparser", &["query"]),
    ("parquet", &["sink"]),
    ("prost", &["stream", "gateway"]),
    ("kafka-protocol", &["kafka"]),
];

/// Marks that need a decision or an end.
const OPEN_MARKS: [&str; 4] = ["todo!(", "unimplemented!(", "// TODO", "#[ignore"];

/// Checks every rule; lists all that fail.
pub fn run() -> Result<()> {
    let sources = sources(&root())?;
    let mut failures = Vec::new();
    for source in &sources {
        check_source(source, &mut failures)?;
    }
    check_arrows(&mut failures)?;
    check_way(&mut failures)?;
    ensure!(failures.is_empty(), "the house's rules:\n  {}", failures.join("\n  "));
    eprintln!("== tidy: {} files keep the house's rules", sources.len());
    Ok(())
}

fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn check_source(path: &Path, failures: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let place = path.strip_prefix(root()).unwrap_or(path).display();
    if !text.starts_with("//!") {
        failures.push(format!("{place}: begin with a `//!` header that says what the file is and why"));
    }
    let lines = lines_without_tests(&text);
    if lines > FILE_LINES_MAX {
        failures
            .push(format!("{place}: {lines} lines before its tests; split it along a verb ({FILE_LINES_MAX} at most)"));
    }
    let own_rules = path.ends_with("xtask/src/tidy.rs");
    for mark in OPEN_MARKS.iter().filter(|mark| !own_rules && text.contains(**mark)) {
        failures.push(format!("{place}: {mark} stands open; end it, or decide in docs/decisions"));
    }
    Ok(())
}

/// Lines before the inline test module; a test module in a file of its own ends nothing.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let opens_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{');
    lines.windows(2).position(opens_tests).unwrap_or(lines.len())
}

fn check_arrows(failures: &mut Vec<String>) -> Result<()> {
    for (room, allowed) in ARROWS {
        let path = root().join("crates").join(room).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let section = section.split("\n[").next().unwrap_or_default();
        let dependencies: Vec<&str> = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
        for (other, _) in ARROWS.iter().filter(|(other, _)| dependencies.contains(other) && !allowed.contains(other)) {
            failures.push(format!("crates/{room} depends on {other}: the rooms' arrows do not go that way"));
        }
        for (library, _) in
            KNOWN_BY.iter().filter(|(library, by)| dependencies.contains(library) && !by.contains(&room))
        {
            failures.push(format!("crates/{room} knows {library}: not its business (see ARCHITECTURE.md)"));
        }
    }
    Ok(())
}

/// The files that ARCHITECTURE.md names between its two marks must exist and stay few and short.
fn check_way(failures: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let way =
        text.split("<!-- way -->").nth(1).context("ARCHITECTURE.md: no <!-- way --> marks around the record's way")?;
    let files: Vec<&str> = way.split('`').filter(|word| word.ends_with(".rs")).collect();
    let mut lines = 0;
    for file in &files {
        match fs::read_to_string(root().join(file)) {
            Ok(text) => lines += lines_without_tests(&text),
            Err(_) => failures.push(format!("ARCHITECTURE.md names {file}, which is not there")),
        }
    }
    eprintln!("== tidy: a record's way is {} files, {lines} lines", files.len());
    if files.len() > WAY_FILES_MAX || lines > WAY_LINES_MAX || files.is_empty() {
        failures.push(format!(
            "a record's way is {} files and {lines} lines; 1 to {WAY_FILES_MAX} files and {WAY_LINES_MAX} lines are allowed",
            files.len()
        ));
    }
    Ok(())
}
