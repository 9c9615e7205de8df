//! The front end as a whole: golden answers made by Flink, and texts and bytes that nobody meant. Whole jobs on real data are
//! `tests/tests/whole/jobs.rs`.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use proptest::prelude::*;
use serde_json::Value;
use stream::{Header, Range, SourceId};

use super::*;

fn header() -> Header {
    let source = SourceId::derive(1, &[]);
    Header { kind: stream::Kind::Event, source, range: Range::new(0, 1), lap: 0, event_time_ms: None }
}

/// Runs the only leg of a job text over bodies.
fn run(sql: &str, bodies: &[&[u8]]) -> Output {
    let job = check(sql, &["s", "files"]).unwrap_or_else(|error| panic!("{error}\n{sql}"));
    let header = header();
    let rows: Vec<_> = bodies.iter().map(|body| InputRow { body, header: &header, append_time_ms: 7 }).collect();
    job.legs[0].run(&rows)
}

/// Golden expressions that are refused, by the function in whose name they were asked: it is not among ours.
const REFUSED_FUNCTIONS: &[&str] = &[
    "ASCII",
    "CEIL",
    "CONCAT_WS",
    "EXTRACT",
    "FLOOR",
    "FROM_UNIXTIME",
    "GREATEST",
    "HEX",
    "INITCAP",
    "INSTR",
    "INTERVAL",
    "IS JSON",
    "IS NUMBER",
    "JSON_EXISTS",
    "JSON_QUERY",
    "LEFT",
    "LOCATE",
    "LPAD",
    "MD5",
    "OVERLAY",
    "POSITION",
    "REGEXP",
    "REGEXP_REPLACE",
    "REPEAT",
    "REPLACE",
    "REVERSE",
    "RIGHT",
    "ROUND",
    "RPAD",
    "SIMILAR",
    "STR_TO_MAP",
    "TO_BASE64",
    "TO_DATE",
    "TO_TIMESTAMP",
    "UNIX_TIMESTAMP",
];

/// Golden expressions that are refused although their function is known, with the reason.
const REFUSED_EXPRESSIONS: &[(&str, &str)] = &[
    ("ABS(a)", "not among the functions"),
    ("TRY_CAST(a AS TIME)", "no type TIME"),
    ("CAST(a AS TIME)", "no type TIME"),
    ("a > 5", "of a text; Flink parses it as a number and fails on others: CAST says so"),
    ("DATE_FORMAT(a, b)", "of a text; Flink reads it by another, lenient parser: CAST to TIMESTAMP first"),
    ("DATE_FORMAT(a, 'YYYY-ww')", "weeks depend on the machine's language"),
    ("DATE_FORMAT(a, 'foo')", "Flink fails on every record that is not NULL"),
];

/// Golden cases that are answered otherwise, by function and what is in the input, with the difference's name.
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("REGEXP_EXTRACT", "(?=bar)", "regex-column"),
    ("REGEXP_EXTRACT", "(?!.*b)", "regex-column"),
    ("REGEXP_EXTRACT", r#"{"a":"x\n"}"#, "regex-end"),
    ("REGEXP_EXTRACT", r#"{"a":"x\r\n"}"#, "regex-end"),
    ("", "-0044-03-15", "json-years"),
];
/// Differences that a whole job shows (`tests/golden/jobs`).
const SHOWN_BY_JOBS: [&str; 3] = ["raw-utf8", "json-rest", "text-length"];

struct Case {
    line: Value,
    expected: Result<Option<String>, ()>,
}

/// The golden cases, those of one expression together.
fn golden() -> BTreeMap<(String, String), Vec<Case>> {
    let mut groups: BTreeMap<_, Vec<Case>> = BTreeMap::new();
    for line in include_str!("../../tests/golden/functions.ndjson").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let expected = match line["error"].as_str() {
            Some(_) => Err(()),
            None => Ok(line["out"].as_str().map(str::to_owned)),
        };
        let key = (line["expr"].as_str().unwrap().to_owned(), line["types"].to_string());
        groups.entry(key).or_default().push(Case { line, expected });
    }
    groups
}

