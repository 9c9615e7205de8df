//! Types and CREATE TABLE, with what Flink adds to SQL there: METADATA, computed columns, WATERMARK, ROW types and WITH.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::error::Problem;
use super::parse;
use super::syntax::{Column, ColumnKind, Table, Watermark};
use super::types::{DECIMAL_DIGITS_MAX, FRACTION_DIGITS_MAX, LENGTH_MAX, STRING, SqlType};

/// Most columns of a table, fields of ROWs included.
pub const COLUMNS_MAX: usize = 1_000;
/// Longest CHAR: its values are filled up to that length.
const CHAR_LENGTH_MAX: u32 = 65_535;
/// Most levels of ROW types in one another.
const ROW_DEPTH_MAX: usize = 16;

/// Parses a CREATE TABLE whose two words have been taken.
///
/// # Errors
/// The first thing in it that cannot be.
pub fn table(cursor: &mut Cursor) -> Result<Table, Problem> {
    cursor.take_words(&["IF", "NOT", "EXISTS"]);
    let at = cursor.at();
    let name = cursor.name()?;
    cursor.expect_token(&Token::LParen)?;
    let (body_from, body_to) = (cursor.at(), cursor.at());
    let (columns, given, ignored) = (Vec::new(), Vec::new(), Vec::new());
    let mut table = Table { at, name, columns, body_from, body_to, watermark: None, options: given, ignored };
    loop {
        element(cursor, &mut table)?;
        if !cursor.take_token(&Token::Comma) {
            break;
        }
    }
    table.body_to = cursor.at();
    cursor.expect_token(&Token::RParen)?;
    comment(cursor)?;
    if cursor.take_words(&["PARTITIONED", "BY"]) {
        names(cursor)?;
        table.ignored.push("PARTITIONED BY");
    }
    if cursor.take_word("WITH") {
        options(cursor, &mut table)?;
    }
    Ok(table)
}

/// A column, a watermark or a constraint.
fn element(cursor: &mut Cursor, table: &mut Table) -> Result<(), Problem> {
    let at = cursor.at();
    if cursor.are_words(&["WATERMARK", "FOR"]) {
        let watermark = watermark(cursor)?;
        let second = table.watermark.replace(watermark).is_some();
        return if second { Err(at.problem("a table has one watermark", "remove this one")) } else { Ok(()) };
    }
    if cursor.take_words(&["PRIMARY", "KEY"]) {
        names(cursor)?;
        cursor.expect_word("NOT")?;
        cursor.expect_word("ENFORCED")?;
        table.ignored.push("PRIMARY KEY");
        return Ok(());
    }
    let column = column(cursor)?;
    if table.columns.iter().any(|other| other.name == column.name) {
        return Err(at.problem(format!("a second column `{}`", column.name), "rename one of them"));
    }
    table.columns.push(column);
    if table.columns.len() > COLUMNS_MAX {
        return Err(at.problem(format!("more than {COLUMNS_MAX} columns"), "leave out those that nothing selects"));
    }
    Ok(())
}

fn column(cursor: &mut Cursor) -> Result<Column, Problem> {
    let at = cursor.at();
    let name = cursor.name()?;
    if cursor.take_word("AS") {
        let kind = ColumnKind::Computed(parse::expression(cursor)?);
        comment(cursor)?;
        return Ok(Column { at, name, kind });
    }
    let ty = sql_type(cursor)?;
    let required = required(cursor);
    let kind = if cursor.take_word("METADATA") {
        let key = if cursor.take_word("FROM") { cursor.text()? } else { name.clone() };
        cursor.take_word("VIRTUAL");
        ColumnKind::Metadata { ty, key }
    } else {
        ColumnKind::Physical { ty, required }
    };
    comment(cursor)?;
    Ok(Column { at, name, kind })
}

fn comment(cursor: &mut Cursor) -> Result<(), Problem> {
    if cursor.take_word("COMMENT") { cursor.text().map(drop) } else { Ok(()) }
}

/// Takes NULL or NOT NULL; whether it was the latter.
fn required(cursor: &mut Cursor) -> bool {
    cursor.take_words(&["NOT", "NULL"]) || {
        cursor.take_word("NULL");
        false
    }
}

fn names(cursor: &mut Cursor) -> Result<(), Problem> {
    cursor.expect_token(&Token::LParen)?;
    cursor.name()?;
    while cursor.take_token(&Token::Comma) {
        cursor.name()?;
    }
    cursor.expect_token(&Token::RParen)
}

