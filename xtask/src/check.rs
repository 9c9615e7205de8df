//! `check`: formatting, lints, the house's rules.

use anyhow::Result;

use crate::run::{cargo, step};
use crate::tidy;

/// What all builds of the project's own tests share, so that nothing is built twice.
pub const WHOLE: [&str; 3] = ["--workspace", "--features", "isolane/crash-points,isolane/kafka"];

/// Runs every check.
pub fn run() -> Result<()> {
    step("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    let mut clippy = cargo(&["clippy", "--all-targets"]);
    step("lints", clippy.args(WHOLE).args(["--", "-D", "warnings"]))
}