fn golden_sql(expr: &str, types: &Value) -> String {
    let columns = types.as_object().unwrap().iter();
    let columns: Vec<_> = columns.map(|(name, ty)| format!("{name} {}", ty.as_str().unwrap())).collect();
    let columns = columns.join(", ");
    format!(
        "CREATE TABLE t ({columns}) WITH ('format'='json'); INSERT INTO s SELECT {expr} AS r, CAST({expr} AS STRING) AS s FROM t"
    )
}

#[test]
fn golden_answers_are_flinks() {
    let (mut answered, mut wrong, mut refusals) = (0, Vec::new(), BTreeSet::new());
    let mut shown = BTreeSet::from(SHOWN_BY_JOBS);
    for ((expr, _), cases) in golden() {
        let line = &cases[0].line;
        let sql = golden_sql(&expr, &line["types"]);
        let function = line["fn"].as_str().unwrap();
        let by_function = REFUSED_FUNCTIONS.iter().find(|name| **name == function);
        let by_expression = REFUSED_EXPRESSIONS.iter().map(|(refused, _)| refused).find(|refused| **refused == expr);
        let job = match (check(&sql, &["s"]), by_expression.or(by_function)) {
            (Err(_), Some(refusal)) => {
                refusals.insert(*refusal);
                continue;
            }
            (Ok(job), _) => job,
            (Err(error), None) => {
                wrong.push(format!("{expr}: {error}"));
                continue;
            }
        };
        let ty = job.legs[0].outputs[0].expr.ty.to_string();
        let expected_type = line["type"].as_str().unwrap().trim_end_matches(" NOT NULL");
        if ty != expected_type {
            wrong.push(format!("{expr}: type {ty}, in Flink {expected_type}"));
        }
        let bodies: Vec<String> = cases.iter().map(|case| case.line["in"].to_string()).collect();
        let bodies: Vec<&[u8]> = bodies.iter().map(String::as_bytes).collect();
        let output = run(&sql, &bodies);
        let texts = output.batch.column(1).as_string::<i32>();
        let text = |at: usize| (!texts.is_null(at)).then(|| texts.value(at).to_owned());
        for (row, case) in cases.iter().enumerate() {
            let input = case.line["in"].to_string();
            let got = output.origin.iter().position(|origin| *origin as usize == row).map(text).ok_or(());
            let known = DIFFERENT.iter().find(|(name, part, _)| function.starts_with(name) && input.contains(part));
            answered += 1;
            if got == case.expected {
                continue;
            }
            if let Some((.., name)) = known {
                let warned = differences(&sql, &["s"]).unwrap();
                assert!(warned.iter().any(|differs| differs.difference.name == *name), "{expr}: no warning of {name}");
                shown.insert(name);
            } else {
                wrong
                    .push(format!("{expr} of {input}: {got:?}, in Flink {:?}: {:?}", case.expected, output.fates[row]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {answered} differ:\n{}", wrong.len(), wrong.join("\n"));
    let stated = REFUSED_FUNCTIONS.iter().chain(REFUSED_EXPRESSIONS.iter().map(|(refused, _)| refused));
    let stale: Vec<_> = stated.filter(|refused| !refusals.contains(*refused)).collect();
    assert!(stale.is_empty(), "refused no more: {stale:?}");
    assert!(answered > 1_500, "only {answered} cases were answered");
    assert_eq!(
        shown,
        DIFFERENCES.iter().map(|difference| difference.name).collect(),
        "differences that Flink has shown"
    );
}

#[test]
fn what_flink_refuses_is_refused() {
    for line in include_str!("../../tests/golden/rejected.ndjson").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let expr = line["expr"].as_str().unwrap();
        assert!(check(&golden_sql(expr, &line["types"]), &["s"]).is_err(), "{expr} was taken");
    }
}

#[test]
fn the_access_log_recipe_sets_the_broken_line_apart() {
    let sql = include_str!("../../tests/golden/jobs/access-log.sql");
    let good = br#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 304 - "-" "agent x""#;
    let broken = &good[..good.len() - 1];
    let output = run(sql, &[good, broken]);
    assert_eq!(output.fates[0], RowFate::Delivered, "{:?}", output.fates);
    assert!(matches!(&output.fates[1], RowFate::Failed(cause) if cause.contains("no INT")), "{:?}", output.fates[1]);
    assert_eq!(output.batch.column_by_name("agent").unwrap().as_string::<i32>().value(0), "agent x");
    assert_eq!(output.event_times_ms, [1_431_857_103_000]);
    assert!(output.batch.column_by_name("bytes").unwrap().is_null(0), "'-' stands for no bytes");
}

#[test]
fn the_nginx_recipe_reads_nested_rows() {
    let sql = include_str!("../../tests/golden/jobs/nginx-status.sql");
    let body = br#"{"timestamp":1446249499322,"connections":{"accepted":8,"active":2},"nginx_version":"1.9.4"}"#;
    let output = run(sql, &[body, b"{"]);
    assert_eq!(output.origin, [0]);
    assert_eq!(output.event_times_ms, [1_446_249_499_322]);
}

#[test]
fn each_row_has_a_fate_of_its_own() {
    let sql = "CREATE TABLE t (a STRING, n AS CAST(a AS INT), il STRING METADATA VIRTUAL, append_time TIMESTAMP_LTZ(3) METADATA)
        WITH ('format' = 'json');
        INSERT INTO s SELECT n * 2 AS twice, il, append_time FROM t WHERE a <> 'skip';";
    let bodies: [&[u8]; 6] =
        [br#"{"a":"1"}"#, br#"{"a":"x"}"#, br#"{"a":"skip"}"#, b"no json", br#"{"a":null}"#, br#"{"a":"4"}"#];
    let output = run(sql, &bodies);
    assert_eq!(output.origin, [0, 5]);
    assert_eq!(output.fates[0], RowFate::Delivered);
    assert_eq!(output.fates[1], RowFate::Failed("CAST: 'x' is no INT".to_owned()));
    assert_eq!([&output.fates[2], &output.fates[4]], [&RowFate::Filtered, &RowFate::Filtered]);
    assert!(matches!(&output.fates[3], RowFate::Failed(cause) if cause.starts_with("json: ")));
    assert_eq!(output.batch.column(1).as_string::<i32>().value(0), header().to_string());
    assert_eq!(output.event_times_ms, [7, 7], "no watermark, no event time: the append time");
}

#[test]
fn a_text_for_flink_that_asks_for_fates_delivers_the_same_rows() {
    let sql = "CREATE TABLE t (a INT, fate STRING METADATA VIRTUAL, cause STRING METADATA VIRTUAL,
          kind STRING METADATA VIRTUAL, `start` BIGINT METADATA VIRTUAL, `end` BIGINT METADATA VIRTUAL, lap INT METADATA VIRTUAL)
        WITH ('connector' = 'isolane', 'format' = 'json');
        INSERT INTO s SELECT a, cause, kind, `end` - `start` AS length, lap FROM t WHERE fate IS NULL;";
    let output = run(sql, &[br#"{"a":1}"#, b"no json"]);
    assert_eq!(output.origin, [0]);
    assert!(output.batch.column(1).is_null(0));
    assert_eq!(output.batch.column(2).as_string::<i32>().value(0), "e");
    assert_eq!(output.batch.column(3).as_primitive::<Int64Type>().value(0), header().range.len() as i64);
}

#[test]
fn rows_pass_through_and_sinks_cast() {
    let sql = "CREATE TEMPORARY TABLE t (r ROW<a INT, b ROW<c STRING>>, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
        WITH ('connector' = 'isolane', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601');
        CREATE TABLE s (r ROW<a INT, b ROW<c STRING>>, c VARCHAR(3), a BIGINT NOT NULL) WITH ('connector' = 'filesystem');
        EXECUTE STATEMENT SET BEGIN
          INSERT INTO s SELECT r, x.r.b.c, t.r.a FROM t AS x WHERE r.a > 0;
        END;"
        .replace("t.r.a", "r.a");
    let job = check(&sql, &["s"]).unwrap();
    assert_eq!(job.warnings.len(), 2, "{:?}", job.warnings);
    assert_eq!(job.source.watermark.as_ref().unwrap().delay_ms, 5_000);
    let bodies: [&[u8]; 3] = [
        br#"{"r":{"a":1,"b":{"c":"long"}},"ts":"1970-01-01T00:00:01"}"#,
        br#"{"r":{"a":2,"b":null}}"#,
        br#"{"r":null}"#,
    ];
    let output = run(&sql, &bodies);
    assert_eq!(output.origin, [0, 1]);
    assert_eq!(output.event_times_ms, [1_000, 7]);
    let row = output.batch.column(0).as_struct();
    assert!(row.column(1).is_null(1) && row.column(1).is_valid(0), "a ROW that is null stays null");
    assert_eq!(output.batch.column(1).as_string::<i32>().value(0), "long", "lengths are not enforced");
    let required = sql.replace("WHERE r.a > 0", "");
    assert!(matches!(&run(&required, &bodies).fates[2], RowFate::Failed(cause) if cause.contains("NOT NULL")));
}

#[test]
fn problems_say_where_and_what_to_do() {
    let table = "CREATE TABLE t (a STRING, b INT) WITH ('format' = 'json');\n";
    let cases = [
        ("INSERT INTO s SELECT A FROM t;", "line 2, column 22: there is no column `A`; did you mean `a`"),
        ("INSERT INTO s SELECT a FROM t GROUP BY a;", "line 2, column 31: GROUP BY needs state"),
        ("INSERT INTO s SELECT a FROM t, u;", "line 2, column 30: a second table in FROM is a join"),
        ("INSERT INTO s SELECT a FROM t JOIN u ON a = b;", "line 2, column 31: a join"),
        ("INSERT INTO x SELECT a FROM t;", "line 2, column 13: the stream has no sink `x`"),
        ("INSERT INTO s SELECT COUNT(*) FROM t;", "line 2, column 28"),
        ("INSERT INTO s SELECT SOUNDEX(a) FROM t;", "function SOUNDEX is not supported; these are"),
        ("INSERT INTO s SELECT a, a FROM t;", "a second column `a`"),
        ("INSERT INTO s SELECT a = b FROM t;", "mixes STRING and INT"),
        ("INSERT INTO s SELECT value FROM t;", "value is a reserved word; write it in backticks: `value`"),
        ("INSERT INTO s SELECT \"a\" FROM t;", "write `a`"),
        ("INSERT INTO s SELECT REGEXP_EXTRACT(a, '(?=x)') FROM t;", "look-around is not supported"),
        ("INSERT INTO s SELECT NULL FROM t;", "a NULL without a type"),
        ("INSERT INTO s SELECT a FROM u;", "there is no table `u`"),
        ("DROP TABLE t;", "found DROP where a statement is expected"),
        ("", "there is no INSERT"),
    ];
    for (sql, expected) in cases {
        let error = check(&format!("{table}{sql}"), &["s"]).unwrap_err().to_string();
        assert!(error.contains(expected), "{sql}\n  says {error}\n  not {expected}");
    }
    let qualified =
        "CREATE TABLE t (a STRING, n AS CAST(t.a AS INT)) WITH ('format' = 'json'); INSERT INTO s SELECT n FROM t";
    assert!(check(qualified, &["s"]).unwrap_err().to_string().contains("no column `t.a`"), "Flink refuses it too");
    let two = check(&format!("{table}INSERT INTO s SELECT x FROM t; INSERT INTO s2 SELECT y FROM t;"), &["s", "s2"]);
    assert_eq!(two.unwrap_err().problems.len(), 2, "problems are collected");
}

#[test]
fn large_texts_stay_within_their_limits() {
    let table = "CREATE TABLE t (a STRING) WITH ('format' = 'raw'); INSERT INTO s SELECT ";
    assert!(check(&" ".repeat(70_000), &["s"]).unwrap_err().to_string().contains("bytes"));
    let nested = (0..40).fold("TRUE".to_owned(), |inner, _| format!("({inner} BETWEEN TRUE AND TRUE)"));
    assert!(check(&format!("{table}{nested} FROM t"), &["s"]).is_err(), "copies of copies");
    let long = vec!["a"; 5_000].join(" || ");
    let output = run(&format!("{table}{long} AS long FROM t"), &[&[b'x'; 300], b"y"]);
    assert!(matches!(&output.fates[0], RowFate::Failed(cause) if cause.contains("more than")), "{:?}", output.fates[0]);
    assert_eq!(output.fates[1], RowFate::Delivered);
}

/// Texts that are nearly SQL.
fn nearly_sql() -> impl Strategy<Value = String> {
    let words = [
        "CREATE TABLE t (",
        "a STRING",
        "b ROW<c INT>",
        ",",
        ")",
        "WITH (",
        "'format'='json'",
        "INSERT INTO s SELECT",
        "a",
        "b.c",
        "FROM t",
        "WHERE",
        "=",
        "+",
        "-",
        "||",
        "AND",
        "OR",
        "NOT",
        "(",
        "1",
        "1.5e3",
        "'x'",
        "NULL",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "CAST(",
        "AS",
        "INT",
        "DECIMAL(38,38)",
        "JSON_VALUE(a,'$.a'",
        "RETURNING",
        "ON ERROR",
        "DEFAULT",
        "REGEXP_EXTRACT(a,'(.)'",
        "BETWEEN",
        "IN",
        "LIKE",
        "IS",
        "DISTINCT FROM",
        "COALESCE(",
        "SUBSTRING(",
        "TRIM(BOTH",
        "WATERMARK FOR",
        "INTERVAL '1' SECOND",
        "METADATA",
        ";",
        "--",
        "/*",
        "`",
        "é",
        "*",
        "99999999999999",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = check(&text, &["s"]);
    }

    #[test]
    fn nothing_that_is_nearly_sql_panics(text in nearly_sql(), body in "\\PC{0,20}") {
        let _ = check(&text, &["s"]);
        let whole = format!("CREATE TABLE t (a STRING) WITH ('format' = 'raw'); INSERT INTO s SELECT {text} FROM t");
        if let Ok(job) = check(&whole, &["s"]) {
            let header = header();
            job.legs[0].run(&[InputRow { body: body.as_bytes(), header: &header, append_time_ms: 0 }]);
        }
    }

    #[test]
    fn each_record_has_one_fate_whatever_its_bytes(bodies in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..20), 0..20,
    )) {
        let sql = "CREATE TABLE t (a STRING) WITH ('format' = 'raw');
            INSERT INTO s SELECT TRY_CAST(a AS DECIMAL(9,3)) AS d, CAST(a AS STRING) AS t FROM t WHERE CHAR_LENGTH(a) > 3";
        let output = run(sql, &bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let delivered = output.fates.iter().filter(|fate| **fate == RowFate::Delivered).count();
        prop_assert_eq!(output.fates.len(), bodies.len());
        prop_assert_eq!(output.origin.len(), delivered);
        prop_assert_eq!(output.batch.num_rows(), delivered);
        prop_assert_eq!(output.event_times_ms.len(), delivered);
        prop_assert!(output.origin.iter().all(|row| output.fates[*row as usize] == RowFate::Delivered));
    }
}
