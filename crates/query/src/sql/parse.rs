//! Expressions: from tokens to a tree, with the precedence of Flink's parser. The tree's depth is bounded here, so that
//! everything that walks it later may recurse.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::ddl;
use super::error::{At, Problem};
use super::syntax::{Calculation, Comparison, Is, Node, Otherwise, Syntax};
use super::types::{self, SqlType};

/// Most levels of one expression; chains of AND, OR and `||` are one level.
pub const DEPTH_MAX: usize = 64;

/// Binding powers, weakest first.
const OR: u8 = 22;
const AND: u8 = 24;
const NOT: u8 = 26;
const IS: u8 = 28;
const COMPARE: u8 = 30;
const RANGE: u8 = 32;
const SUM: u8 = 40;
const PRODUCT: u8 = 60;
const SIGN: u8 = 80;

/// Parses one expression.
///
/// # Errors
/// The first thing in it that is no expression of Flink SQL, or not one that is supported here.
pub fn expression(cursor: &mut Cursor) -> Result<Node, Problem> {
    Parser { cursor, depth: 0 }.expression(0)
}

struct Parser<'a> {
    cursor: &'a mut Cursor,
    depth: usize,
}

impl Parser<'_> {
    fn expression(&mut self, power: u8) -> Result<Node, Problem> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep(self.cursor.at()));
        }
        let mut left = self.prefix()?;
        while let Some((operator, negated)) = self.operator(power) {
            left = self.infix(left, operator, negated)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// The operator that follows and binds stronger than `power`, and whether NOT stands before it.
    fn operator(&self, power: u8) -> Option<(u8, bool)> {
        let negated = self.cursor.is_word("NOT");
        let operator = match self.cursor.peek_at(usize::from(negated)) {
            Token::Word(word) if word.quote_style.is_none() => match word.value.to_ascii_uppercase().as_str() {
                "BETWEEN" | "IN" | "LIKE" => RANGE,
                "OR" if !negated => OR,
                "AND" if !negated => AND,
                "IS" if !negated => IS,
                _ => return None,
            },
            _ if negated => return None,
            Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => COMPARE,
            Token::Plus | Token::Minus => SUM,
            Token::Mul | Token::Div | Token::Mod | Token::StringConcat => PRODUCT,
            _ => return None,
        };
        (operator > power).then_some((operator, negated))
    }

    fn infix(&mut self, left: Node, power: u8, negated: bool) -> Result<Node, Problem> {
        let at = self.cursor.at();
        self.cursor.take_word("NOT");
        let token = self.cursor.take();
        let calculation = |token: &Token| match token {
            Token::Plus => Some(Calculation::Add),
            Token::Minus => Some(Calculation::Subtract),
            Token::Mul => Some(Calculation::Multiply),
            Token::Div => Some(Calculation::Divide),
            Token::Mod => Some(Calculation::Remainder),
            _ => None,
        };
        let comparison = |token: &Token| match token {
            Token::Eq => Some(Comparison::Equal),
            Token::Neq => Some(Comparison::Unequal),
            Token::Lt => Some(Comparison::Less),
            Token::LtEq => Some(Comparison::LessOrEqual),
            Token::Gt => Some(Comparison::Greater),
            Token::GtEq => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        let syntax = match power {
            OR => Syntax::Or(self.chain(left, OR, |cursor| cursor.take_word("OR"))?),
            AND => Syntax::And(self.chain(left, AND, |cursor| cursor.take_word("AND"))?),
            IS => self.is(left)?,
            RANGE => self.range(left, &token, negated)?,
            _ => match (calculation(&token), comparison(&token)) {
                (Some(operator), _) => Syntax::Calculate(operator, left, self.expression(power)?),
                (_, Some(operator)) => Syntax::Compare(operator, left, self.expression(power)?),
                _ => Syntax::Concat(self.chain(left, power, |cursor| cursor.take_token(&Token::StringConcat))?),
            },
        };
        node(at, syntax)
    }

    /// The operands of a chain of one operator, whose first operator has been taken.
    fn chain(&mut self, first: Node, power: u8, again: fn(&mut Cursor) -> bool) -> Result<Vec<Node>, Problem> {
        let mut operands = vec![first, self.expression(power)?];
        while again(self.cursor) {
            operands.push(self.expression(power)?);
        }
        Ok(operands)
    }

    fn is(&mut self, input: Node) -> Result<Syntax, Problem> {
        let negated = self.cursor.take_word("NOT");
        let what = match () {
            () if self.cursor.take_word("NULL") || self.cursor.take_word("UNKNOWN") => Is::Null,
            () if self.cursor.take_word("TRUE") => Is::Truth(true),
            () if self.cursor.take_word("FALSE") => Is::Truth(false),
            () if self.cursor.take_words(&["DISTINCT", "FROM"]) => Is::DistinctFrom(self.expression(IS)?),
            () => return Err(self.cursor.unexpected("NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM")),
        };
        Ok(Syntax::Is { input, what, negated })
    }

    fn range(&mut self, input: Node, operator: &Token, negated: bool) -> Result<Syntax, Problem> {
        let word = match operator {
            Token::Word(word) => word.value.to_ascii_uppercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "BETWEEN" => {
                let low = self.expression(RANGE)?;
                self.cursor.expect_word("AND")?;
                Ok(Syntax::Between { input, low, high: self.expression(RANGE)?, negated })
            }
            "IN" => {
                self.cursor.expect_token(&Token::LParen)?;
                if self.cursor.is_word("SELECT") {
                    return Err(self.cursor.at().problem("subqueries are not supported", "list the values"));
                }
                Ok(Syntax::In { input, list: self.list()?, negated })
            }
            _ => {
                let pattern = self.cursor.text()?;
                let mut escape = None;
                if self.cursor.take_word("ESCAPE") {
                    let at = self.cursor.at();
                    let text = self.cursor.text()?;
                    let mut chars = text.chars();
                    escape = chars.next().filter(|_| chars.next().is_none());
                    if escape.is_none() {
                        return Err(at.problem("ESCAPE takes one character", ""));
                    }
                }
                Ok(Syntax::Like { input, pattern, escape, negated })
            }
        }
    }

    /// Expressions up to the closing bracket, which is taken.
    fn list(&mut self) -> Result<Vec<Node>, Problem> {
        let mut list = vec![self.expression(0)?];
        while self.cursor.take_token(&Token::Comma) {
            list.push(self.expression(0)?);
        }
        self.cursor.expect_token(&Token::RParen)?;
        Ok(list)
    }

    fn prefix(&mut self) -> Result<Node, Problem> {
        let at = self.cursor.at();
        let syntax = match self.cursor.peek().clone() {
            Token::LParen => {
                self.cursor.take();
                if self.cursor.is_word("SELECT") {
                    return Err(self.cursor.at().problem("subqueries are not supported", "list the values"));
                }
                let inner = self.expression(0)?;
                self.cursor.expect_token(&Token::RParen)?;
                return Ok(inner);
            }
            Token::Minus => {
                self.cursor.take();
                let operand = self.expression(SIGN)?;
                match *operand.syntax {
                    Syntax::Number(digits) if !digits.starts_with('-') => Syntax::Number(format!("-{digits}")),
                    syntax => Syntax::Negate(Node { syntax: Box::new(syntax), ..operand }),
                }
            }
            Token::Plus => {
                self.cursor.take();
                return self.expression(SIGN);
            }
            Token::Number(digits, false) => {
                self.cursor.take();
                Syntax::Number(digits)
            }
            Token::SingleQuotedString(text) => {
                self.cursor.take();
                Syntax::Text(text)
            }
            Token::Word(word) if word.quote_style.is_none() => self.word(&word.value.to_ascii_uppercase())?,
            _ => Syntax::Name(self.path()?),
        };
        node(at, syntax)
    }

    /// An expression that begins with an unquoted word.
    fn word(&mut self, word: &str) -> Result<Syntax, Problem> {
        let called = *self.cursor.peek_at(1) == Token::LParen;
        match word {
            "TRUE" | "FALSE" => {
                self.cursor.take();
                Ok(Syntax::Bool(word == "TRUE"))
            }
            "NULL" => {
                self.cursor.take();
                Ok(Syntax::Null)
            }
            "NOT" => {
                self.cursor.take();
                Ok(Syntax::Not(self.expression(NOT)?))
            }
            "CASE" => self.case(),
            "DATE" | "TIMESTAMP" if matches!(self.cursor.peek_at(1), Token::SingleQuotedString(_)) => {
                self.cursor.take();
                let text = self.cursor.text()?;
                let digits = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                let digits = digits.min(usize::from(types::FRACTION_DIGITS_MAX)) as u8;
                let ty = if word == "DATE" { SqlType::Date } else { SqlType::Timestamp(digits) };
                Ok(Syntax::Moment(ty, text))
            }
            "INTERVAL" => Err(self.cursor.at().problem(
                "INTERVAL is supported in WATERMARK only",
                "calculate with milliseconds and TO_TIMESTAMP_LTZ",
            )),
            "CAST" | "TRY_CAST" if called => self.cast(word == "TRY_CAST"),
            "TRIM" if called => self.trim(),
            "SUBSTRING" | "SUBSTR" if called => self.substring(),
            "JSON_VALUE" if called => self.json_value(),
            _ if called => {
                self.cursor.take();
                self.cursor.take();
                let arguments = if self.cursor.take_token(&Token::RParen) { Vec::new() } else { self.list()? };
                if self.cursor.is_word("OVER") {
                    return Err(self
                        .cursor
                        .at()
                        .problem("OVER windows are not supported", "leave it to the sink's readers"));
                }
                Ok(Syntax::Call(word.to_owned(), arguments))
            }
            _ => Ok(Syntax::Name(self.path()?)),
        }
    }

    fn path(&mut self) -> Result<Vec<String>, Problem> {
        if !matches!(self.cursor.peek(), Token::Word(_) | Token::DoubleQuotedString(_)) {
            return Err(self.cursor.unexpected("an expression"));
        }
        let mut path = vec![self.cursor.name()?];
        while self.cursor.take_token(&Token::Period) {
            path.push(self.cursor.name()?);
        }
        Ok(path)
    }

    fn case(&mut self) -> Result<Syntax, Problem> {
        self.cursor.expect_word("CASE")?;
        let operand = if self.cursor.is_word("WHEN") { None } else { Some(self.expression(0)?) };
        let mut branches = Vec::new();
        while self.cursor.take_word("WHEN") {
            let when = self.expression(0)?;
            self.cursor.expect_word("THEN")?;
            branches.push((when, self.expression(0)?));
        }
        if branches.is_empty() {
            return Err(self.cursor.unexpected("WHEN"));
        }
        let otherwise = if self.cursor.take_word("ELSE") { Some(self.expression(0)?) } else { None };
        self.cursor.expect_word("END")?;
        Ok(Syntax::Case { operand, branches, otherwise })
    }

    fn cast(&mut self, safe: bool) -> Result<Syntax, Problem> {
        self.cursor.take();
        self.cursor.expect_token(&Token::LParen)?;
        let input = self.expression(0)?;
        self.cursor.expect_word("AS")?;
        let ty = ddl::sql_type(self.cursor)?;
        self.cursor.expect_token(&Token::RParen)?;
        Ok(Syntax::Cast { input, ty, safe })
    }

    /// `TRIM(x)`, `TRIM([BOTH | LEADING | TRAILING] [what] FROM x)`.
    fn trim(&mut self) -> Result<Syntax, Problem> {
        self.cursor.take();
        self.cursor.expect_token(&Token::LParen)?;
        let side = [("BOTH", (true, true)), ("LEADING", (true, false)), ("TRAILING", (false, true))]
            .into_iter()
            .find_map(|(word, side)| self.cursor.take_word(word).then_some(side));
        let (leading, trailing) = side.unwrap_or((true, true));
        let first = if self.cursor.is_word("FROM") { None } else { Some(self.expression(0)?) };
        let (what, input) = match first {
            Some(input) if side.is_none() && !self.cursor.is_word("FROM") => (None, input),
            what => {
                self.cursor.expect_word("FROM")?;
                (what, self.expression(0)?)
            }
        };
        self.cursor.expect_token(&Token::RParen)?;
        Ok(Syntax::Trim { leading, trailing, what, input })
    }

    /// `SUBSTRING(x FROM start [FOR length])` and `SUBSTRING(x, start [, length])`.
    fn substring(&mut self) -> Result<Syntax, Problem> {
        self.cursor.take();
        self.cursor.expect_token(&Token::LParen)?;
        let mut arguments = vec![self.expression(0)?];
        if self.cursor.take_word("FROM") {
            arguments.push(self.expression(0)?);
            if self.cursor.take_word("FOR") {
                arguments.push(self.expression(0)?);
            }
            self.cursor.expect_token(&Token::RParen)?;
        } else {
            self.cursor.expect_token(&Token::Comma)?;
            arguments.extend(self.list()?);
        }
        Ok(Syntax::Call("SUBSTRING".to_owned(), arguments))
    }

    /// `JSON_VALUE(x, 'path' [RETURNING type] [{NULL | ERROR | DEFAULT x} ON EMPTY] [... ON ERROR])`.
    fn json_value(&mut self) -> Result<Syntax, Problem> {
        self.cursor.take();
        self.cursor.expect_token(&Token::LParen)?;
        let input = self.expression(0)?;
        self.cursor.expect_token(&Token::Comma)?;
        let path = self.cursor.text()?;
        let returning = if self.cursor.take_word("RETURNING") { ddl::sql_type(self.cursor)? } else { types::STRING };
        let (mut on_empty, mut on_error) = (Otherwise::Null, Otherwise::Null);
        while !self.cursor.take_token(&Token::RParen) {
            let otherwise = match () {
                () if self.cursor.take_word("NULL") => Otherwise::Null,
                () if self.cursor.take_word("ERROR") => Otherwise::Error,
                () if self.cursor.take_word("DEFAULT") => Otherwise::Default(self.expression(0)?),
                () => return Err(self.cursor.unexpected("')'")),
            };
            self.cursor.expect_word("ON")?;
            match () {
                () if self.cursor.take_word("EMPTY") => on_empty = otherwise,
                () if self.cursor.take_word("ERROR") => on_error = otherwise,
                () => return Err(self.cursor.unexpected("EMPTY or ERROR")),
            }
        }
        Ok(Syntax::JsonValue { input, path, returning, on_empty, on_error })
    }
}

fn too_deep(at: At) -> Problem {
    at.problem(format!("the expression has more than {DEPTH_MAX} levels"), "put parts of it into computed columns")
}

/// The node of `syntax`, one level above its parts.
fn node(at: At, syntax: Syntax) -> Result<Node, Problem> {
    let depth = 1 + syntax.parts().into_iter().map(|part| part.depth).max().unwrap_or(0);
    if depth > DEPTH_MAX {
        return Err(too_deep(at));
    }
    Ok(Node { at, syntax: Box::new(syntax), depth })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(sql: &str) -> Result<Node, Problem> {
        let mut cursor = Cursor::new(sql)?;
        let node = expression(&mut cursor)?;
        if *cursor.peek() == Token::EOF { Ok(node) } else { Err(cursor.unexpected("the end")) }
    }

    /// The tree with brackets around every operator.
    fn show(node: &Node) -> String {
        let list = |nodes: &[Node], by: &str| format!("({})", nodes.iter().map(show).collect::<Vec<_>>().join(by));
        match &*node.syntax {
            Syntax::Name(path) => path.join("."),
            Syntax::Number(digits) => digits.clone(),
            Syntax::And(nodes) => list(nodes, " and "),
            Syntax::Or(nodes) => list(nodes, " or "),
            Syntax::Concat(nodes) => list(nodes, " || "),
            Syntax::Not(node) => format!("(not {})", show(node)),
            Syntax::Negate(node) => format!("(- {})", show(node)),
            Syntax::Calculate(operator, a, b) => format!("({operator:?} {} {})", show(a), show(b)),
            Syntax::Compare(operator, a, b) => format!("({operator:?} {} {})", show(a), show(b)),
            Syntax::Between { input, low, high, negated } => {
                format!("(between {negated} {} {} {})", show(input), show(low), show(high))
            }
            Syntax::Is { input, negated, .. } => format!("(is {negated} {})", show(input)),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn operators_bind_as_in_flink() {
        let cases = [
            ("a OR b AND NOT c = d", "(a or (b and (not (Equal c d))))"),
            ("a AND b AND c OR d", "((a and b and c) or d)"),
            ("a + b * -c", "(Add a (Multiply b (- c)))"),
            ("a - b - -1", "(Subtract (Subtract a b) -1)"),
            ("a NOT BETWEEN 1 AND 2 AND b", "((between true a 1 2) and b)"),
            ("a = 1 IS NOT NULL", "(is true (Equal a 1))"),
            ("a.b || c || d = e", "(Equal (a.b || c || d) e)"),
        ];
        for (sql, expected) in cases {
            assert_eq!(show(&parse(sql).unwrap()), expected, "{sql}");
        }
    }

    #[test]
    fn depth_is_bounded_wherever_it_comes_from() {
        let nested = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        assert!(parse(&nested(DEPTH_MAX - 1)).is_ok());
        assert!(parse(&nested(DEPTH_MAX + 1)).is_err());
        assert!(parse(&format!("a{}", " + a".repeat(DEPTH_MAX))).is_err(), "a tree that leans to the left is deep too");
        assert!(parse(&"- ".repeat(10_000)).is_err());
        assert!(parse(&format!("a{}", " OR a".repeat(5_000))).is_ok(), "a chain is one level");
    }
}