/// `WATERMARK FOR ts AS ts [- INTERVAL 'n' unit]`
fn watermark(cursor: &mut Cursor) -> Result<Watermark, Problem> {
    let at = cursor.at();
    cursor.take_words(&["WATERMARK", "FOR"]);
    let column = cursor.name()?;
    cursor.expect_word("AS")?;
    let expression_at = cursor.at();
    if cursor.name()? != column {
        let advice = format!("write WATERMARK FOR {column} AS {column} - INTERVAL '5' SECOND");
        return Err(expression_at.problem("a watermark is its column, less an interval", advice));
    }
    if !cursor.take_token(&Token::Minus) {
        return Ok(Watermark { at, column, delay_ms: 0 });
    }
    cursor.expect_word("INTERVAL")?;
    let amount_at = cursor.at();
    let amount = cursor.text()?;
    let units = [("SECOND", 1_000.0), ("MINUTE", 60_000.0), ("HOUR", 3_600_000.0), ("DAY", 86_400_000.0)];
    let Some(unit_ms) = units.into_iter().find_map(|(word, ms)| cursor.take_word(word).then_some(ms)) else {
        return Err(cursor.unexpected("SECOND, MINUTE, HOUR or DAY"));
    };
    let plain = !amount.is_empty() && amount.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match amount.parse::<f64>() {
        Ok(amount) if plain && amount < 1e6 => Ok(Watermark { at, column, delay_ms: (amount * unit_ms) as i64 }),
        _ => Err(amount_at.problem(format!("'{amount}' is no interval"), "write a number, for example '5'")),
    }
}

fn options(cursor: &mut Cursor, table: &mut Table) -> Result<(), Problem> {
    cursor.expect_token(&Token::LParen)?;
    loop {
        let at = cursor.at();
        let key = cursor.text()?;
        cursor.expect_token(&Token::Eq)?;
        let value = cursor.text()?;
        if table.options.iter().any(|(_, other, _)| *other == key) {
            return Err(at.problem(format!("option '{key}' is given twice"), "remove one of them"));
        }
        table.options.push((at, key, value));
        if !cursor.take_token(&Token::Comma) {
            return cursor.expect_token(&Token::RParen);
        }
    }
}

/// Parses a type.
///
/// # Errors
/// No type, or one that the embedded engine does not know.
pub fn sql_type(cursor: &mut Cursor) -> Result<SqlType, Problem> {
    nested_type(cursor, 0)
}

fn nested_type(cursor: &mut Cursor, depth: usize) -> Result<SqlType, Problem> {
    let at = cursor.at();
    let word = match cursor.peek() {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        _ => return Err(cursor.unexpected("a type")),
    };
    cursor.take();
    Ok(match word.as_str() {
        "STRING" => STRING,
        "VARCHAR" => SqlType::Varchar(length(cursor, LENGTH_MAX)?),
        "CHAR" => SqlType::Char(length(cursor, CHAR_LENGTH_MAX)?),
        "BOOLEAN" => SqlType::Boolean,
        "TINYINT" => SqlType::TinyInt,
        "SMALLINT" => SqlType::SmallInt,
        "INT" | "INTEGER" => SqlType::Int,
        "BIGINT" => SqlType::BigInt,
        "FLOAT" => SqlType::Float,
        "DOUBLE" => {
            cursor.take_word("PRECISION");
            SqlType::Double
        }
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(cursor)?,
        "DATE" => SqlType::Date,
        "TIMESTAMP_LTZ" => SqlType::TimestampLtz(fraction_digits(cursor)?),
        "TIMESTAMP" => timestamp(cursor)?,
        "BYTES" => SqlType::Bytes,
        "ROW" if depth < ROW_DEPTH_MAX => row(cursor, depth)?,
        "ROW" => return Err(at.problem(format!("more than {ROW_DEPTH_MAX} levels of ROW"), "use JSON_VALUE")),
        "ARRAY" | "MAP" | "MULTISET" => {
            let advice = "declare it STRING: it then holds the JSON text, and JSON_VALUE reads from it";
            return Err(at.problem(format!("type {word} is not supported"), advice));
        }
        _ => {
            let message = format!("type {word} is not supported");
            return Err(at.problem(message, "declare it STRING and convert it in the SELECT"));
        }
    })
}

