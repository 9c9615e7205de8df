//! From a parsed job text to its plan: which table is the source, how its records are decoded, and what each INSERT makes
//! of them. Collects problems instead of stopping at the first.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{Field as ArrowField, Schema};

use super::bind::{COPIES_MAX, Scope};
use super::ddl::COLUMNS_MAX;
use super::decode::{Field, Format, Layout, Metadata, json};
use super::error::Problem;
use super::expr::{Expr, Kind};
use super::functions::regexp::Pattern;
use super::statement::Script;
use super::syntax::{ColumnKind, Insert, Item, Table};
use super::types::{self, SqlType};
use super::{EMBEDDED_ONLY, Job, LegPlan, SourceTable, Watermark};

/// Plans a script for a stream with these sinks.
///
/// # Errors
/// Every problem that was found, in the order of the text.
pub fn plan(script: Script, sinks: &[&str]) -> Result<Job, Vec<Problem>> {
    let Script { tables, inserts, problems } = script;
    let mut planner = Planner { problems, ..Planner::default() };
    let job = planner.job(&tables, &inserts, sinks);
    planner.problems.sort_by_key(|problem| (problem.line, problem.column));
    match job {
        Some(job) if planner.problems.is_empty() => Ok(job),
        _ => Err(planner.problems),
    }
}

/// The columns of a source table, and what they stand for.
pub fn columns(table: &Table) -> Vec<(String, Expr)> {
    Planner::default().source(table).1
}

struct Planner {
    problems: Vec<Problem>,
    warnings: Vec<String>,
    patterns: HashMap<String, Arc<Pattern>>,
    copies_left: usize,
}

impl Default for Planner {
    fn default() -> Self {
        let (problems, warnings) = (Vec::new(), Vec::new());
        Self { problems, warnings, patterns: HashMap::new(), copies_left: COPIES_MAX }
    }
}

impl Planner {
    /// The value, or `None` after its problem was kept.
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn job(&mut self, tables: &[Table], inserts: &[Insert], sinks: &[&str]) -> Option<Job> {
        for (at, table) in tables.iter().enumerate() {
            if tables[..at].iter().any(|other| other.name == table.name) {
                let message = format!("a second table `{}`", table.name);
                self.problems.push(table.at.problem(message, "rename one of them"));
            }
        }
        let Some(first) = inserts.first() else {
            if self.problems.is_empty() {
                self.problems.push(Problem::whole("there is no INSERT", "add INSERT INTO sink SELECT ... FROM source"));
            }
            return None;
        };
        let Some(table) = tables.iter().find(|table| table.name == first.source) else {
            let message = format!("there is no table `{}`", first.source);
            let advice = format!("declare it with CREATE TABLE {} (...) WITH ('format' = 'json')", first.source);
            self.problems.push(first.source_at.problem(message, advice));
            return None;
        };
        let (source, columns) = self.source(table);
        let legs: Vec<_> = (inserts.iter().enumerate())
            .filter_map(|(at, insert)| {
                let again = inserts[..at].iter().any(|other| other.sink == insert.sink);
                self.leg(insert, again, &source, &columns, tables, sinks)
            })
            .collect();
        for sink in sinks.iter().filter(|sink| !inserts.iter().any(|insert| insert.sink == **sink)) {
            self.warnings.push(format!("nothing is inserted into sink `{sink}`"));
        }
        Some(Job { source, legs, warnings: std::mem::take(&mut self.warnings) })
    }

