//! What fails a record: on Flink it would fail the whole job. A CAST that can fail is written as TRY_CAST, and an expression is made
//! that yields, for each record, the cause for which the embedded engine would set it apart, and NULL for all others. Rows whose cause is
//! NULL go to the sink, the others are set apart. The cause is asked for where the embedded engine asks: what stands
//! behind a decision of AND, OR, CASE or COALESCE fails nobody whom the decision leaves out.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::LegPlan;
use super::super::bind::{COPIES_MAX, Scope};
use super::super::error::{At, Problem};
use super::super::expr::Expr;
use super::super::plan;
use super::super::statement::Script;
use super::super::syntax::{Column, ColumnKind, Insert, Item, Node, Syntax, Table};
use super::super::types::SqlType;
use super::write::Writer;
use super::{literal, quoted};

/// Longest cause of one INSERT: each place that names a computed column repeats what can fail in it, and Flink compiles it all.
const CAUSE_BYTES_MAX: usize = 256 << 10;
/// Most casts of which each is asked only where those before it have not decided: each is a level of the expression, and Flink's
/// parser has a stack.
const LEVELS_MAX: usize = 64;
/// How much of a text a cause shows, as on the embedded engine.
const SHOWN_CHARS: usize = 64;

/// How a value is found that a cast has no counterpart for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// TRY_CAST makes it NULL.
    Tried,
    /// It is not finite; TRY_CAST to DECIMAL makes NULL of what is merely too large too, and so does CAST.
    Infinite,
}

/// Causes that were asked before, whatever was decided: where one of them is not NULL nothing behind it is asked.
type Asked = BTreeSet<String>;

/// One of several expressions that are asked in turn, until one of them decides.
struct Step {
    /// Why it fails a record.
    own: Option<String>,
    /// The condition under which nothing behind it is asked.
    decides: String,
    /// The cause of what is asked instead, if anything is.
    then: Option<String>,
}

/// What can fail in a job text.
pub struct Guard<'a> {
    table: &'a Table,
    columns: Vec<(String, Expr)>,
    casts: BTreeMap<At, Way>,
    /// Bytes that the cause at hand may still grow by; 0 if it was cut off.
    left: Cell<usize>,
}

impl<'a> Guard<'a> {
    /// Of a script that has been planned, which reads this table.
    pub fn new(script: &Script, table: &'a Table) -> Self {
        let mut guard = Self { table, columns: plan::columns(table), casts: BTreeMap::new(), left: Cell::new(0) };
        table.columns.iter().filter_map(definition).for_each(|node| guard.find("", node));
        for insert in &script.inserts {
            items(insert).chain(&insert.condition).for_each(|node| guard.find(&insert.alias, node));
        }
        guard
    }

    /// The places of the casts that can fail, from one place to another.
    pub fn tried(&self, from: At, to: At) -> impl Iterator<Item = At> {
        self.casts.range(from..to).map(|(at, _)| *at)
    }

    /// An expression as it is written for Flink.
    pub fn write(&self, node: &Node) -> String {
        Writer { is_tried: &|at| self.casts.contains_key(&at) }.write(node)
    }

    /// The cause for which this INSERT sets a record apart, over the columns of the table that it reads; `None` if it never does.
    ///
    /// # Errors
    /// The expression would be too long.
    pub fn cause(&self, insert: &Insert, plan: &LegPlan) -> Result<Option<String>, Problem> {
        self.left.set(CAUSE_BYTES_MAX);
        let asked = &mut Asked::new();
        let watermark = self.table.watermark.as_ref().and_then(|watermark| self.of_column(&watermark.column, asked));
        let condition = insert.condition.as_ref().and_then(|node| self.of(node, asked));
        let values = self.of_values(insert, plan, asked);
        let chosen = match &insert.condition {
            Some(node) => when(&self.write(node), values),
            None => values,
        };
        let cause = first([watermark, condition, chosen]);
        if self.left.get() == 0 || cause.as_ref().is_some_and(|cause| cause.len() > CAUSE_BYTES_MAX) {
            let message = format!(
                "on Flink what can fail here is written out, in more than {CAUSE_BYTES_MAX} bytes or {LEVELS_MAX} levels"
            );
            return Err(insert.at.problem(message, "write TRY_CAST where the record need not be set apart"));
        }
        Ok(cause)
    }

