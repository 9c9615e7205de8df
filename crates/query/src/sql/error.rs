//! What is wrong with a job text, where, and what to do about it. A check collects as many problems as it can find, so
//! that a person mends a text in one go.

use std::fmt;

/// Why a job text was refused: at least one problem, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SqlError {
    /// Every problem that was found.
    pub problems: Vec<Problem>,
}

/// One problem of a job text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1. 0 where the problem concerns the whole text.
    pub line: u64,
    /// Column in characters, from 1. 0 where the problem concerns the whole text.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty where the message says it all.
    pub advice: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        f.write_str(&self.message)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// A place in a job text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl At {
    /// The problem at this place.
    pub fn problem(self, message: impl Into<String>, advice: impl Into<String>) -> Problem {
        Problem { line: self.line, column: self.column, message: message.into(), advice: advice.into() }
    }
}

impl Problem {
    /// A problem of the whole text.
    pub fn whole(message: impl Into<String>, advice: impl Into<String>) -> Self {
        At { line: 0, column: 0 }.problem(message, advice)
    }
}
