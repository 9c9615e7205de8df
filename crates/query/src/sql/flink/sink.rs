//! A sink's table on Flink, and the INSERT into it: Parquet files by hour of event time, or a Kafka topic. Both are laid out as
//! the embedded engine lays them out, so that readers need not know who wrote.

use stream::config::{Compression, KafkaFormat, KafkaTarget, SinkKind, SinkSpec, SuccessFile};

use super::super::LegPlan;
use super::super::error::{At, Problem};
use super::super::plan::OutputColumn;
use super::super::types::SqlType;
use super::{FlinkLeg, FlinkPlace, literal, quoted};

/// The row's time of event, in the view that INSERTs read: what its hour is made of.
pub const TIME: &str = "`$time`";
/// The columns that a row's folder is named after.
const FOLDERS: [(&str, &str); 2] = [("dt", "yyyy-MM-dd"), ("hour", "HH")];
/// What a sink's files are written as. Only formats that end their files with each checkpoint: others would keep what they have
/// begun in Flink's state, which a changed text does not take over. Level and row groups are those of the crate `sink`.
const FORMAT: &str = "'format' = 'isolane-parquet', 'isolane-parquet.il' = '$il', 'isolane-parquet.compression' = 'ZSTD', \
    'isolane-parquet.compression.codec.zstd.level' = '1', 'isolane-parquet.block.size' = '16777216'";
/// By which Flink's file sink puts the files of a checkpoint together, before anybody sees them.
const COMPACTED: &str = ", 'auto-compaction' = 'true'";

/// The leg that inserts what `select` selects into its sink. `il` is the column that says where a row comes from; `select` gives
/// the SELECT with these columns appended. `at` is the INSERT's place.
///
/// # Errors
/// What cannot be a column of such a sink there.
pub fn leg(
    plan: &LegPlan,
    sink: &SinkSpec,
    place: FlinkPlace,
    il: &str,
    at: At,
    select: impl Fn(&str) -> String,
) -> Result<FlinkLeg, Problem> {
    match &sink.kind {
        SinkKind::Files { path, success_file, compaction } => {
            let default = || place.folder(&sink.name);
            let url = path.as_ref().map_or_else(default, |path| format!("file://{}", path.display()));
            let announced = success_file.map_or_else(String::new, announced);
            let compacted = if *compaction { COMPACTED } else { "" };
            let leg = of_files(plan, &url, &format!("{announced}{compacted}"), il, at, select)?;
            Ok(FlinkLeg { hidden_in: compaction.then_some(url), ..leg })
        }
        SinkKind::Kafka(target) => of_topic(plan, target, place, il, at, select),
    }
}

/// The topic, in a sink's cluster, of the ranges that one leg of one life of a stream delivers. `topic` is the stream's.
pub fn ranges_topic(topic: &str, sink: &str) -> String {
    format!("{topic}.{sink}.ranges")
}

/// The table of what is set apart: Parquet files in a folder for each sink, `of_all` for those that are no sink's.
pub fn set_apart(name: &str, of_all: &str, url: &str) -> String {
    let (table, path, of_all) = (quoted(name), literal(url), literal(of_all));
    format!(
        "CREATE TABLE {table} (`il` STRING, `fate` STRING, `cause` STRING, `value` BYTES, `$il` STRING, `sink` STRING) \
         PARTITIONED BY (`sink`) WITH ('connector' = 'filesystem', 'path' = {path}, 'partition.default-name' = {of_all}, {FORMAT})"
    )
}

/// The options by which Flink's file sink announces an hour's folder.
fn announced(when: SuccessFile) -> String {
    let trigger = match when {
        SuccessFile::PartitionTime => {
            "'partition-time', 'partition.time-extractor.kind' = 'custom', \
             'partition.time-extractor.class' = 'org.isolane.flink.HourOfFolder'"
        }
        SuccessFile::ProcessTime => "'process-time'",
    };
    format!(
        ", 'sink.partition-commit.policy.kind' = 'success-file', 'sink.partition-commit.delay' = '1 h', \
         'sink.partition-commit.trigger' = {trigger}"
    )
}

