//! The same job for Apache Flink: the user's text, with the connector's tables put under it. The name that the text reads is a
//! view of the records that could be decoded, so that its SELECTs stay as they are, but for two more columns: where the row
//! comes from (`il`), which the sinks sum up, and its time. What could not be decoded, or fails a cast ([`guard`]), goes into a
//! sink of its own; what would fail the whole job is refused ([`refuse`]).

mod difference;
mod guard;
mod refuse;
mod sink;
mod write;

pub use difference::{DIFFERENCES, Difference, Differs, differences};
use serde::{Deserialize, Serialize};
pub use sink::ranges_topic;
use stream::config::{SinkKind, SinkSpec, SuccessFile};

use super::error::{At, SqlError};
use super::syntax::{ColumnKind, Insert, Item, Table};
use super::{LegPlan, check, statement};
use guard::Guard;

/// The table under the view; no table of a job text has this name, as it would have to stand in backticks.
const SOURCE: &str = "isolane source";
/// Where records are set apart; no sink has this name, nor its folder.
const SET_APART: &str = "set-apart";
/// The folder in it of records that no sink gets: those that could not be decoded. The name by which readers know a NULL.
const OF_ALL: &str = "__HIVE_DEFAULT_PARTITION__";
/// How long a partition may be silent until it no longer holds back the announcing of hours.
const WATERMARK_IDLE: &str = ", 'scan.watermark.idle-timeout' = '1 min'";

/// Where a job reads and writes on Flink.
#[derive(Clone, Copy, Debug)]
pub struct FlinkPlace<'a> {
    /// The Kafka clusters, as the connector takes them: `normal=host:port,...[;failover=host:port,...]`.
    pub clusters: &'a str,
    /// The topic's name there.
    pub topic: &'a str,
    /// The folder of what is set apart, and of sinks that name none of their own, as a URL.
    pub out: &'a str,
    /// The one sink that the job is for; `None`: it is for all of them.
    pub leg: Option<&'a str>,
}

impl FlinkPlace<'_> {
    /// Nowhere: where a job reads and writes is no matter of its text.
    pub const NONE: Self = Self { clusters: "", topic: "", out: "", leg: None };

    /// A folder below [`Self::out`].
    fn folder(&self, name: &str) -> String {
        format!("{}/{name}", self.out.trim_end_matches('/'))
    }
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

impl FlinkText {
    /// The statements as Flink's SQL client takes them, with options of the table that is read.
    pub fn script(&self, options: &[(&str, String)]) -> String {
        let option = |(name, value): &(&str, String)| format!("'{name}' = '{}'", value.replace('\'', "''"));
        let options: Vec<String> = options.iter().map(option).collect();
        let set = match options.is_empty() {
            true => String::new(),
            false => format!("ALTER TABLE `{}` SET ({});\n", self.source, options.join(", ")),
        };
        let sinks = self.legs.iter().map(|leg| &leg.sink_table);
        let tables: String = self.tables.iter().chain(sinks).map(|table| format!("{table};\n")).collect();
        let inserts: String = self.legs.iter().map(|leg| format!("{}\n;\n", leg.insert)).collect();
        format!("{tables}{set}EXECUTE STATEMENT SET BEGIN\n{inserts}END;\n")
    }
}

/// One INSERT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlinkLeg {
    /// The sink's CREATE TABLE.
    pub sink_table: String,
    /// The INSERT.
    pub insert: String,
    /// The folder, as URL, in which its files stay hidden until they are put together with others, if they are.
    pub hidden_in: Option<String>,
}

/// The folders, below [`FlinkPlace::out`], of what was set apart for this sink: what could not be decoded, which no sink gets,
/// and what failed on the way to this one; by a job for all sinks, and by one for this sink alone.
pub fn set_apart_folders(sink: &str) -> [String; 4] {
    let (of_all, of_one) = (set_apart_folder(None), set_apart_folder(Some(sink)));
    [(&of_all, OF_ALL), (&of_all, sink), (&of_one, OF_ALL), (&of_one, sink)]
        .map(|(folder, sink)| format!("{folder}/sink={sink}"))
}

