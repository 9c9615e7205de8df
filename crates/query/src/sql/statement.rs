//! Statements: from the job text to its tables and INSERTs. A statement that is none is reported and skipped, so that
//! the problems of the others are found too.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::ddl;
use super::error::Problem;
use super::parse;
use super::syntax::{Insert, Item, Table};

/// What a job text consists of.
#[derive(Debug, Default)]
pub struct Script {
    /// Its CREATE TABLEs.
    pub tables: Vec<Table>,
    /// Its INSERTs.
    pub inserts: Vec<Insert>,
    /// What is no statement, in order.
    pub problems: Vec<Problem>,
}

/// Parses a whole job text. Problems of single statements are in the script.
///
/// # Errors
/// The text is too long or cannot be split into tokens.
pub fn script(sql: &str) -> Result<Script, Problem> {
    let mut cursor = Cursor::new(sql)?;
    let mut script = Script::default();
    let mut in_set = false;
    while *cursor.peek() != Token::EOF {
        if cursor.take_token(&Token::SemiColon) {
            continue;
        }
        let done = match () {
            () if !in_set && take_set_begin(&mut cursor) => {
                in_set = true;
                continue;
            }
            () if in_set && cursor.take_word("END") => {
                in_set = false;
                end(&mut cursor)
            }
            () => statement(&mut cursor, &mut script),
        };
        if let Err(problem) = done {
            script.problems.push(problem);
            cursor.skip_statement();
        }
    }
    if in_set {
        script.problems.push(cursor.unexpected("END; of the statement set"));
    }
    Ok(script)
}

/// `EXECUTE STATEMENT SET BEGIN`, and the older `BEGIN STATEMENT SET;`.
fn take_set_begin(cursor: &mut Cursor) -> bool {
    cursor.take_words(&["EXECUTE", "STATEMENT", "SET", "BEGIN"]) || cursor.take_words(&["BEGIN", "STATEMENT", "SET"])
}

fn statement(cursor: &mut Cursor, script: &mut Script) -> Result<(), Problem> {
    if cursor.take_words(&["CREATE", "TEMPORARY", "TABLE"]) || cursor.take_words(&["CREATE", "TABLE"]) {
        let table = ddl::table(cursor)?;
        end(cursor)?;
        script.tables.push(table);
        return Ok(());
    }
    if cursor.take_words(&["INSERT", "INTO"]) {
        let insert = insert(cursor)?;
        end(cursor)?;
        script.inserts.push(insert);
        return Ok(());
    }
    let advice = "a job text consists of CREATE TABLE and INSERT INTO ... SELECT";
    let mut problem = cursor.unexpected("a statement");
    problem.advice = advice.to_owned();
    Err(problem)
}

/// The end of a statement. Only the last one of a text may lack its `;`.
fn end(cursor: &mut Cursor) -> Result<(), Problem> {
    match cursor.peek() {
        Token::SemiColon => {
            cursor.take();
            Ok(())
        }
        Token::EOF => Ok(()),
        _ => Err(refused_clause(cursor).unwrap_or_else(|| cursor.unexpected("';'"))),
    }
}

/// Why a clause that Flink knows is refused here.
fn refused_clause(cursor: &Cursor) -> Option<Problem> {
    let reasons = [
        ("GROUP", "GROUP BY needs state over records"),
        ("HAVING", "HAVING needs state over records"),
        ("WINDOW", "windows need state over records"),
        ("ORDER", "ORDER BY needs an end of the stream"),
        ("LIMIT", "LIMIT needs an end of the stream"),
        ("FETCH", "FETCH needs an end of the stream"),
        ("UNION", "UNION needs a second table"),
        ("INTERSECT", "INTERSECT needs a second table"),
        ("EXCEPT", "EXCEPT needs a second table"),
        ("JOIN", "a join needs a second table"),
        ("INNER", "a join needs a second table"),
        ("LEFT", "a join needs a second table"),
        ("RIGHT", "a join needs a second table"),
        ("FULL", "a join needs a second table"),
        ("CROSS", "a join needs a second table"),
    ];
    let comma = (*cursor.peek() == Token::Comma).then_some("a second table in FROM is a join");
    let reason = reasons.iter().find(|(word, _)| cursor.is_word(word)).map(|(_, reason)| *reason).or(comma)?;
    let message = format!("{reason}: a job converts record by record");
    Some(cursor.at().problem(message, "deliver the records and aggregate them where they are read"))
}

fn insert(cursor: &mut Cursor) -> Result<Insert, Problem> {
    let at = cursor.at();
    let sink = cursor.name()?;
    if *cursor.peek() == Token::LParen {
        let advice = "select all columns of the sink, CAST(NULL AS type) for those without a value";
        return Err(cursor.at().problem("a column list is not supported", advice));
    }
    let select_at = cursor.at();
    cursor.expect_word("SELECT")?;
    if cursor.is_word("DISTINCT") {
        return Err(cursor.at().problem(
            "DISTINCT needs state over records",
            "doubles are removed already: each record is delivered once",
        ));
    }
    let mut items = vec![item(cursor)?];
    while cursor.take_token(&Token::Comma) {
        items.push(item(cursor)?);
        if items.len() > ddl::COLUMNS_MAX {
            return Err(cursor.at().problem(format!("more than {} columns", ddl::COLUMNS_MAX), "select fewer"));
        }
    }
    let from_at = cursor.at();
    cursor.expect_word("FROM")?;
    let source_at = cursor.at();
    if *cursor.peek() == Token::LParen {
        return Err(source_at.problem("subqueries are not supported", "use computed columns of the source"));
    }
    let source = cursor.name()?;
    let named = cursor.take_word("AS");
    let next_is_name = matches!(cursor.peek(), Token::Word(_)) && !cursor.is_word("WHERE");
    let alias = match refused_clause(cursor) {
        Some(problem) => return Err(problem),
        None if named || next_is_name => cursor.name()?,
        None => source.clone(),
    };
    let condition = if cursor.take_word("WHERE") { Some(parse::expression(cursor)?) } else { None };
    let end_at = cursor.at();
    Ok(Insert { at, sink, select_at, items, from_at, end_at, source_at, source, alias, condition })
}

fn item(cursor: &mut Cursor) -> Result<Item, Problem> {
    let at = cursor.at();
    if cursor.take_token(&Token::Mul) {
        return Ok(Item::All(at));
    }
    let expression = parse::expression(cursor)?;
    let named = cursor.take_word("AS");
    let next_is_name = matches!(cursor.peek(), Token::Word(_)) && !cursor.is_word("FROM");
    let name = if named || next_is_name { Some(cursor.name()?) } else { None };
    Ok(Item::One(expression, name))
}