fn of_files(
    plan: &LegPlan,
    url: &str,
    options: &str,
    il: &str,
    at: At,
    select: impl Fn(&str) -> String,
) -> Result<FlinkLeg, Problem> {
    if let Some((name, _)) = FOLDERS.iter().find(|(name, _)| plan.outputs.iter().any(|output| output.name == *name)) {
        let message = format!("`{name}` of `{}`: on Flink files lie in folders that have this name", plan.sink);
        return Err(at.problem(message, "give the column another name with AS"));
    }
    let columns = plan.outputs.iter().map(declared).collect::<Vec<_>>().join(", ");
    let (table, path) = (quoted(&plan.sink), literal(url));
    let folders = FOLDERS.map(|(name, _)| quoted(name)).join(", ");
    let declared = FOLDERS.map(|(name, _)| format!("{} STRING", quoted(name))).join(", ");
    let hours = FOLDERS.map(|(_, pattern)| format!("DATE_FORMAT({TIME}, '{pattern}')")).join(", ");
    Ok(FlinkLeg {
        sink_table: format!(
            "CREATE TABLE {table} ({columns}, `$il` STRING, {declared}) PARTITIONED BY ({folders}) \
             WITH ('connector' = 'filesystem', 'path' = {path}, {FORMAT}{options})"
        ),
        insert: format!("INSERT INTO {table} {}", select(&format!("{il}, {hours}"))),
        hidden_in: None,
    })
}

fn of_topic(
    plan: &LegPlan,
    target: &KafkaTarget,
    place: FlinkPlace,
    il: &str,
    at: At,
    select: impl Fn(&str) -> String,
) -> Result<FlinkLeg, Problem> {
    let is_header = |output: &&OutputColumn| target.headers.contains(&output.name);
    let is_key = |output: &&OutputColumn| target.key.as_ref() == Some(&output.name);
    for output in plan.outputs.iter().filter(|output| is_header(output) || is_key(output)) {
        let ty = &output.expr.ty;
        let is_taken = ty.is_text() || is_key(&output) && matches!(ty, SqlType::Bytes);
        if !is_taken {
            let message = format!("`{}` of `{}` is {ty}: a key or header on Flink is text", output.name, plan.sink);
            return Err(at.problem(message, "CAST it AS STRING"));
        }
    }
    let values: Vec<&OutputColumn> =
        plan.outputs.iter().filter(|output| !is_header(output) && !is_key(output)).collect();
    let mut columns: Vec<String> = values.iter().map(|output| declared(output)).collect();
    let mut items: Vec<String> = values.iter().map(|output| quoted(&output.name)).collect();
    if let Some(key) = plan.outputs.iter().find(is_key) {
        let ty = if key.expr.ty.is_text() { "STRING" } else { "BYTES" };
        columns.push(format!("`$key` {ty} METADATA FROM 'key'"));
        items.push(quoted(&key.name));
    }
    if !target.headers.is_empty() {
        let header = |name: &String| format!("{}, CAST({} AS STRING)", literal(name), quoted(name));
        columns.push("`$headers` MAP<STRING, STRING> METADATA FROM 'headers'".to_owned());
        items.push(format!("MAP[{}]", target.headers.iter().map(header).collect::<Vec<_>>().join(", ")));
    }
    columns.push("`$il` STRING METADATA FROM 'il', `$time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'".to_owned());
    items.push(format!("`$il`, {TIME}"));
    let names = plan.outputs.iter().map(|output| quoted(&output.name)).collect::<Vec<_>>().join(", ");
    let (table, columns, items) = (quoted(&plan.sink), columns.join(", "), items.join(", "));
    Ok(FlinkLeg {
        sink_table: format!("CREATE TABLE {table} ({columns}) WITH ({})", options(plan, target, place)),
        insert: format!(
            "INSERT INTO {table} SELECT {items} FROM (\n{}\n) AS `$rows` ({names}, `$il`, {TIME})",
            select(&format!("{il}, {TIME}"))
        ),
        hidden_in: None,
    })
}

fn options(plan: &LegPlan, target: &KafkaTarget, place: FlinkPlace) -> String {
    let format = match target.format {
        KafkaFormat::Json => "json",
        KafkaFormat::Raw => "raw",
    };
    let compression = match target.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    // The topic's name has the stream's incarnation: one prefix for each INSERT of each life of a stream.
    let prefix = format!("isolane.{}.{}", place.topic, plan.sink);
    let ranges = ranges_topic(place.topic, &plan.sink);
    let mut options = vec![
        ("connector", "isolane-kafka"),
        ("brokers", &target.brokers),
        ("topic", &target.topic),
        ("ranges-topic", &ranges),
        ("transactional-id-prefix", &prefix),
        ("properties.compression.type", compression),
        ("format", format),
    ];
    if target.format == KafkaFormat::Json {
        options.push(("json.timestamp-format.standard", "ISO-8601"));
    }
    let option = |(name, value): &(&str, &str)| format!("{} = {}", literal(name), literal(value));
    options.iter().map(option).collect::<Vec<_>>().join(", ")
}

