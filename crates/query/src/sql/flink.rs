//! The same job for Apache Flink: the user's text, with the connector's tables put under it. The name that the text reads is a
//! view of the records that could be decoded, so that its SELECTs stay as they are, but for two more columns: where the row
//! comes from (`il`), which the sinks sum up, and its time. What could not be decoded goes into a sink of its own.

mod sink;

use serde::{Deserialize, Serialize};
pub use sink::ranges_topic;
use stream::config::SinkSpec;

use super::error::{At, Problem, SqlError};
use super::syntax::{ColumnKind, Insert, Item, Node, Syntax, Table};
use super::{check, statement};

/// The table under the view; no table of a job text has this name, as it would have to stand in backticks.
const SOURCE: &str = "isolane source";
/// Where records are set apart; no sink has this name, nor its folder.
const SET_APART: &str = "set-apart";
/// Where a job reads and writes on Flink.
#[derive(Clone, Copy, Debug)]
pub struct FlinkPlace<'a> {
    /// The Kafka clusters, as the connector takes them: `normal=host:port,...[;failover=host:port,...]`.
    pub clusters: &'a str,
    /// The topic's name there.
    pub topic: &'a str,
    /// The folder of what is set apart, and of sinks that name none of their own, as a URL.
    pub out: &'a str,
}

/// A job in statements for Flink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlinkText {
    /// The table that is read.
    pub source: String,
    /// What makes it and the view over it.
    pub tables: Vec<String>,
    /// One per INSERT, and one for what is set apart.
    pub legs: Vec<FlinkLeg>,
}

/// One INSERT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlinkLeg {
    /// The sink's CREATE TABLE.
    pub sink_table: String,
    /// The INSERT.
    pub insert: String,
}

/// Writes a job text for Flink.
///
/// # Errors
/// What the embedded engine refuses as well; and what would fail a whole job there where it sets one record apart here.
pub fn for_flink(sql: &str, sinks: &[SinkSpec], place: FlinkPlace) -> Result<FlinkText, SqlError> {
    let names: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
    let job = check(sql, &names)?;
    let script = statement::script(sql).map_err(|problem| SqlError { problems: vec![problem] })?;
    let in_tables = script.tables.iter().flat_map(failing_in);
    let problems: Vec<Problem> = script.inserts.iter().flat_map(failing).chain(in_tables).collect();
    let table = script.tables.iter().find(|table| table.name == job.source.name);
    let (Some(table), []) = (table, &problems[..]) else { return Err(SqlError { problems }) };
    let (text, columns) = (Slices(sql), Columns::of(table));
    let mut legs = Vec::with_capacity(job.legs.len() + 1);
    for (insert, plan) in script.inserts.iter().zip(&job.legs) {
        let select = |more: &str| columns.select(&text, insert, more);
        for sink in sinks.iter().filter(|sink| sink.name == plan.sink) {
            legs.push(sink::leg(plan, sink, place, &columns.il, select)?);
        }
    }
    legs.push(columns.set_apart(place));
    let tables = vec![columns.table(&text, table, place), columns.view(table)];
    Ok(FlinkText { source: SOURCE.to_owned(), tables, legs })
}

/// The casts of an INSERT that fail, on Flink, the job and not the row.
fn failing(insert: &Insert) -> Vec<Problem> {
    let items = insert.items.iter().filter_map(|item| match item {
        Item::One(node, _) => Some(node),
        Item::All(_) => None,
    });
    items.chain(&insert.condition).flat_map(casts).collect()
}

fn failing_in(table: &Table) -> Vec<Problem> {
    let computed = table.columns.iter().filter_map(|column| match &column.kind {
        ColumnKind::Computed(node) => Some(node),
        _ => None,
    });
    computed.flat_map(casts).collect()
}

fn casts(node: &Node) -> Vec<Problem> {
    let own = match &*node.syntax {
        // Whatever is cast to text can be; so can NULL.
        Syntax::Cast { safe: false, input, ty } => !ty.is_text() && !matches!(&*input.syntax, Syntax::Null),
        _ => false,
    };
    let advice = "write TRY_CAST, and leave out with WHERE what became NULL";
    let own = own.then(|| node.at.problem("on Flink a value that cannot be cast fails the whole job", advice));
    own.into_iter().chain(node.syntax.parts().into_iter().flat_map(casts)).collect()
}

/// The names under which the source's table has what the engine needs: the user's own where they are declared, as Flink takes
/// no metadata twice.
struct Columns {
    il: String,
    fate: String,
    cause: String,
    value: String,
    /// A row's time: its watermark column, else the sender's, else the journal's; as the embedded engine has it.
    time: String,
    /// Declarations of those that the user has not declared.
    added: String,
    /// All that the user declared.
    declared: Vec<String>,
}