/// Each job has a folder of its own.
fn set_apart_folder(leg: Option<&str>) -> String {
    leg.map_or_else(|| SET_APART.to_owned(), |leg| format!("{SET_APART}/leg={leg}"))
}

/// Writes a job text for Flink.
///
/// # Errors
/// What the embedded engine refuses as well; and what would fail a whole job there where it sets one record apart here.
pub fn for_flink(sql: &str, sinks: &[SinkSpec], place: FlinkPlace) -> Result<FlinkText, SqlError> {
    let names: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
    let job = check(sql, &names)?;
    let script = statement::script(sql).map_err(|problem| SqlError { problems: vec![problem] })?;
    let Some(table) = script.tables.iter().find(|table| table.name == job.source.name) else {
        unreachable!("the job was planned, so that its source is declared")
    };
    let guard = Guard::new(&script, table);
    let mut problems = refuse::problems(&script, table, &guard);
    let is_announced =
        |sink: &&SinkSpec| matches!(sink.kind, SinkKind::Files { success_file: Some(SuccessFile::PartitionTime), .. });
    let announced = sinks.iter().filter(is_announced).any(|sink| place.leg.is_none_or(|leg| sink.name == leg));
    let (text, columns) = (Slices { sql, guard: &guard }, Columns::of(table, announced));
    let (mut legs, mut failing) = (Vec::with_capacity(job.legs.len() + 1), Vec::new());
    let wanted = |plan: &LegPlan| place.leg.is_none_or(|leg| plan.sink == leg);
    for (insert, plan) in script.inserts.iter().zip(&job.legs).filter(|(_, plan)| wanted(plan)) {
        let cause = guard.cause(insert, plan).unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let select = |more: &str| columns.select(&text, insert, more, cause.as_deref());
        for sink in sinks.iter().filter(|sink| sink.name == plan.sink) {
            match sink::leg(plan, sink, place, &columns.il, insert.at, select) {
                Ok(leg) => legs.push(leg),
                Err(problem) => problems.push(problem),
            }
        }
        failing.extend(cause.map(|cause| columns.failed(insert, &cause)));
    }
    if !problems.is_empty() {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        return Err(SqlError { problems });
    }
    legs.push(columns.set_apart(place, &failing));
    let tables = vec![columns.table(&text, table, place), columns.view(table)];
    Ok(FlinkText { source: SOURCE.to_owned(), tables, legs })
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
    /// Options that go with them.
    options: &'static str,
    /// All that the user declared.
    declared: Vec<String>,
}

impl Columns {
    /// With a watermark, if one is needed to announce hours: the user's, or the journal's time.
    fn of(table: &Table, is_watermark_needed: bool) -> Self {
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
        if is_watermark_needed && table.watermark.is_none() {
            added += &format!("\n, WATERMARK FOR {0} AS {0}", times[1]);
        }
        let options = if is_watermark_needed { WATERMARK_IDLE } else { "" };
        let watermark = table.watermark.as_ref().map(|watermark| quoted(&watermark.column));
        let times = watermark.into_iter().map(|column| format!("CAST({column} AS TIMESTAMP_LTZ(3))")).chain(times);
        let time = format!("COALESCE({})", times.collect::<Vec<_>>().join(", "));
        let declared = table.columns.iter().map(|column| quoted(&column.name)).collect();
        Self { il, fate, cause, value, time, added, options, declared }
    }

    fn table(&self, text: &Slices, table: &Table, place: FlinkPlace) -> String {
        let is_format = |name: &str| matches!(name, "format" | "value.format") || name.starts_with("json.");
        let own = table.options.iter().map(|(_, name, value)| (name.as_str(), value.as_str()));
        let options = [("connector", "isolane"), ("clusters", place.clusters), ("topic", place.topic)]
            .into_iter()
            .chain(own.filter(|(name, _)| is_format(name)))
            .map(|(name, value)| format!("{} = {}", literal(name), literal(value)));
        let body = text.between(table.body_from, table.body_to);
        let options = options.collect::<Vec<_>>().join(", ");
        format!(
            "CREATE TABLE {} (\n  {}{}\n) WITH ({options}{})",
            quoted(SOURCE),
            body.trim(),
            self.added,
            self.options
        )
    }

