//! REGEXP_EXTRACT. Flink's patterns are Java's; they are rewritten to the `regex` crate, whose matching takes time linear
//! in the text, so that no pattern can stall a job. What that engine cannot do (look-around, back references, possessive
//! quantifiers) is refused by name. Groups of one pattern over one column are matched once per batch and shared.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::BooleanBuffer;
use regex::{Regex, RegexBuilder};

use super::super::cursor::excerpt;
use super::super::datum::{self, Datum};
use super::super::eval::{Outcome, Rows};
use super::super::types::SqlType;

/// Memory of one compiled pattern.
const COMPILED_BYTES_MAX: usize = 2 << 20;

/// A pattern. Shared between all calls that name it.
#[derive(Debug)]
pub struct Pattern {
    regex: Option<Regex>,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no regular expression for Java either; Flink then yields NULL.
    Invalid,
    /// Java takes it, this engine does not.
    Unsupported(&'static str),
}

impl Pattern {
    /// Compiles a pattern. An invalid one matches nothing, as in Flink.
    ///
    /// # Errors
    /// The pattern uses something that Java has and this engine has not.
    pub fn new(pattern: &str) -> Result<Self, &'static str> {
        match compile(pattern) {
            Ok(regex) => Ok(Self { regex: Some(regex) }),
            Err(Refused::Invalid) => Ok(Self { regex: None }),
            Err(Refused::Unsupported(what)) => Err(what),
        }
    }

    /// Whether it is a regular expression at all.
    pub fn is_valid(&self) -> bool {
        self.regex.is_some()
    }
}

fn compile(pattern: &str) -> Result<Regex, Refused> {
    let rewritten =
        Rewriter { chars: pattern.chars().collect(), at: 0, dot_all: false, out: String::new() }.rewrite()?;
    RegexBuilder::new(&rewritten).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => Refused::Unsupported("so large a pattern"),
        _ => Refused::Invalid,
    })
}

/// What one pattern has matched in one column: for each row the spans of all groups, two numbers each.
#[derive(Debug)]
pub struct Matches {
    pattern: Arc<Pattern>,
    column: ArrayRef,
    active: BooleanBuffer,
    groups: usize,
    spans: Vec<u32>,
}

/// No match.
const NOWHERE: u32 = u32::MAX;

impl Matches {
    fn new(pattern: &Arc<Pattern>, column: &ArrayRef, active: &BooleanBuffer) -> Self {
        let Some(regex) = &pattern.regex else {
            let (pattern, column, active) = (pattern.clone(), column.clone(), active.clone());
            return Self { pattern, column, active, groups: 0, spans: Vec::new() };
        };
        let texts = column.as_string::<i32>();
        let mut locations = regex.capture_locations();
        let groups = locations.len();
        let mut spans = vec![NOWHERE; texts.len() * groups * 2];
        for row in active.set_indices().filter(|row| texts.is_valid(*row)) {
            if regex.captures_read(&mut locations, texts.value(row)).is_none() {
                continue;
            }
            let spans = &mut spans[row * groups * 2..][..groups * 2];
            for (group, span) in spans.chunks_exact_mut(2).enumerate() {
                if let Some((start, end)) = locations.get(group) {
                    span.copy_from_slice(&[start as u32, end as u32]);
                }
            }
        }
        Self { pattern: pattern.clone(), column: column.clone(), active: active.clone(), groups, spans }
    }

    /// Whether all these rows have been matched.
    fn covers(&self, active: &BooleanBuffer) -> bool {
        &self.active & active == *active
    }

    fn group(&self, row: usize, group: i64) -> Option<&str> {
        let group = usize::try_from(group).ok().filter(|group| *group < self.groups)?;
        let at = (row * self.groups + group) * 2;
        let (start, end) = (self.spans[at], self.spans[at + 1]);
        (start != NOWHERE).then(|| &self.column.as_string::<i32>().value(row)[start as usize..end as usize])
    }
}

/// The group of the first match, row by row; NULL where nothing matches or the group does not exist.
pub fn extract(
    pattern: &Arc<Pattern>,
    column: &ArrayRef,
    groups: &ArrayRef,
    ty: &SqlType,
    rows: &mut Rows<'_>,
) -> ArrayRef {
    let known = rows.matches.iter().position(|known| {
        Arc::ptr_eq(&known.pattern, pattern) && Arc::ptr_eq(&known.column, column) && known.covers(rows.active)
    });
    let matches = match known {
        Some(at) => rows.matches.swap_remove(at),
        None => Matches::new(pattern, column, rows.active),
    };
    let extracted = rows.map(ty, &[column, groups], |row| {
        let group = datum::read(groups, &SqlType::Int, row).as_int();
        Ok(matches.group(row, group).map_or(Datum::Null, Datum::text))
    });
    rows.matches.push(matches);
    extracted
}

