//! Where the two engines answer otherwise: by name, and by what in a job text has it happen. Each is described in
//! `docs/differences.md` and shown by an answer of a real Flink that is kept in `tests/golden`.

use std::fmt;

use super::super::error::{At, Problem, SqlError};
use super::super::syntax::{ColumnKind, Node, Syntax, Table};
use super::super::types::SqlType;
use super::super::{check, statement};
use super::guard::{self, Guard};

/// A difference that remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: &'static str,
    /// What each engine does.
    pub what: &'static str,
}

/// Where in a job text the engines may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs {
    /// The first place.
    at: At,
    /// How many more there are.
    more: usize,
    /// By what.
    pub difference: Difference,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, more, difference: Difference { name, what } } = self;
        write!(f, "line {}, column {}", at.line, at.column)?;
        if *more > 0 {
            write!(f, " (and {more} more)")?;
        }
        write!(f, ": {name}: {what}")
    }
}

const RAW_UTF8: Difference = Difference {
    name: "raw-utf8",
    what: "a record that is no UTF-8 is set apart by the embedded engine; Flink delivers it, with other characters where a function reads them",
};
const JSON_REST: Difference = Difference {
    name: "json-rest",
    what: "a record with something behind its object is set apart by the embedded engine; Flink drops that something",
};
const JSON_YEARS: Difference = Difference {
    name: "json-years",
    what: "a record with a time before the year 0 is set apart by the embedded engine; Flink delivers it",
};
const REGEX_COLUMN: Difference = Difference {
    name: "regex-column",
    what: "look-around, back references and possessive quantifiers in a pattern that is no literal set the record apart on the \
           embedded engine; Flink matches them",
};
const REGEX_END: Difference = Difference {
    name: "regex-end",
    what: "`$` matches at the end of the text alone on the embedded engine; on Flink before a final line break too",
};
const TEXT_LENGTH: Difference = Difference {
    name: "text-length",
    what: "a record of which a text of more than 1 MiB is made is set apart by the embedded engine; Flink delivers it",
};
/// All of them.
pub const DIFFERENCES: [Difference; 6] = [RAW_UTF8, JSON_REST, JSON_YEARS, REGEX_COLUMN, REGEX_END, TEXT_LENGTH];

/// In what the engines may differ for a job text, and where it uses that, in the order of the text.
///
/// # Errors
/// What the embedded engine refuses.
pub fn differences(sql: &str, sinks: &[&str]) -> Result<Vec<Differs>, SqlError> {
    let job = check(sql, sinks)?;
    let script = statement::script(sql).map_err(|problem: Problem| SqlError { problems: vec![problem] })?;
    let mut found = Vec::new();
    for table in script.tables.iter().filter(|table| table.name == job.source.name) {
        let guard = Guard::new(&script, table);
        in_table(table, &mut found);
        table.columns.iter().filter_map(guard::definition).for_each(|node| find(&guard, "", node, &mut found));
        for insert in &script.inserts {
            guard::items(insert)
                .chain(&insert.condition)
                .for_each(|node| find(&guard, &insert.alias, node, &mut found));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    let mut named: Vec<Differs> = Vec::new();
    for (at, difference) in found {
        match named.iter_mut().find(|known| known.difference == difference) {
            Some(known) => known.more += 1,
            None => named.push(Differs { at, more: 0, difference }),
        }
    }
    Ok(named)
}

fn in_table(table: &Table, found: &mut Vec<(At, Difference)>) {
    let format = table.options.iter().find(|(_, name, _)| matches!(name.as_str(), "format" | "value.format"));
    let is_json = format.is_some_and(|(_, _, value)| value == "json");
    if is_json {
        found.push((table.at, JSON_REST));
    }
    for column in &table.columns {
        let difference = match &column.kind {
            ColumnKind::Physical { ty, .. } if is_json && has_time(ty) => JSON_YEARS,
            ColumnKind::Physical { ty, .. } if !is_json && ty.is_text() => RAW_UTF8,
            _ => continue,
        };
        found.push((column.at, difference));
    }
}

fn has_time(ty: &SqlType) -> bool {
    match ty {
        SqlType::Row(fields) => fields.iter().any(|(_, ty)| has_time(ty)),
        _ => ty.is_timestamp() || *ty == SqlType::Date,
    }
}

/// Finds them in an expression. `alias` may stand before its columns.
fn find(guard: &Guard, alias: &str, node: &Node, found: &mut Vec<(At, Difference)>) {
    let difference = match &*node.syntax {
        Syntax::Call(name, arguments) if name == "REGEXP_EXTRACT" => match arguments.get(1).map(|node| &*node.syntax) {
            Some(Syntax::Text(pattern)) => has_end(pattern).then_some(REGEX_END),
            _ => Some(REGEX_COLUMN),
        },
        Syntax::Call(name, parts) if name == "CONCAT" => is_long(guard, alias, parts).then_some(TEXT_LENGTH),
        Syntax::Cast { input, ty, .. } if ty.is_text() && guard.ty(alias, input) == SqlType::Bytes => Some(TEXT_LENGTH),
        Syntax::Concat(parts) => is_long(guard, alias, parts).then_some(TEXT_LENGTH),
        _ => None,
    };
    found.extend(difference.map(|difference| (node.at, difference)));
    node.syntax.parts().into_iter().for_each(|part| find(guard, alias, part, found));
}

/// Whether a pattern has a `$` that stands for the end. One in a class is counted too: rather a warning more.
fn has_end(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '$' => return true,
            _ => {}
        }
    }
    false
}