    /// The records that could be decoded, with where they come from and their own bytes.
    fn view(&self, table: &Table) -> String {
        let added = [&self.il, &self.value].into_iter().filter(|name| !self.declared.contains(name));
        let columns = self.declared.iter().chain(added).cloned().collect::<Vec<_>>().join(", ");
        format!(
            "CREATE VIEW {} AS SELECT {columns}, {} AS {} FROM {} WHERE {} IS NULL",
            quoted(&table.name),
            self.time,
            sink::TIME,
            quoted(SOURCE),
            self.fate
        )
    }

    /// The user's SELECT, with `more` columns; `*` is what was declared. Rows that have a `cause` are left out.
    fn select(&self, text: &Slices, insert: &Insert, more: &str, cause: Option<&str>) -> String {
        let mut items = String::new();
        let mut from = insert.select_at;
        for item in &insert.items {
            if let Item::All(at) = item {
                items += &text.between(from, *at);
                items += &self.declared.join(", ");
                from = At { column: at.column + 1, ..*at };
            }
        }
        items += text.between(from, insert.from_at).trim_end();
        let rest = match cause {
            None => text.between(insert.from_at, insert.end_at).trim_end().to_owned(),
            Some(cause) => {
                let own = insert.condition.as_ref().map(|node| format!("{} AND ", text.guard.write(node)));
                format!("FROM {} WHERE {}{cause} IS NULL", named(insert), own.unwrap_or_default())
            }
        };
        // A line of its own: a comment may stand at the end of the one before.
        format!("{items}\n, {more} {rest}")
    }

    /// The SELECT of the records that an INSERT fails.
    fn failed(&self, insert: &Insert, cause: &str) -> String {
        let (sink, Self { il, value, .. }) = (literal(&insert.sink), self);
        format!(
            "SELECT `$il`, 'quarantined', `$cause`, `$value`, `$il`, {sink} FROM (\nSELECT {il} AS `$il`, {value} AS `$value`, \
             {cause} AS `$cause` FROM {}\n) WHERE `$cause` IS NOT NULL",
            named(insert)
        )
    }

    /// What is set apart, in a folder for each sink. `failing` select what fails on the way to one.
    fn set_apart(&self, place: FlinkPlace, failing: &[String]) -> FlinkLeg {
        let (sink, source) = (quoted(SET_APART), quoted(SOURCE));
        let Self { il, fate, cause, value, .. } = self;
        let undecoded = format!(
            "SELECT {il}, {fate}, {cause}, {value}, {il}, CAST(NULL AS STRING) FROM {source} WHERE {fate} IS NOT NULL"
        );
        let selects = std::iter::once(&undecoded).chain(failing).map(String::as_str).collect::<Vec<_>>();
        FlinkLeg {
            sink_table: sink::set_apart(SET_APART, OF_ALL, &place.folder(&set_apart_folder(place.leg))),
            insert: format!("INSERT INTO {sink} {}", selects.join("\nUNION ALL ")),
            hidden_in: None,
        }
    }
}

/// The table that an INSERT reads, under its name there.
fn named(insert: &Insert) -> String {
    format!("{} AS {}", quoted(&insert.source), quoted(&insert.alias))
}

/// A string of Flink SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name of Flink SQL.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The job text by places, with casts that can fail as TRY_CAST.
struct Slices<'a> {
    sql: &'a str,
    guard: &'a Guard<'a>,
}