/// REGEXP_EXTRACT with a pattern that may differ from row to row: the last one stays compiled.
#[derive(Debug, Default)]
pub struct Last(Option<(String, Result<Regex, Refused>)>);

impl Last {
    /// The group of the first match.
    ///
    /// # Errors
    /// The pattern uses something that Java has and this engine has not.
    pub fn extract<'a>(&mut self, text: &'a str, pattern: &str, group: i64) -> Outcome<'a> {
        if self.0.as_ref().is_none_or(|(last, _)| last != pattern) {
            self.0 = Some((pattern.to_owned(), compile(pattern)));
        }
        match self.0.as_ref().map(|(_, compiled)| compiled) {
            Some(Ok(regex)) => {
                let found = usize::try_from(group).ok().and_then(|group| regex.captures(text)?.get(group));
                Ok(found.map_or(Datum::Null, |found| Datum::text(found.as_str())))
            }
            Some(Err(Refused::Unsupported(what))) => {
                Err(format!("REGEXP_EXTRACT: {what} is not supported in '{}'", excerpt(pattern)))
            }
            Some(Err(Refused::Invalid)) | None => Ok(Datum::Null),
        }
    }
}

/// Java's dot: everything but the ends of lines.
const DOT: &str = r"[^\n\r\x{85}\x{2028}\x{2029}]";

/// Rewrites a pattern, character by character.
struct Rewriter {
    chars: Vec<char>,
    at: usize,
    dot_all: bool,
    out: String,
}