/// Whether texts joined together can be long: if one of them can be as long as its record.
fn is_long(guard: &Guard, alias: &str, parts: &[Node]) -> bool {
    parts.iter().any(|part| !is_short(guard, alias, part))
}

fn is_short(guard: &Guard, alias: &str, node: &Node) -> bool {
    let is_number = |node: &Node| matches!(&*node.syntax, Syntax::Number(_));
    match &*node.syntax {
        Syntax::Text(_) | Syntax::Null => true,
        Syntax::Cast { input, .. } => !guard.ty(alias, input).is_text() || is_short(guard, alias, input),
        Syntax::Concat(parts) => !is_long(guard, alias, parts),
        Syntax::Case { branches, otherwise, .. } => {
            branches.iter().map(|(_, then)| then).chain(otherwise).all(|node| is_short(guard, alias, node))
        }
        Syntax::Call(name, arguments) => match (name.as_str(), &arguments[..]) {
            ("SUBSTRING", [_, _, length]) => is_number(length),
            ("DATE_FORMAT", _) => true,
            ("COALESCE" | "IFNULL", parts) => !is_long(guard, alias, parts),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Vec<String> {
        let found = differences(sql, &["s"]).unwrap_or_else(|error| panic!("{error}"));
        found
            .iter()
            .map(|differs| format!("{} {} {}", differs.at.line, differs.at.column, differs.difference.name))
            .collect()
    }

    #[test]
    fn what_differs_is_found_where_it_is_used() {
        let json = "CREATE TABLE t (a STRING, b STRING, n INT, at_ TIMESTAMP(3)) WITH ('format' = 'json');\nINSERT INTO s SELECT ";
        let own = ["1 14 json-rest", "1 44 json-years"];
        let cases = [
            ("REGEXP_EXTRACT(a, b) AS r", Some("2 22 regex-column")),
            ("REGEXP_EXTRACT(a, 'x$', 0) AS r", Some("2 22 regex-end")),
            ("REGEXP_EXTRACT(a, 'x\\$') AS r", None),
            ("1 + n || 'x' AS c", None),
            ("a || b AS c", Some("2 24 text-length")),
            ("CASE WHEN n > 1 THEN SUBSTRING(a, 1, 5) ELSE '' END || CAST(n AS STRING) AS c", None),
            ("UPPER(CONCAT(a, 'x')) AS c, a || b AS d", Some("2 28 text-length")),
        ];
        for (select, expected) in cases {
            let sql = format!("{json}{select} FROM t").replace("1 + n ||", "CAST(n AS STRING) ||");
            let expected: Vec<&str> = own.into_iter().chain(expected).collect();
            assert_eq!(names(&sql), expected, "{select}");
        }
        let raw = "CREATE TABLE t (line STRING) WITH ('format' = 'raw');\nINSERT INTO s SELECT line FROM t";
        assert_eq!(names(raw), ["1 17 raw-utf8"]);
        assert_eq!(names(&raw.replace("STRING", "BYTES")), [""; 0]);
    }

    #[test]
    fn each_is_described_in_the_docs() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/differences.md");
        let page = std::fs::read_to_string(page).unwrap();
        for Difference { name, .. } in DIFFERENCES {
            assert!(page.contains(&format!("| `{name}` |")), "{name} is not in docs/differences.md");
        }
    }
}