/// `(n)`, or 1 if absent.
fn length(cursor: &mut Cursor, max: u32) -> Result<u32, Problem> {
    if !cursor.take_token(&Token::LParen) {
        return Ok(1);
    }
    let length = cursor.number(1, max)?;
    cursor.expect_token(&Token::RParen)?;
    Ok(length)
}

/// `[(precision [, scale])]`
fn decimal(cursor: &mut Cursor) -> Result<SqlType, Problem> {
    if !cursor.take_token(&Token::LParen) {
        return Ok(SqlType::Decimal(10, 0));
    }
    let precision = cursor.number(1, DECIMAL_DIGITS_MAX.into())?;
    let scale = if cursor.take_token(&Token::Comma) { cursor.number(0, precision)? } else { 0 };
    cursor.expect_token(&Token::RParen)?;
    Ok(SqlType::Decimal(precision as u8, scale as u8))
}

/// `[(digits)] [WITHOUT TIME ZONE | WITH LOCAL TIME ZONE]`
fn timestamp(cursor: &mut Cursor) -> Result<SqlType, Problem> {
    let digits = fraction_digits(cursor)?;
    if cursor.take_words(&["WITH", "LOCAL", "TIME", "ZONE"]) {
        return Ok(SqlType::TimestampLtz(digits));
    }
    cursor.take_words(&["WITHOUT", "TIME", "ZONE"]);
    Ok(SqlType::Timestamp(digits))
}

fn fraction_digits(cursor: &mut Cursor) -> Result<u8, Problem> {
    if !cursor.take_token(&Token::LParen) {
        return Ok(FRACTION_DIGITS_MAX);
    }
    let at = cursor.at();
    let digits = cursor.number(0, 9)? as u8;
    if digits > FRACTION_DIGITS_MAX {
        let message = format!("timestamps have at most {FRACTION_DIGITS_MAX} fraction digits here");
        return Err(at.problem(message, "declare 6, or a STRING"));
    }
    cursor.expect_token(&Token::RParen)?;
    Ok(digits)
}

/// `<name type, ...>` or `(name type, ...)`
fn row(cursor: &mut Cursor, depth: usize) -> Result<SqlType, Problem> {
    let close = match cursor.take() {
        Token::Lt => Token::Gt,
        Token::LParen => Token::RParen,
        _ => return Err(cursor.unexpected("'<' behind ROW")),
    };
    let mut fields: Vec<(String, SqlType)> = Vec::new();
    loop {
        let at = cursor.at();
        let name = cursor.name()?;
        if fields.iter().any(|(other, _)| *other == name) {
            return Err(at.problem(format!("a second field `{name}`"), "rename one of them"));
        }
        let ty = nested_type(cursor, depth + 1)?;
        if required(cursor) {
            return Err(at.problem("a field of a ROW may always be missing", "remove NOT NULL"));
        }
        comment(cursor)?;
        fields.push((name, ty));
        if fields.len() > COLUMNS_MAX {
            return Err(at.problem(format!("more than {COLUMNS_MAX} fields"), "leave out those that nothing selects"));
        }
        if !cursor.take_token(&Token::Comma) {
            cursor.expect_token(&close)?;
            return Ok(SqlType::Row(fields));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(sql: &str) -> Result<String, Problem> {
        sql_type(&mut Cursor::new(sql)?).map(|ty| ty.to_string())
    }

    #[test]
    fn types_are_written_as_in_flink() {
        let cases = [
            ("varchar(2147483647)", "STRING"),
            ("DECIMAL(10,2)", "DECIMAL(10, 2)"),
            ("timestamp", "TIMESTAMP(6)"),
            ("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)"),
            ("ROW<a INT, `b c` ROW<d STRING>>", "ROW<`a` INT, `b c` ROW<`d` STRING>>"),
        ];
        for (sql, expected) in cases {
            assert_eq!(ty(sql).unwrap(), expected);
        }
        for refused in ["DECIMAL(39)", "DECIMAL(3,4)", "TIMESTAMP(9)", "ARRAY<INT>", "ROW<a INT, a INT>", "ROW<>", ""] {
            assert!(ty(refused).is_err(), "{refused}");
        }
        assert!(ty(&format!("{}INT{}", "ROW<a ".repeat(40), ">".repeat(40))).is_err(), "deep ROW");
    }
}
