//! `sql check`.

use anyhow::{Context, Result};

use crate::args;

/// Says whether the job's text runs on the embedded engine.
pub fn run(verb: args::Sql) -> Result<()> {
    let args::Sql::Check { file, sink } = verb;
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let sinks: Vec<&str> = sink.iter().map(String::as_str).collect();
    let job = query::sql::check(&text, &sinks).with_context(|| file.display().to_string())?;
    for leg in &job.legs {
        let columns: Vec<String> =
            leg.schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
        println!("leg {}: {}", leg.sink, columns.join(", "));
    }
    Ok(())
}