impl Columns {
    fn of(table: &Table) -> Self {
        let mut added = String::new();
        let mut name = |key: &str, ty: &str| {
            let own = table
                .columns
                .iter()
                .find(|column| matches!(&column.kind, ColumnKind::Metadata { key: of, .. } if of == key));
            own.map_or_else(
                || {
                    added += &format!("\n, `${key}` {ty} METADATA FROM '{key}' VIRTUAL");
                    quoted(&format!("${key}"))
                },
                |column| quoted(&column.name),
            )
        };
        let (il, fate) = (name("il", "STRING"), name("fate", "STRING"));
        let (cause, value) = (name("cause", "STRING"), name("value", "BYTES"));
        let times = [name("event_time", "TIMESTAMP_LTZ(3)"), name("append_time", "TIMESTAMP_LTZ(3)")];
        let watermark = table.watermark.as_ref().map(|watermark| quoted(&watermark.column));
        let times = watermark.into_iter().map(|column| format!("CAST({column} AS TIMESTAMP_LTZ(3))")).chain(times);
        let time = format!("COALESCE({})", times.collect::<Vec<_>>().join(", "));
        let declared = table.columns.iter().map(|column| quoted(&column.name)).collect();
        Self { il, fate, cause, value, time, added, declared }
    }

    fn table(&self, text: &Slices, table: &Table, place: FlinkPlace) -> String {
        let is_format = |name: &str| matches!(name, "format" | "value.format") || name.starts_with("json.");
        let own = table.options.iter().map(|(_, name, value)| (name.as_str(), value.as_str()));
        let options = [("connector", "isolane"), ("clusters", place.clusters), ("topic", place.topic)]
            .into_iter()
            .chain(own.filter(|(name, _)| is_format(name)))
            .map(|(name, value)| format!("{} = {}", literal(name), literal(value)));
        let body = text.between(table.body_from, table.body_to).trim();
        let options = options.collect::<Vec<_>>().join(", ");
        format!("CREATE TABLE {} (\n  {body}{}\n) WITH ({options})", quoted(SOURCE), self.added)
    }

    /// The records that could be decoded, with where they come from.
    fn view(&self, table: &Table) -> String {
        let il = (!self.declared.contains(&self.il)).then(|| self.il.clone());
        let columns = self.declared.iter().cloned().chain(il).collect::<Vec<_>>().join(", ");
        format!(
            "CREATE VIEW {} AS SELECT {columns}, {} AS {} FROM {} WHERE {} IS NULL",
            quoted(&table.name),
            self.time,
            sink::TIME,
            quoted(SOURCE),
            self.fate
        )
    }

    /// The user's SELECT, with `more` columns; `*` is what was declared.
    fn select(&self, text: &Slices, insert: &Insert, more: &str) -> String {
        let mut items = String::new();
        let mut from = insert.select_at;
        for item in &insert.items {
            if let Item::All(at) = item {
                items += text.between(from, *at);
                items += &self.declared.join(", ");
                from = At { column: at.column + 1, ..*at };
            }
        }
        items += text.between(from, insert.from_at).trim_end();
        // A line of its own: a comment may stand at the end of the one before.
        format!("{items}\n, {more} {}", text.between(insert.from_at, insert.end_at).trim_end())
    }

    fn set_apart(&self, place: FlinkPlace) -> FlinkLeg {
        let (sink, source) = (quoted(SET_APART), quoted(SOURCE));
        let columns = "`il` STRING, `fate` STRING, `cause` STRING, `value` BYTES";
        let Self { il, fate, cause, value, .. } = self;
        FlinkLeg {
            sink_table: sink::flat_files(
                SET_APART,
                columns,
                &format!("{}/{SET_APART}", place.out.trim_end_matches('/')),
            ),
            insert: format!(
                "INSERT INTO {sink} SELECT {il}, {fate}, {cause}, {value}, {il} FROM {source} WHERE {fate} IS NOT NULL"
            ),
        }
    }
}

/// A string of Flink SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name of Flink SQL.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The job text by places.
struct Slices<'a>(&'a str);

