//! What would fail a whole job on Flink where the embedded engine sets one record apart, and cannot be guarded as casts are: refused
//! before anything starts, with its place and what to write instead.

use super::super::decode::Metadata;
use super::super::error::Problem;
use super::super::statement::Script;
use super::super::syntax::{Calculation, ColumnKind, Node, Otherwise, Syntax, Table};
use super::guard::{self, Guard};

/// What Flink cannot run of a script that has been planned, which reads this table.
pub fn problems(script: &Script, table: &Table, guard: &Guard) -> Vec<Problem> {
    let mut problems = Vec::new();
    for column in &table.columns {
        match &column.kind {
            ColumnKind::Computed(node) => find(guard, "", node, &mut problems),
            ColumnKind::Metadata { ty, key } => {
                let of = Metadata::of_key(key).map(|(_, of)| of).filter(|of| guard::can_fail(of, ty));
                problems.extend(of.map(|of| {
                    let message = format!("on Flink metadata '{key}' that is no {ty} fails the whole job");
                    column.at.problem(message, format!("declare it {of} and TRY_CAST it"))
                }));
            }
            ColumnKind::Physical { .. } => {}
        }
    }
    let computed = || table.columns.iter().filter_map(guard::definition);
    for insert in &script.inserts {
        if table.columns.iter().any(|column| column.name == insert.alias) {
            let all = guard::items(insert).chain(&insert.condition).chain(computed());
            problems.extend(all.filter_map(|node| begins_with(node, &insert.alias)).next().map(|node| {
                let message = format!("on Flink `{0}` before a dot is the table, here the column `{0}`", insert.alias);
                node.at.problem(message, "give the table another name with AS")
            }));
        }
        guard::items(insert).chain(&insert.condition).for_each(|node| find(guard, &insert.alias, node, &mut problems));
    }
    problems
}

/// The first path in an expression that begins with this name and has more parts.
fn begins_with<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    match &*node.syntax {
        Syntax::Name(path) if path.len() > 1 && path[0] == name => Some(node),
        syntax => syntax.parts().into_iter().find_map(|part| begins_with(part, name)),
    }
}

/// Finds it in an expression. `alias` may stand before its columns.
fn find(guard: &Guard, alias: &str, node: &Node, problems: &mut Vec<Problem>) {
    problems.extend(refused(guard, alias, node).map(|(message, advice)| node.at.problem(message, advice)));
    node.syntax.parts().into_iter().for_each(|part| find(guard, alias, part, problems));
}

fn refused(guard: &Guard, alias: &str, node: &Node) -> Option<(&'static str, &'static str)> {
    match &*node.syntax {
        Syntax::Calculate(Calculation::Divide | Calculation::Remainder, _, by) if can_be_zero(by) => {
            let is_exact = !guard.ty(alias, node).is_approximate();
            is_exact.then_some(DIVISION)
        }
        Syntax::Call(name, arguments) => match (name.as_str(), &arguments[..]) {
            ("MOD", [_, by]) if can_be_zero(by) => Some(DIVISION),
            ("DATE_FORMAT", [_, pattern]) if !matches!(&*pattern.syntax, Syntax::Text(_)) => Some((
                "on Flink a text that is no pattern fails the whole job",
                "write the pattern as a literal, with CASE if there are several",
            )),
            _ => None,
        },
        Syntax::JsonValue { returning, on_empty, on_error, .. } => {
            if !returning.is_text() {
                let message = "on Flink RETURNING converts nothing: a value of another kind fails the whole job";
                return Some((message, "write CAST(JSON_VALUE(...) AS type), or TRY_CAST"));
            }
            let fails = [on_empty, on_error].into_iter().any(|otherwise| matches!(otherwise, Otherwise::Error));
            fails.then_some((
                "on Flink ERROR fails the whole job",
                "let it be NULL, and declare the sink's column NOT NULL to have such records set apart",
            ))
        }
        _ => None,
    }
}

const DIVISION: (&str, &str) = (
    "on Flink a division by zero fails the whole job",
    "divide by a number, or by NULLIF(..., 0), which makes it NULL",
);

/// Whether a divisor can be zero, as far as it shows.
fn can_be_zero(node: &Node) -> bool {
    let is_zero = |node: &Node| match &*node.syntax {
        Syntax::Number(digits) => !digits.contains(|c: char| ('1'..='9').contains(&c)),
        _ => false,
    };
    match &*node.syntax {
        Syntax::Number(_) => is_zero(node),
        Syntax::Call(name, arguments) => !(name == "NULLIF" && arguments.get(1).is_some_and(is_zero)),
        _ => true,
    }
}