    /// The cause of what is selected, value by value, and of those that may not be NULL.
    fn of_values(&self, insert: &Insert, plan: &LegPlan, asked: &mut Asked) -> Option<String> {
        let mut outputs = plan.outputs.iter();
        let mut causes = Vec::new();
        for item in &insert.items {
            let own = match item {
                Item::One(node, _) => vec![(self.of(node, asked), self.write(node))],
                Item::All(_) => {
                    let names = self.table.columns.iter().map(|column| &column.name);
                    names.map(|name| (self.of_column(name, asked), quoted(name))).collect()
                }
            };
            for ((cause, value), output) in own.into_iter().zip(outputs.by_ref()) {
                causes.push(cause);
                causes.push(output.required.then(|| missing(&output.name, &value)));
            }
        }
        first(causes)
    }

    /// Keeps the casts of an expression that can fail. `alias` may stand before its columns.
    fn find(&mut self, alias: &str, node: &Node) {
        if let Syntax::Cast { input, ty, safe: false } = &*node.syntax
            && let Some(way) = way(&self.ty(alias, input), ty)
        {
            self.casts.insert(node.at, way);
        }
        node.syntax.parts().into_iter().for_each(|part| self.find(alias, part));
    }

    /// The type of an expression. `alias` may stand before its columns.
    pub fn ty(&self, alias: &str, node: &Node) -> SqlType {
        let (patterns, warnings, copies_left) = (&mut HashMap::new(), &mut Vec::new(), &mut COPIES_MAX.clone());
        let mut scope = Scope { table: alias, columns: &self.columns, patterns, warnings, copies_left };
        // The whole was bound before, so that this can be.
        scope.bind(node).map_or(SqlType::Null, |expr| expr.ty)
    }

    /// The cause for which an expression fails a record.
    fn of(&self, node: &Node, asked: &mut Asked) -> Option<String> {
        match &*node.syntax {
            Syntax::Name(path) => {
                let qualified = path.len() > 1 && !self.columns.iter().any(|(name, _)| *name == path[0]);
                self.of_column(&path[usize::from(qualified)], asked)
            }
            Syntax::Cast { input, ty, .. } => {
                let inner = self.of(input, asked);
                let own = self.casts.get(&node.at).map(|way| no_counterpart(*way, &self.write(input), ty));
                let own = own.filter(|own| asked.insert(own.clone())).filter(|own| self.has_room(own.len()));
                first([inner, own])
            }
            Syntax::And(nodes) => self.chain(nodes, "IS FALSE", asked),
            Syntax::Or(nodes) => self.chain(nodes, "IS TRUE", asked),
            Syntax::Call(name, nodes) if matches!(name.as_str(), "COALESCE" | "IFNULL") => {
                self.chain(nodes, "IS NOT NULL", asked)
            }
            Syntax::Call(name, nodes) if name == "IF" && nodes.len() == 3 => {
                let branch = (nodes[0].clone(), nodes[1].clone());
                self.case(None, std::slice::from_ref(&branch), Some(&nodes[2]), asked)
            }
            Syntax::Between { input, low, high, .. } => {
                let own = first([self.of(input, asked), self.of(low, asked)]);
                let decides = format!("({} >= {}) IS FALSE", self.write(input), self.write(low));
                self.in_turn(vec![Step { own, decides, then: None }], self.of(high, &mut asked.clone()))
            }
            Syntax::Case { operand, branches, otherwise } => {
                let cause = operand.as_ref().and_then(|node| self.of(node, asked));
                first([cause, self.case(operand.as_ref(), branches, otherwise.as_ref(), asked)])
            }
            syntax => first(syntax.parts().into_iter().map(|part| self.of(part, asked)).collect::<Vec<_>>()),
        }
    }

    fn of_column(&self, name: &str, asked: &mut Asked) -> Option<String> {
        let column = self.table.columns.iter().find(|column| column.name == name)?;
        self.of(definition(column)?, asked)
    }

    /// Operands of which the first that `decides` ends it.
    fn chain(&self, nodes: &[Node], decides: &str, asked: &mut Asked) -> Option<String> {
        let step = |node, own| Step { own, decides: format!("{} {decides}", self.write(node)), then: None };
        let (node, rest) = nodes.split_first()?;
        let mut steps = vec![step(node, self.of(node, asked))];
        let asked = &mut asked.clone();
        steps.extend(rest.iter().map(|node| step(node, self.of(node, asked))));
        self.in_turn(steps, None)
    }

    /// Conditions of which the first that is TRUE chooses.
    fn case(
        &self,
        operand: Option<&Node>,
        branches: &[(Node, Node)],
        otherwise: Option<&Node>,
        asked: &mut Asked,
    ) -> Option<String> {
        let (value, _) = branches.first()?;
        let own = self.of(value, asked);
        let asked = &mut asked.clone();
        let steps = branches.iter().enumerate().map(|(at, (value, then))| {
            let own = if at == 0 { own.clone() } else { self.of(value, asked) };
            let decides = match operand {
                Some(operand) => format!("({} = {})", self.write(operand), self.write(value)),
                None => self.write(value),
            };
            Step { own, decides, then: self.of(then, &mut asked.clone()) }
        });
        let steps = steps.collect();
        self.in_turn(steps, otherwise.and_then(|node| self.of(node, asked)))
    }