impl Slices<'_> {
    fn between(&self, from: At, to: At) -> &str {
        self.0.get(self.offset(from)..self.offset(to)).unwrap_or_default()
    }

    fn offset(&self, at: At) -> usize {
        let mut lines = self.0.split_inclusive('\n');
        let before: usize = lines.by_ref().take(at.line.saturating_sub(1) as usize).map(str::len).sum();
        let line = lines.next().unwrap_or_default();
        let within = line.char_indices().nth(at.column.saturating_sub(1) as usize).map_or(line.len(), |(at, _)| at);
        before + within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(sql: &str) -> Result<FlinkText, SqlError> {
        let place = FlinkPlace { clusters: "normal=k:1", topic: "t", out: "file:///o/" };
        for_flink(sql, &["good", "all"].map(SinkSpec::files), place)
    }

    #[test]
    fn a_job_is_written_with_its_tables_under_it() {
        let sql = "CREATE TABLE clicks (id INT, `né` STRING, -- ü\n  at_ TIMESTAMP(3), WATERMARK FOR at_ AS at_ - INTERVAL '5' SECOND)\n\
            WITH ('connector' = 'theirs', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601');\n\
            EXECUTE STATEMENT SET BEGIN\nINSERT INTO good SELECT id, UPPER(c.`né`) AS n FROM clicks AS c WHERE c.id > 3;\n\
            INSERT INTO `all`\nSELECT *, id + 1 AS more FROM clicks\n; END;";
        let text = written(sql).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            text.tables[0],
            "CREATE TABLE `isolane source` (\n  id INT, `né` STRING, -- ü\n  at_ TIMESTAMP(3), WATERMARK FOR at_ AS at_ - INTERVAL '5' SECOND\n, \
             `$il` STRING METADATA FROM 'il' VIRTUAL\n, `$fate` STRING METADATA FROM 'fate' VIRTUAL\n, \
             `$cause` STRING METADATA FROM 'cause' VIRTUAL\n, `$value` BYTES METADATA FROM 'value' VIRTUAL\n, \
             `$event_time` TIMESTAMP_LTZ(3) METADATA FROM 'event_time' VIRTUAL\n, \
             `$append_time` TIMESTAMP_LTZ(3) METADATA FROM 'append_time' VIRTUAL\n) \
             WITH ('connector' = 'isolane', 'clusters' = 'normal=k:1', 'topic' = 't', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601')"
        );
        assert_eq!(
            text.tables[1],
            "CREATE VIEW `clicks` AS SELECT `id`, `né`, `at_`, `$il`, COALESCE(CAST(`at_` AS TIMESTAMP_LTZ(3)), `$event_time`, \
             `$append_time`) AS `$time` FROM `isolane source` WHERE `$fate` IS NULL"
        );
        let hours = "DATE_FORMAT(`$time`, 'yyyy-MM-dd'), DATE_FORMAT(`$time`, 'HH')";
        let insert = |leg: usize, select: &str, from: &str| {
            assert_eq!(text.legs[leg].insert, format!("INSERT INTO {select}\n, `$il`, {hours} FROM {from}"));
        };
        insert(0, "`good` SELECT id, UPPER(c.`né`) AS n", "clicks AS c WHERE c.id > 3");
        insert(1, "`all` SELECT `id`, `né`, `at_`, id + 1 AS more", "clicks");
        assert_eq!(
            text.legs[0].sink_table,
            "CREATE TABLE `good` (`id` INT, `n` STRING, `$il` STRING, `dt` STRING, `hour` STRING) PARTITIONED BY (`dt`, `hour`) \
             WITH ('connector' = 'filesystem', 'path' = 'file:///o/good', 'format' = 'isolane-parquet', \
             'isolane-parquet.il' = '$il', 'isolane-parquet.compression' = 'ZSTD')"
        );
        assert!(text.legs[2].insert.ends_with("FROM `isolane source` WHERE `$fate` IS NOT NULL"));
        assert!(text.legs[2].sink_table.contains("'file:///o/set-apart'"));
    }

    /// What the end-to-end run submits to a real Flink is what is written here.
    #[test]
    fn the_text_of_the_end_to_end_run_is_this_one() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../flink/src/test/e2e");
        let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let clusters = "normal=127.0.0.1:49092;failover=127.0.0.1:49192";
        let place = FlinkPlace { clusters, topic: "a.b.c.000000000000001f", out: "file://@WORK@" };
        let text = for_flink(&read("engine.sql"), &[SinkSpec::files("good")], place).unwrap();
        let known: FlinkText = serde_json::from_str(&read("engine.json")).unwrap();
        assert_eq!(text, known, "{}", serde_json::to_string_pretty(&text).unwrap());
    }

    #[test]
    fn metadata_that_is_declared_is_not_declared_again() {
        let sql = "CREATE TABLE r (line STRING, origin STRING METADATA FROM 'il') WITH ('format' = 'raw');\n\
            INSERT INTO good SELECT * FROM r";
        let text = written(sql).unwrap_or_else(|error| panic!("{error}"));
        assert!(!text.tables[0].contains("`$il`") && text.tables[0].contains("`$fate`"), "{}", text.tables[0]);
        assert!(text.tables[1].contains("SELECT `line`, `origin`, COALESCE(`$event_time`"), "{}", text.tables[1]);
        assert!(text.legs[0].insert.starts_with("INSERT INTO `good` SELECT `line`, `origin`\n, `origin`, DATE_FORMAT"));
    }

    #[test]
    fn what_would_fail_the_whole_job_is_refused() {
        let table = "CREATE TABLE r (line STRING) WITH ('format' = 'raw');";
        for insert in
            ["SELECT CAST(line AS INT) AS n FROM r", "SELECT line FROM r WHERE NOT (CAST(line AS DATE) IS NULL)"]
        {
            let error = written(&format!("{table} INSERT INTO good {insert}")).unwrap_err();
            assert!(error.to_string().contains("TRY_CAST"), "{error}");
        }
        let required = format!("{table} CREATE TABLE good (line STRING NOT NULL); INSERT INTO good SELECT line FROM r");
        assert!(written(&required).unwrap_err().to_string().contains("NOT NULL"));
        let null = "INSERT INTO good SELECT CAST(line AS STRING) AS line, CAST(NULL AS INT) AS n, TRY_CAST(line AS INT) AS m FROM r";
        assert!(written(&format!("{table} {null}")).is_ok());
    }
}