    /// The source table, and what its columns stand for.
    fn source(&mut self, table: &Table) -> (Arc<SourceTable>, Vec<(String, Expr)>) {
        let format = self.format(table);
        let mut layout = Layout { format, fields: Vec::new(), metadata: Vec::new(), slots: Vec::new() };
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            if let ColumnKind::Physical { ty, required } = &column.kind {
                if *required {
                    let message = format!("`{}` may always be missing from a record", column.name);
                    self.problems
                        .push(column.at.problem(message, "remove NOT NULL; leave such records out with WHERE"));
                }
                if let (Format::Json(_), Some(ty)) = (format, bytes_within(ty)) {
                    let message = format!("`{}`: {ty} cannot be read from JSON", column.name);
                    self.problems.push(column.at.problem(message, "declare it STRING"));
                }
                let (field, expr) = field(&column.name, ty, &mut layout.slots);
                layout.fields.push(field);
                columns.push((column.name.clone(), expr));
            }
        }
        if layout.slots.len() > COLUMNS_MAX {
            let message = format!("more than {COLUMNS_MAX} columns and fields");
            self.problems.push(table.at.problem(message, "leave out those that nothing selects"));
        }
        self.check_raw(table, &layout);
        self.metadata(table, &mut layout, &mut columns);
        self.computed(table, &mut columns);
        // The order of the declaration, for `*`.
        let place = |name: &str| table.columns.iter().position(|column| column.name == name);
        columns.sort_by_key(|(name, _)| place(name));
        let watermark = self.watermark(table, &columns);
        (Arc::new(SourceTable { name: table.name.clone(), layout, watermark }), columns)
    }

    fn metadata(&mut self, table: &Table, layout: &mut Layout, columns: &mut Vec<(String, Expr)>) {
        for column in &table.columns {
            let ColumnKind::Metadata { ty, key } = &column.kind else { continue };
            let Some((metadata, of)) = Metadata::of_key(key) else {
                let message = format!("there is no metadata '{key}'");
                self.problems.push(column.at.problem(
                    message,
                    "these are: il, source, kind, start, end, lap, append_time, event_time, fate, cause",
                ));
                continue;
            };
            if !types::castable(&of, ty) {
                let message = format!("metadata '{key}' is {of}, not {ty}");
                self.problems.push(column.at.problem(message, format!("declare it {of}")));
                continue;
            }
            let slot = layout.slots.len();
            layout.slots.push(of.clone());
            layout.metadata.push(metadata);
            columns.push((column.name.clone(), Expr { kind: Kind::Slot(slot), ty: of }.cast(ty)));
        }
    }

    fn computed(&mut self, table: &Table, columns: &mut Vec<(String, Expr)>) {
        let known = columns.clone();
        for column in &table.columns {
            let ColumnKind::Computed(node) = &column.kind else { continue };
            // No table stands before a column here: Flink knows none yet.
            let bound = self.scope("", &known).bind(node);
            if let Some(expr) = self.keep(bound) {
                columns.push((column.name.clone(), expr));
            }
        }
    }

    fn scope<'a>(&'a mut self, table: &'a str, columns: &'a [(String, Expr)]) -> Scope<'a> {
        let Self { patterns, warnings, copies_left, .. } = self;
        Scope { table, columns, patterns, warnings, copies_left }
    }

    fn format(&mut self, table: &Table) -> Format {
        let option = |key: &str| {
            table.options.iter().find(|(_, name, _)| name == key).map(|(at, _, value)| (*at, value.as_str()))
        };
        let ignored: Vec<_> = (table.options.iter().map(|(_, name, _)| name.as_str()))
            .filter(|name| !matches!(*name, "format" | "value.format") && !name.starts_with("json."))
            .chain(table.ignored.iter().copied())
            .collect();
        if !ignored.is_empty() {
            let names = ignored.join(", ");
            self.warnings.push(format!("table `{}`: {EMBEDDED_ONLY}: {names}", table.name));
        }
        let mut options = json::Options::default();
        match option("json.timestamp-format.standard") {
            None | Some((_, "SQL")) => {}
            Some((_, "ISO-8601")) => options.iso_timestamps = true,
            Some((at, _)) => self.problems.push(at.problem("the standard is 'SQL' or 'ISO-8601'", "")),
        }
        match option("json.fail-on-missing-field") {
            None | Some((_, "false")) => {}
            Some((_, "true")) => options.fail_on_missing = true,
            Some((at, _)) => self.problems.push(at.problem("the value is 'true' or 'false'", "")),
        }
        if let Some((at, "true")) = option("json.ignore-parse-errors") {
            let advice = "remove it: records that cannot be read are kept apart with their cause";
            self.problems.push(at.problem("records may not vanish", advice));
        }
        let advice = "write WITH ('format' = 'raw') or WITH ('format' = 'json')";
        match option("format").or_else(|| option("value.format")) {
            Some((_, "json")) => return Format::Json(options),
            Some((_, "raw")) => {}
            Some((at, other)) => self.problems.push(at.problem(format!("format '{other}' is not supported"), advice)),
            None => self.problems.push(table.at.problem(format!("table `{}` has no format", table.name), advice)),
        }
        Format::Raw
    }

    fn check_raw(&mut self, table: &Table, layout: &Layout) {
        let one_value = matches!(layout.slots[..], [SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Bytes]);
        if layout.format == Format::Raw && !one_value {
            let message = format!("format raw has one column of type STRING or BYTES; `{}` has others", table.name);
            self.problems.push(table.at.problem(message, "declare `line STRING` and take it apart in the SELECT"));
        }
        if layout.slots.is_empty() {
            self.problems.push(table.at.problem("a source has at least one column of its own", ""));
        }
    }

    fn watermark(&mut self, table: &Table, columns: &[(String, Expr)]) -> Option<Watermark> {
        let watermark = table.watermark.as_ref()?;
        let Some((_, expr)) = columns.iter().find(|(name, _)| *name == watermark.column) else {
            let message = format!("there is no column `{}`", watermark.column);
            self.problems.push(watermark.at.problem(message, "name a column of this table"));
            return None;
        };
        if !matches!(expr.ty, SqlType::Timestamp(..=3) | SqlType::TimestampLtz(..=3)) {
            let message = format!("`{}` is {}", watermark.column, expr.ty);
            self.problems.push(watermark.at.problem(message, "a watermark needs TIMESTAMP(3) or TIMESTAMP_LTZ(3)"));
            return None;
        }
        let (column, expr) = (watermark.column.clone(), expr.clone());
        Some(Watermark { column, delay_ms: watermark.delay_ms, expr })
    }

    fn leg(
        &mut self,
        insert: &Insert,
        again: bool,
        source: &Arc<SourceTable>,
        columns: &[(String, Expr)],
        tables: &[Table],
        sinks: &[&str],
    ) -> Option<LegPlan> {
        if again {
            let message = format!("a second INSERT into `{}`", insert.sink);
            self.problems.push(insert.at.problem(message, "a sink has one leg: write one SELECT with CASE or OR"));
        }
        if !sinks.contains(&insert.sink.as_str()) {
            let advice = format!("the stream's sinks are: {}", sinks.join(", "));
            self.problems.push(insert.at.problem(format!("the stream has no sink `{}`", insert.sink), advice));
        }
        if insert.source != source.name {
            let advice = format!("select from `{}` in every INSERT", source.name);
            self.problems.push(insert.source_at.problem("a job has one source", advice));
            return None;
        }
        let condition = match &insert.condition {
            Some(node) => {
                let bound = self.scope(&insert.alias, columns).condition(node);
                Some(self.keep(bound)?)
            }
            None => None,
        };
        let selected = self.items(insert, columns)?;
        let target = tables.iter().find(|table| table.name == insert.sink);
        let outputs = match target {
            Some(target) => self.fit(insert, selected, target)?,
            None => self.named(insert, selected)?,
        };
        let fields: Vec<_> = outputs
            .iter()
            .map(|output| ArrowField::new(&output.name, output.expr.ty.arrow(), !output.required))
            .collect();
        let (sink, source) = (insert.sink.clone(), source.clone());
        Some(LegPlan { sink, schema: Arc::new(Schema::new(fields)), source, condition, outputs: outputs.into() })
    }

    fn items(&mut self, insert: &Insert, columns: &[(String, Expr)]) -> Option<Vec<(Option<String>, Expr)>> {
        let mut selected = Vec::new();
        let before = self.problems.len();
        for item in &insert.items {
            match item {
                Item::All(at) => {
                    for (name, expr) in columns {
                        let copied = self.scope(&insert.alias, columns).copy(*at, expr);
                        if let Some(expr) = self.keep(copied) {
                            selected.push((Some(name.clone()), expr));
                        }
                    }
                }
                Item::One(node, name) => {
                    let bound = self.scope(&insert.alias, columns).bind(node);
                    let written = match &*node.syntax {
                        super::syntax::Syntax::Name(path) => path.last().cloned(),
                        _ => None,
                    };
                    if let Some(expr) = self.keep(bound) {
                        selected.push((name.clone().or(written), expr));
                    }
                }
            }
        }
        if selected.len() > COLUMNS_MAX {
            self.problems.push(insert.at.problem(format!("more than {COLUMNS_MAX} columns"), "select fewer"));
        }
        (self.problems.len() == before).then_some(selected)
    }

    /// What is selected, as the declared columns of the sink.
    fn fit(
        &mut self,
        insert: &Insert,
        selected: Vec<(Option<String>, Expr)>,
        target: &Table,
    ) -> Option<Vec<OutputColumn>> {
        if !target.options.is_empty() || !target.ignored.is_empty() {
            let warning = format!("table `{}`: its options are {EMBEDDED_ONLY}", target.name);
            self.warnings.push(warning);
        }
        let declared: Vec<_> = (target.columns.iter())
            .filter_map(|column| match &column.kind {
                ColumnKind::Physical { ty, required } => Some((column.name.clone(), ty, *required)),
                _ => None,
            })
            .collect();
        if declared.len() != selected.len() || declared.len() != target.columns.len() {
            let message = format!("`{}` has {} columns, {} are selected", target.name, declared.len(), selected.len());
            self.problems.push(insert.at.problem(message, "select one value for each column, in their order"));
            return None;
        }
        let before = self.problems.len();
        let mut outputs = Vec::with_capacity(selected.len());
        for ((_, expr), (name, ty, required)) in selected.into_iter().zip(declared) {
            if !types::insertable(&expr.ty, ty) {
                let message =
                    format!("column `{name}` of `{}` is {ty}, the selected value is {}", target.name, expr.ty);
                self.problems.push(insert.at.problem(message, format!("write CAST(... AS {ty})")));
                continue;
            }
            // A longer text is not cut: Flink's sinks do not enforce lengths either.
            let expr = if expr.ty.is_text() && ty.is_text() { Expr { ty: ty.clone(), ..expr } } else { expr.cast(ty) };
            outputs.push(OutputColumn { name, expr, required });
        }
        (self.problems.len() == before).then_some(outputs)
    }

    /// What is selected, under the names of the SELECT.
    fn named(&mut self, insert: &Insert, selected: Vec<(Option<String>, Expr)>) -> Option<Vec<OutputColumn>> {
        let mut outputs: Vec<OutputColumn> = Vec::with_capacity(selected.len());
        for (at, (name, expr)) in selected.into_iter().enumerate() {
            let name = name.unwrap_or_else(|| format!("EXPR${at}"));
            let problem = match &expr.ty {
                SqlType::Null => Some(("a NULL without a type".to_owned(), "write CAST(NULL AS type)")),
                _ if outputs.iter().any(|output| output.name == name) => {
                    Some((format!("a second column `{name}`"), "name one of them with AS"))
                }
                _ => None,
            };
            match problem {
                Some((message, advice)) => {
                    self.problems.push(insert.at.problem(message, advice));
                    return None;
                }
                None => outputs.push(OutputColumn { name, expr, required: false }),
            }
        }
        Some(outputs)
    }
}