impl Slices<'_> {
    fn between(&self, from: At, to: At) -> String {
        let mut text = String::new();
        let mut at = from;
        for cast in self.guard.tried(from, to) {
            text += self.slice(at, cast);
            text += "TRY_";
            at = cast;
        }
        text + self.slice(at, to)
    }

    fn slice(&self, from: At, to: At) -> &str {
        self.sql.get(self.offset(from)..self.offset(to)).unwrap_or_default()
    }

    fn offset(&self, at: At) -> usize {
        let mut lines = self.sql.split_inclusive('\n');
        let before: usize = lines.by_ref().take(at.line.saturating_sub(1) as usize).map(str::len).sum();
        let line = lines.next().unwrap_or_default();
        let within = line.char_indices().nth(at.column.saturating_sub(1) as usize).map_or(line.len(), |(at, _)| at);
        before + within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: FlinkPlace<'static> = FlinkPlace { clusters: "normal=k:1", topic: "t", out: "file:///o/", leg: None };

    fn written(sql: &str) -> Result<FlinkText, SqlError> {
        for_flink(sql, &["good", "all"].map(SinkSpec::files), PLACE)
    }

    #[test]
    fn a_job_for_one_sink_has_its_insert_alone() {
        let sql = "CREATE TABLE c (line STRING) WITH ('format' = 'json');\n\
            EXECUTE STATEMENT SET BEGIN INSERT INTO good SELECT CAST(line AS INT) AS n FROM c; INSERT INTO `all` SELECT CAST(line AS BIGINT) AS n FROM c; END;";
        let text =
            for_flink(sql, &["good", "all"].map(SinkSpec::files), FlinkPlace { leg: Some("good"), ..PLACE }).unwrap();
        let [leg, apart] = &text.legs[..] else { panic!("{text:?}") };
        assert!(leg.insert.starts_with("INSERT INTO `good`"), "{}", leg.insert);
        assert!(apart.sink_table.contains("'path' = 'file:///o/set-apart/leg=good'"), "{}", apart.sink_table);
        assert!(apart.insert.contains("no INT") && !apart.insert.contains("no BIGINT"), "{}", apart.insert);
    }

    #[test]
    fn hours_that_are_announced_need_a_watermark() {
        let sql = "CREATE TABLE c (line STRING) WITH ('format' = 'json'); INSERT INTO good SELECT line FROM c";
        let tables = |success_file| {
            let kind = SinkKind::Files { path: None, success_file, compaction: false };
            let sinks = [SinkSpec { kind, ..SinkSpec::files("good") }];
            for_flink(sql, &sinks, PLACE).unwrap().tables.remove(0)
        };
        assert!(!tables(None).contains("WATERMARK") && !tables(Some(SuccessFile::ProcessTime)).contains("WATERMARK"));
        let table = tables(Some(SuccessFile::PartitionTime));
        assert!(table.contains("WATERMARK FOR `$append_time` AS `$append_time`"), "{table}");
        assert!(table.contains("'scan.watermark.idle-timeout' = '1 min'"), "{table}");
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
            "CREATE VIEW `clicks` AS SELECT `id`, `né`, `at_`, `$il`, `$value`, COALESCE(CAST(`at_` AS TIMESTAMP_LTZ(3)), \
             `$event_time`, `$append_time`) AS `$time` FROM `isolane source` WHERE `$fate` IS NULL"
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
             'isolane-parquet.il' = '$il', 'isolane-parquet.compression' = 'ZSTD', \
             'isolane-parquet.compression.codec.zstd.level' = '1', 'isolane-parquet.block.size' = '16777216')"
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
        let place = FlinkPlace { clusters, topic: "a.b.c.000000000000001f", out: "file://@WORK@", leg: None };
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
        assert!(
            text.tables[1].contains("SELECT `line`, `origin`, `$value`, COALESCE(`$event_time`"),
            "{}",
            text.tables[1]
        );
        assert!(text.legs[0].insert.starts_with("INSERT INTO `good` SELECT `line`, `origin`\n, `origin`, DATE_FORMAT"));
    }

    #[test]
    fn a_cast_that_fails_sets_the_record_apart() {
        let sql = "CREATE TABLE r (line STRING, n AS CAST(line AS INT)) WITH ('format' = 'raw');\n\
            INSERT INTO good SELECT x.n, CAST(x.line AS DATE) AS d FROM r AS x WHERE x.n > 3";
        let text = written(sql).unwrap_or_else(|error| panic!("{error}"));
        assert!(text.tables[0].contains("n AS TRY_CAST(line AS INT)"), "{}", text.tables[0]);
        let shown = "CASE WHEN CHAR_LENGTH(`line`) > 64 THEN SUBSTRING(`line`, 1, 64) || '…' ELSE `line` END";
        let int = format!(
            "CASE WHEN TRY_CAST(`line` AS INT) IS NULL AND `line` IS NOT NULL THEN 'CAST: \'\'' || {shown} || '\'\' is no INT' END"
        );
        let date = int.replace("`line`", "`x`.`line`").replace("INT", "DATE");
        let cause = format!("COALESCE({int}, CASE WHEN (`x`.`n` > 3) THEN {date} END)");
        let rest = format!("FROM `r` AS `x` WHERE (`x`.`n` > 3) AND {cause} IS NULL");
        let items = "SELECT x.n, TRY_CAST(x.line AS DATE) AS d\n, `$il`, DATE_FORMAT";
        let insert = &text.legs[0].insert;
        assert!(insert.starts_with(&format!("INSERT INTO `good` {items}")) && insert.ends_with(&rest), "{insert}");
        assert_eq!(
            text.legs[1].insert,
            format!(
                "INSERT INTO `set-apart` SELECT `$il`, `$fate`, `$cause`, `$value`, `$il`, CAST(NULL AS STRING) FROM `isolane source` \
                 WHERE `$fate` IS NOT NULL\nUNION ALL SELECT `$il`, 'quarantined', `$cause`, `$value`, `$il`, 'good' FROM (\n\
                 SELECT `$il` AS `$il`, `$value` AS `$value`, {cause} AS `$cause` FROM `r` AS `x`\n) WHERE `$cause` IS NOT NULL"
            )
        );
    }

    #[test]
    fn only_what_is_asked_for_fails() {
        let cause = |select: &str| {
            let table = "CREATE TABLE r (a STRING, b DOUBLE, k STRING) WITH ('format' = 'json');";
            let text = written(&format!("{table} INSERT INTO good SELECT {select} FROM r"))
                .unwrap_or_else(|error| panic!("{error}"));
            let (_, cause) = text.legs[1].insert.split_once("`$value` AS `$value`, ")?;
            let cause = cause.split_once(" AS `$cause`")?.0.to_owned();
            // The cause of `CAST(a AS INT)`, short.
            let (from, to) = (cause.find("CASE WHEN TRY_CAST(`a` AS INT) IS NULL AND")?, " is no INT' END");
            let end = cause.find(to)? + to.len();
            Some(cause.replace(&cause.clone()[from..end], "A"))
        };
        let int = "CAST(a AS INT)";
        let cases = [
            (format!("k = 'x' AND {int} > 1 AS c"), "CASE WHEN (`k` = 'x') IS FALSE THEN NULL ELSE A END"),
            (format!("k = 'x' OR {int} > 1 OR k = 'y' AS c"), "CASE WHEN (`k` = 'x') IS TRUE THEN NULL ELSE A END"),
            (format!("COALESCE({int}, 1) AS c"), "A"),
            (format!("COALESCE(1, {int}) AS c"), "CASE WHEN 1 IS NOT NULL THEN NULL ELSE A END"),
            (format!("CASE k WHEN 'x' THEN 1 ELSE {int} END AS c"), "CASE WHEN (`k` = 'x') THEN NULL ELSE A END"),
            (format!("IF(k = 'x', {int}, {int} + 1) AS c"), "CASE WHEN (`k` = 'x') THEN A ELSE A END"),
            (format!("1 BETWEEN 0 AND {int} AS c"), "CASE WHEN (1 >= 0) IS FALSE THEN NULL ELSE A END"),
            (format!("{int} AS c, {int} AS d"), "A"),
        ];
        for (select, expected) in cases {
            assert_eq!(cause(&select).as_deref(), Some(expected), "{select}");
        }
        for select in
            ["TRY_CAST(a AS INT) AS c", "CAST(NULL AS INT) AS c", "CAST(b AS INT) AS c", "CAST(b AS STRING) AS c"]
        {
            assert_eq!(cause(select), None, "{select}");
        }
    }

    #[test]
    fn what_cannot_be_written_out_is_refused() {
        let table = "CREATE TABLE r (a STRING, k STRING, n AS CAST(a || k AS INT)) WITH ('format' = 'json');";
        let written = |select: String| written(&format!("{table} INSERT INTO good SELECT {select} AS c FROM r"));
        let branches =
            |n: usize| (0..n).map(|at| format!(" WHEN k = '{at}' THEN CAST(a || '{at}' AS INT)")).collect::<String>();
        assert!(written(format!("CASE{} END", branches(300))).is_ok());
        let error = written(format!("CASE{} END", branches(1_200))).unwrap_err().to_string();
        assert!(error.contains("more than 262144 bytes") && error.contains("TRY_CAST"), "{error}");
        let chain =
            |n: usize| (0..n).map(|at| format!("CAST(a || '{at}' AS INT) > 1")).collect::<Vec<_>>().join(" OR ");
        assert!(written(chain(60)).is_ok() && written(chain(70)).unwrap_err().to_string().contains("levels"));
        let idle = vec!["k = 'x'"; 5_000].join(" OR ");
        assert!(written(format!("{idle} OR n > 1")).is_ok(), "a chain is one level");
        assert!(written(format!("CASE{} ELSE n END", " WHEN k = '' THEN 1".repeat(3_000))).is_ok(), "and so is a CASE");
    }

    #[test]
    fn a_column_that_may_not_be_null_sets_the_record_apart() {
        let sql = "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); CREATE TABLE good (line STRING NOT NULL);\n\
            INSERT INTO good SELECT line FROM r";
        let text = written(sql).unwrap_or_else(|error| panic!("{error}"));
        assert!(text.legs[0].sink_table.contains("(`line` STRING, "), "{}", text.legs[0].sink_table);
        let cause = "CASE WHEN `line` IS NULL THEN CAST('column `line` is NOT NULL' AS STRING) END";
        assert!(
            text.legs[0].insert.ends_with(&format!("FROM `r` AS `r` WHERE {cause} IS NULL")),
            "{}",
            text.legs[0].insert
        );
    }

    #[test]
    fn a_path_that_begins_with_table_and_column_is_refused() {
        let sql = |selected: &str, alias: &str| {
            let table = "CREATE TABLE line (line STRING, n AS CAST(line AS INT)) WITH ('format' = 'raw');";
            format!("{table}\nINSERT INTO good SELECT {selected} AS x FROM line{alias}")
        };
        let error = written(&sql("1 + line.n", "")).unwrap_err().to_string();
        assert!(error.starts_with("line 2, column 29: on Flink `line`") && error.contains("with AS"), "{error}");
        assert!(written(&sql("1 + n", "")).is_ok() && written(&sql("1 + t.n", " AS t")).is_ok());
    }

    #[test]
    fn what_would_fail_the_whole_job_is_refused() {
        let table = "CREATE TABLE r (a INT, b INT, d DOUBLE, t TIMESTAMP(3), s STRING) WITH ('format' = 'json');";
        let refused = [
            ("a / b", 90, "NULLIF"),
            ("a % (b + 1)", 90, "NULLIF"),
            ("MOD(a, b)", 88, "NULLIF"),
            ("CAST(a AS DECIMAL(5, 2)) / 0", 113, "NULLIF"),
            ("DATE_FORMAT(t, s)", 88, "literal"),
            ("JSON_VALUE(s, '$.a' RETURNING INT)", 88, "CAST(JSON_VALUE"),
            ("JSON_VALUE(s, '$.a' ERROR ON EMPTY)", 88, "NOT NULL"),
        ];
        let before = format!("{table}\nINSERT INTO good SELECT ");
        for (select, column, advice) in refused {
            let error = written(&format!("{before}{select} AS x FROM r")).unwrap_err().to_string();
            let place = format!("line 2, column {}: on Flink", column - 88 + 25);
            assert!(error.starts_with(&place) && error.contains(advice), "{select}: {error}");
        }
        for select in ["a / 2", "MOD(a, NULLIF(b, 0))", "a / d", "JSON_VALUE(s, '$.a' DEFAULT 'x' ON EMPTY)"] {
            assert!(written(&format!("{before}{select} AS x FROM r")).is_ok(), "{select}");
        }
        let metadata =
            "CREATE TABLE r (a INT, il INT METADATA) WITH ('format' = 'json'); INSERT INTO good SELECT a FROM r";
        assert!(written(metadata).unwrap_err().to_string().contains("declare it STRING"));
    }
}