fn declared(output: &OutputColumn) -> String {
    format!("{} {}", quoted(&output.name), output.expr.ty)
}

#[cfg(test)]
mod tests {
    use super::super::super::error::SqlError;
    use super::super::{FlinkText, for_flink};
    use super::*;

    fn written(select: &str, kind: &str) -> Result<FlinkText, SqlError> {
        let sink: SinkSpec = serde_json::from_str(&format!(r#"{{"name": "clean", {kind}}}"#)).unwrap();
        let sql = format!(
            "CREATE TABLE c (id INT, name STRING, at_ TIMESTAMP(3), WATERMARK FOR at_ AS at_) WITH ('format' = 'json');\n\
             INSERT INTO clean {select} FROM c WHERE id > 3"
        );
        for_flink(&sql, &[sink], FlinkPlace { clusters: "normal=k:1", topic: "t.1", out: "file:///o", leg: None })
    }

    #[test]
    fn a_topic_has_keys_headers_and_times() {
        let kind = r#""kind": "kafka", "brokers": "b:1", "topic": "shop", "key": "name", "headers": ["h"]"#;
        let text = written("SELECT name, UPPER(name) AS h, id", kind).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            text.legs[0].sink_table,
            "CREATE TABLE `clean` (`id` INT, `$key` STRING METADATA FROM 'key', `$headers` MAP<STRING, STRING> METADATA FROM \
             'headers', `$il` STRING METADATA FROM 'il', `$time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp') WITH \
             ('connector' = 'isolane-kafka', 'brokers' = 'b:1', 'topic' = 'shop', 'ranges-topic' = \
             't.1.clean.ranges', 'transactional-id-prefix' = 'isolane.t.1.clean', 'properties.compression.type' = 'none', 'format' = 'json', \
             'json.timestamp-format.standard' = 'ISO-8601')"
        );
        assert_eq!(
            text.legs[0].insert,
            "INSERT INTO `clean` SELECT `id`, `name`, MAP['h', CAST(`h` AS STRING)], `$il`, `$time` FROM (\n\
             SELECT name, UPPER(name) AS h, id\n, `$il`, `$time` FROM c WHERE id > 3\n) AS `$rows` (`name`, `h`, `id`, \
             `$il`, `$time`)"
        );
        let error = written("SELECT id AS name, name AS h", kind).unwrap_err().to_string();
        assert!(error.contains("`name` of `clean` is INT") && error.contains("CAST it AS STRING"), "{error}");
    }

    #[test]
    fn files_lie_in_the_folder_of_their_hour() {
        let text = written("SELECT id", r#""kind": "files", "path": "/elsewhere""#).unwrap();
        let table = &text.legs[0].sink_table;
        assert!(table.contains("`$il` STRING, `dt` STRING, `hour` STRING) PARTITIONED BY (`dt`, `hour`)"), "{table}");
        assert!(table.contains("'path' = 'file:///elsewhere'"), "{table}");
        assert_eq!(
            text.legs[0].insert,
            "INSERT INTO `clean` SELECT id\n, `$il`, DATE_FORMAT(`$time`, 'yyyy-MM-dd'), DATE_FORMAT(`$time`, 'HH') FROM c WHERE id > 3"
        );
        assert!(
            text.tables[1]
                .contains("COALESCE(CAST(`at_` AS TIMESTAMP_LTZ(3)), `$event_time`, `$append_time`) AS `$time`"),
            "{}",
            text.tables[1]
        );
        assert!(!table.contains("partition-commit"), "{table}");
        let text = written("SELECT id", r#""kind": "files", "success_file": "partition_time""#).unwrap();
        let table = &text.legs[0].sink_table;
        assert!(table.contains("'sink.partition-commit.trigger' = 'partition-time'"), "{table}");
        assert_eq!(text.tables[0].matches("WATERMARK").count(), 1, "it has one of its own: {}", text.tables[0]);
        assert!(text.tables[0].contains("'scan.watermark.idle-timeout' = '1 min'"), "{}", text.tables[0]);
        assert!(!table.contains("auto-compaction"), "{table}");
        let text = written("SELECT id", r#""kind": "files", "compaction": true"#).unwrap();
        assert!(text.legs[0].sink_table.ends_with(", 'auto-compaction' = 'true')"), "{text:?}");
        assert_eq!(text.legs[0].hidden_in.as_deref(), Some("file:///o/clean"));
        let error = written("SELECT id AS dt", r#""kind": "files""#).unwrap_err().to_string();
        assert!(error.contains("`dt` of `clean`"), "{error}");
    }
}