/// A column that a leg delivers.
#[derive(Clone, Debug)]
pub struct OutputColumn {
    /// Its name.
    pub name: String,
    /// Its values.
    pub expr: Expr,
    /// NULL fails the row.
    pub required: bool,
}

/// A field of a record and what it stands for; its slots are appended to `slots`.
fn field(name: &str, ty: &SqlType, slots: &mut Vec<SqlType>) -> (Field, Expr) {
    let slot = slots.len();
    let SqlType::Row(fields) = ty else {
        slots.push(ty.clone());
        let expr = Expr { kind: Kind::Slot(slot), ty: ty.clone() };
        return (Field { name: name.to_owned(), slot, row: None }, expr);
    };
    slots.push(SqlType::Boolean);
    let (row, fields) = fields.iter().map(|(name, ty)| field(name, ty, slots)).unzip();
    let expr = Expr { kind: Kind::Row { present: slot, fields }, ty: ty.clone() };
    (Field { name: name.to_owned(), slot, row: Some(row) }, expr)
}

fn bytes_within(ty: &SqlType) -> Option<&SqlType> {
    match ty {
        SqlType::Bytes => Some(ty),
        SqlType::Row(fields) => fields.iter().find_map(|(_, ty)| bytes_within(ty)),
        _ => None,
    }
}