    /// The cause of expressions that are asked in turn, and of what is asked if none of them decides. One that can fail itself
    /// is a level of its own.
    fn in_turn(&self, steps: Vec<Step>, otherwise: Option<String>) -> Option<String> {
        let (mut cause, mut arms, mut levels) = (otherwise, Vec::new(), 0);
        for Step { own, decides, then } in steps.into_iter().rev() {
            arms.push((decides, then));
            if own.is_some() {
                cause = first([own, decided(std::mem::take(&mut arms), cause)]);
                levels += 1;
            }
        }
        if levels > LEVELS_MAX {
            self.left.set(0);
        }
        decided(arms, cause)
    }

    /// Takes these bytes from what the cause may still grow by.
    fn has_room(&self, bytes: usize) -> bool {
        self.left.set(self.left.get().saturating_sub(bytes));
        self.left.get() > 0
    }
}

/// The cause of the first of these that decides, the last of them first; else that of `otherwise`.
fn decided(mut arms: Vec<(String, Option<String>)>, otherwise: Option<String>) -> Option<String> {
    let idle = if otherwise.is_none() { arms.iter().take_while(|(_, then)| then.is_none()).count() } else { 0 };
    arms.drain(..idle);
    if arms.is_empty() {
        return otherwise;
    }
    let mut text = "CASE".to_owned();
    for (decides, then) in arms.into_iter().rev() {
        text += &format!(" WHEN {decides} THEN {}", then.as_deref().unwrap_or("NULL"));
    }
    text += &otherwise.map(|cause| format!(" ELSE {cause}")).unwrap_or_default();
    Some(text + " END")
}

/// The expressions that an INSERT selects, but for `*`.
pub fn items(insert: &Insert) -> impl Iterator<Item = &Node> {
    insert.items.iter().filter_map(|item| match item {
        Item::One(node, _) => Some(node),
        Item::All(_) => None,
    })
}

/// What computes a column, if it is computed.
pub fn definition(column: &Column) -> Option<&Node> {
    match &column.kind {
        ColumnKind::Computed(node) => Some(node),
        _ => None,
    }
}

/// Whether a cast can fail.
pub fn can_fail(from: &SqlType, to: &SqlType) -> bool {
    way(from, to).is_some()
}

/// How a cast can fail, if it can.
fn way(from: &SqlType, to: &SqlType) -> Option<Way> {
    match (from, to) {
        (_, SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Bytes) => None,
        (SqlType::Char(_) | SqlType::Varchar(_), _) => Some(Way::Tried),
        (SqlType::Float | SqlType::Double, SqlType::Decimal(..)) => Some(Way::Infinite),
        _ => None,
    }
}

fn no_counterpart(way: Way, value: &str, ty: &SqlType) -> String {
    let cause = |shown: &str| format!("'CAST: ''' || {shown} || ''' is no {ty}'");
    match way {
        Way::Tried => {
            let excerpt = format!(
                "CASE WHEN CHAR_LENGTH({value}) > {SHOWN_CHARS} THEN SUBSTRING({value}, 1, {SHOWN_CHARS}) || '…' ELSE {value} END"
            );
            // In this order a value that can be cast is looked at once.
            let fails = format!("TRY_CAST({value} AS {ty}) IS NULL AND {value} IS NOT NULL");
            format!("CASE WHEN {fails} THEN {} END", cause(&excerpt))
        }
        Way::Infinite => {
            let shown = format!("CAST({value} AS STRING)");
            format!("CASE WHEN {shown} IN ('NaN', 'Infinity', '-Infinity') THEN {} END", cause(&shown))
        }
    }
}

fn missing(column: &str, value: &str) -> String {
    format!("CASE WHEN {value} IS NULL THEN CAST({} AS STRING) END", literal(&format!("column `{column}` is NOT NULL")))
}

/// The cause where the condition is TRUE.
fn when(condition: &str, cause: Option<String>) -> Option<String> {
    Some(format!("CASE WHEN {condition} THEN {} END", cause?))
}

/// The first cause of these that is none of NULL.
fn first(causes: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let causes: Vec<String> = causes.into_iter().flatten().collect();
    match &causes[..] {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(format!("COALESCE({})", causes.join(", "))),
    }
}