impl Rewriter {
    fn rewrite(mut self) -> Result<String, Refused> {
        while let Some(c) = self.next() {
            match c {
                '\\' => self.escape(false)?,
                '[' => self.class(1)?,
                '.' if !self.dot_all => self.out.push_str(DOT),
                '.' => self.out.push_str("(?s:.)"),
                '$' => self.out.push_str(r"\z"),
                '(' if self.peek() == Some('?') => self.group()?,
                '*' | '+' | '?' | '}' => {
                    self.out.push(c);
                    self.behind_quantifier()?;
                }
                c => self.out.push(c),
            }
        }
        Ok(self.out)
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.chars.get(self.at + ahead) == Some(&c))
    }

    fn behind_quantifier(&mut self) -> Result<(), Refused> {
        match self.peek() {
            Some('+') => Err(Refused::Unsupported("a possessive quantifier")),
            Some('*') => Err(Refused::Invalid),
            Some('?') => {
                self.at += 1;
                self.out.push('?');
                if matches!(self.peek(), Some('*' | '+' | '?')) { Err(Refused::Invalid) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// What stands behind `(` and begins with `?`.
    fn group(&mut self) -> Result<(), Refused> {
        if self.looking_at("?=") || self.looking_at("?!") || self.looking_at("?<=") || self.looking_at("?<!") {
            return Err(Refused::Unsupported("look-around"));
        }
        if self.looking_at("?>") {
            return Err(Refused::Unsupported("an atomic group"));
        }
        self.out.push('(');
        if self.looking_at("?<") || self.looking_at("?:") {
            return Ok(());
        }
        self.at += 1;
        let mut flags = String::new();
        while let Some(flag) = self.peek().filter(|c| matches!(c, 'i' | 's')) {
            flags.push(flag);
            self.at += 1;
        }
        let leading = self.out == "(";
        match self.next() {
            Some(')') if leading => self.dot_all = flags.contains('s'),
            Some(')' | ':') if !flags.contains('s') => {}
            _ => return Err(Refused::Unsupported("a flag other than (?i), or (?s) behind the beginning")),
        }
        self.at -= 1;
        self.out.push('?');
        self.out.push_str(&flags);
        Ok(())
    }

    /// What stands behind a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), Refused> {
        let c = self.next().ok_or(Refused::Invalid)?;
        let rewritten = match c {
            'd' => "[0-9]",
            'D' => "[^0-9]",
            'w' => "[0-9A-Za-z_]",
            'W' => "[^0-9A-Za-z_]",
            's' => r"[ \t\n\x0B\f\r]",
            'S' => r"[^ \t\n\x0B\f\r]",
            'b' if !in_class => r"(?-u:\b)",
            'B' if !in_class => r"(?-u:\B)",
            'A' | 'z' if !in_class => return self.keep(c),
            't' | 'n' | 'r' | 'f' | 'a' => return self.keep(c),
            'x' | 'u' => return self.keep(c),
            'e' => r"\x1B",
            '1'..='9' => return Err(Refused::Unsupported("a back reference")),
            'p' | 'P' => return self.category(c),
            'Q' => return self.quoted(),
            'k' => return Err(Refused::Unsupported("a back reference")),
            'G' | 'Z' | 'R' | 'X' | 'N' | 'h' | 'H' | 'v' | 'V' | 'c' | '0' | 'b' | 'B' => {
                return Err(Refused::Unsupported("one of the escapes \\0 \\c \\G \\h \\H \\N \\R \\v \\V \\X \\Z"));
            }
            c if c.is_ascii_alphanumeric() => return Err(Refused::Invalid),
            c => {
                self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
                return Ok(());
            }
        };
        self.out.push_str(rewritten);
        Ok(())
    }

    fn keep(&mut self, c: char) -> Result<(), Refused> {
        self.out.push('\\');
        self.out.push(c);
        Ok(())
    }

    /// `\p{L}` and other general categories mean the same on both sides; Java's own names do not.
    fn category(&mut self, p: char) -> Result<(), Refused> {
        let start = self.at;
        let braced = self.peek() == Some('{');
        let length = if braced { self.chars[start..].iter().position(|c| *c == '}').map(|at| at + 1) } else { Some(1) };
        let name: String = self.chars[start..].iter().take(length.ok_or(Refused::Invalid)?).collect();
        let plain = name.trim_start_matches('{').trim_end_matches('}');
        if plain.is_empty() || plain.len() > 2 {
            return Err(Refused::Unsupported("a character class \\p{...} of more than two letters"));
        }
        self.at += name.chars().count();
        self.out.push('\\');
        self.out.push(p);
        self.out.push_str(&name);
        Ok(())
    }

    /// `\Q...\E`
    fn quoted(&mut self) -> Result<(), Refused> {
        while !self.looking_at("\\E") {
            let Some(c) = self.next() else { return Ok(()) };
            self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
        }
        self.at += 2;
        Ok(())
    }

    /// A class whose opening bracket has been taken.
    fn class(&mut self, depth: usize) -> Result<(), Refused> {
        const DEPTH_MAX: usize = 16;
        if depth > DEPTH_MAX {
            return Err(Refused::Unsupported("so deep a class"));
        }
        self.out.push('[');
        if self.peek() == Some('^') {
            self.at += 1;
            self.out.push('^');
        }
        if matches!(self.peek(), Some(']' | ':')) {
            return Err(Refused::Unsupported("a class that begins with ']' or ':'"));
        }
        loop {
            match self.next().ok_or(Refused::Invalid)? {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' => self.class(depth + 1)?,
                '\\' => self.escape(true)?,
                '~' => self.out.push_str(r"\~"),
                '-' if self.peek() == Some('-') => return Err(Refused::Unsupported("'--' in a class")),
                c => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first(pattern: &str, text: &str) -> Result<Option<String>, Refused> {
        compile(pattern).map(|regex| regex.find(text).map(|found| found.as_str().to_owned()))
    }

    #[test]
    fn patterns_mean_what_java_means() {
        let cases = [
            (r"\w+", "Grüße", Some("Gr")),
            (r"[\w-]+", "a-ü", Some("a-")),
            (r"\d+", "٤42", Some("42")),
            (r".+", "a\u{2028}b", Some("a")),
            (r"(?s)a.b", "a\nb", Some("a\nb")),
            (r"(?i)FOO", "foo", Some("foo")),
            (r"\Qa.b\E+", "a.bb", Some("a.bb")),
            (r#"\"x\""#, "\"x\"", Some("\"x\"")),
            (r"[a-z&&[^b]]+", "bac", Some("ac")),
            (r"a\.b$", "xa.b", Some("a.b")),
            (r"\p{Lu}\p{L}", "aÜb", Some("Üb")),
            (r"\bb", "ab b", Some("b")),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(first(pattern, text), Ok(expected.map(str::to_owned)), "{pattern} in {text}");
        }
    }

    #[test]
    fn what_the_engine_lacks_is_refused_by_name() {
        for pattern in ["(?=a)", "(?<!a)", "(?>a)", r"(a)\1", "a*+", "a{2}+", r"\p{Alpha}", "(?x)a", r"a\Z"] {
            assert!(matches!(first(pattern, ""), Err(Refused::Unsupported(_))), "{pattern}");
        }
        for pattern in ["(", "[", "a**", r"\", r"\y"] {
            assert_eq!(first(pattern, ""), Err(Refused::Invalid), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in r"[\\()\[\]?*+{}<>=!:a-d0-9QEpPiskxu$^.|~&-]{0,24}") {
            let _ = compile(&pattern);
        }
    }
}
