//! From what is written to what it means: names become slots, every node gets its type by Flink's rules, conversions
//! that Flink makes silently are written out, and what Flink refuses is refused here too.

use std::collections::HashMap;
use std::sync::Arc;

use super::bind_call;
use super::calculate;
use super::cast;
use super::datum::Datum;
use super::error::{At, Problem};
use super::expr::{Expr, Kind};
use super::functions::regexp::Pattern;
use super::functions::text::Like;
use super::syntax::{Calculation, Comparison, Is, Node, Syntax};
use super::types::{self, DECIMAL_DIGITS_MAX, SqlType};

/// Most parts of expressions that one job text copies: for each name, and where an operand is compared twice.
pub const COPIES_MAX: usize = 200_000;

/// The columns that an expression may name.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The name that may stand before a column.
    pub table: &'a str,
    /// Names and what they stand for.
    pub columns: &'a [(String, Expr)],
    /// Patterns of regular expressions in the job text, so that calls that name the same one share it.
    pub patterns: &'a mut HashMap<String, Arc<Pattern>>,
    /// Takes what is suspicious but no problem.
    pub warnings: &'a mut Vec<String>,
    /// How many more parts of expressions may be copied.
    pub copies_left: &'a mut usize,
}

impl Scope<'_> {
    /// Binds an expression that must be a condition.
    ///
    /// # Errors
    /// The first thing in it that has no meaning.
    pub fn condition(&mut self, node: &Node) -> Result<Expr, Problem> {
        let expr = self.bind(node)?;
        match expr.ty {
            SqlType::Boolean => Ok(expr),
            SqlType::Null => Ok(Expr::null(SqlType::Boolean)),
            other => {
                Err(node.at.problem(format!("a condition is BOOLEAN, this is {other}"), "compare it with something"))
            }
        }
    }

    /// Binds an expression.
    ///
    /// # Errors
    /// The first thing in it that has no meaning.
    pub fn bind(&mut self, node: &Node) -> Result<Expr, Problem> {
        let at = node.at;
        let boolean = |kind| Ok(Expr::boolean(kind));
        match &*node.syntax {
            Syntax::Name(path) => self.name(at, path),
            Syntax::Text(text) => {
                let length = text.chars().count() as u32;
                Ok(literal(Datum::Text(text.clone().into()), SqlType::Char(length)))
            }
            Syntax::Number(digits) => number(at, digits),
            Syntax::Bool(truth) => Ok(literal(Datum::Bool(*truth), SqlType::Boolean)),
            Syntax::Null => Ok(Expr::null(SqlType::Null)),
            Syntax::Moment(ty, text) => moment(at, ty, text),
            Syntax::Negate(input) => self.negate(at, input),
            Syntax::Not(input) => Ok(self.condition(input)?.negated(true)),
            Syntax::And(nodes) => boolean(Kind::And(self.conditions(nodes)?)),
            Syntax::Or(nodes) => boolean(Kind::Or(self.conditions(nodes)?)),
            Syntax::Concat(nodes) => bind_call::call(self, at, "CONCAT", nodes),
            Syntax::Calculate(operator, left, right) => self.calculate(at, *operator, left, right),
            Syntax::Compare(operator, left, right) => self.comparison(at, *operator, left, right),
            Syntax::Is { input, what, negated } => self.is(at, input, what, *negated),
            Syntax::Between { input, low, high, negated } => Ok(self.between(at, input, low, high)?.negated(*negated)),
            Syntax::In { input, list, negated } => Ok(self.is_in(at, input, list)?.negated(*negated)),
            Syntax::Like { input, pattern, escape, negated } => {
                let input = self.text(input)?;
                let like = Like::new(pattern, *escape).map_err(|message| at.problem(message, ""))?;
                Ok(Expr::boolean(Kind::Like(Box::new(input), like)).negated(*negated))
            }
            Syntax::Case { operand, branches, otherwise } => {
                self.case(at, operand.as_ref(), branches, otherwise.as_ref())
            }
            Syntax::Cast { input, ty, safe } => self.cast(at, input, ty, *safe),
            Syntax::Trim { leading, trailing, what, input } => {
                bind_call::trim(self, (*leading, *trailing), what.as_ref(), input)
            }
            Syntax::JsonValue { input, path, returning, on_empty, on_error } => {
                bind_call::json_value(self, at, input, path, returning, (on_empty, on_error))
            }
            Syntax::Call(name, arguments) => bind_call::call(self, at, name, arguments),
        }
    }

    /// Binds an expression that must be text.
    ///
    /// # Errors
    /// The first thing in it that has no meaning.
    pub fn text(&mut self, node: &Node) -> Result<Expr, Problem> {
        let expr = self.bind(node)?;
        match &expr.ty {
            SqlType::Null => Ok(Expr::null(types::STRING)),
            ty if ty.is_text() => Ok(expr),
            ty => Err(node.at.problem(format!("a text is expected, this is {ty}"), "CAST it to STRING")),
        }
    }

    /// Binds an expression that must be a whole number.
    ///
    /// # Errors
    /// The first thing in it that has no meaning.
    pub fn integer(&mut self, node: &Node) -> Result<Expr, Problem> {
        let expr = self.bind(node)?;
        match &expr.ty {
            SqlType::Null => Ok(Expr::null(SqlType::Int)),
            ty if ty.is_integer() => Ok(expr),
            ty => Err(node.at.problem(format!("a whole number is expected, this is {ty}"), "CAST it to INT")),
        }
    }

    /// A copy of an expression, for one that is evaluated in more than one place. Copies of copies grow fast, so they
    /// are counted.
    ///
    /// # Errors
    /// The job text makes too many.
    pub fn copy(&mut self, at: At, expr: &Expr) -> Result<Expr, Problem> {
        let left = self.copies_left.checked_sub(expr.size());
        *self.copies_left = left.ok_or_else(|| {
            let message = format!("expressions that are used again have more than {COPIES_MAX} parts together");
            at.problem(message, "split the job's work over several streams")
        })?;
        Ok(expr.clone())
    }

    fn name(&mut self, at: At, path: &[String]) -> Result<Expr, Problem> {
        let columns = self.columns;
        let find = |path: &[String]| {
            let (first, fields) = path.split_first()?;
            let (_, expr) = columns.iter().find(|(name, _)| name == first)?;
            fields.iter().try_fold(expr, |expr, field| match (&expr.kind, &expr.ty) {
                (Kind::Row { fields, .. }, SqlType::Row(names)) => {
                    fields.get(names.iter().position(|(name, _)| name == field)?)
                }
                _ => None,
            })
        };
        let qualified = path.first().is_some_and(|first| first == self.table).then(|| find(&path[1..])).flatten();
        let found = find(path).or(qualified).ok_or_else(|| {
            let alike = self.columns.iter().find(|(name, _)| name.eq_ignore_ascii_case(&path[0]));
            let advice = match alike {
                Some((name, _)) if *name != path[0] => format!("did you mean `{name}`? Names are case-sensitive"),
                Some((name, expr)) => format!("`{name}` is {}", expr.ty),
                None => "strings stand in single quotes; columns are declared in CREATE TABLE".to_owned(),
            };
            at.problem(format!("there is no column `{}`", path.join(".")), advice)
        })?;
        self.copy(at, found)
    }

    fn negate(&mut self, at: At, input: &Node) -> Result<Expr, Problem> {
        let input = self.bind(input)?;
        if !input.ty.is_numeric() {
            return Err(at.problem(format!("'-' needs a number, this is {}", input.ty), "CAST it"));
        }
        let ty = input.ty.clone();
        Ok(Expr { kind: Kind::Negate(Box::new(input)), ty })
    }

    fn comparison(&mut self, at: At, operator: Comparison, left: &Node, right: &Node) -> Result<Expr, Problem> {
        let (a, b) = (self.bind(left)?, self.bind(right)?);
        // Flink takes `x = x` for TRUE wherever x is not NULL, so that even NaN equals itself there.
        if operator == Comparison::Equal && a.ty.is_approximate() && written_alike(left, right) {
            let present = Expr::boolean(Kind::IsNull(Box::new(a))).negated(true);
            return Ok(Expr::boolean(Kind::Or(vec![present, Expr::null(SqlType::Boolean)])));
        }
        self.compare(at, operator, a, b)
    }

    fn between(&mut self, at: At, input: &Node, low: &Node, high: &Node) -> Result<Expr, Problem> {
        let (value, low, high) = (self.bind(input)?, self.bind(low)?, self.bind(high)?);
        let copy = self.copy(at, &value)?;
        let above = self.compare(at, Comparison::GreaterOrEqual, copy, low)?;
        let below = self.compare(at, Comparison::LessOrEqual, value, high)?;
        Ok(Expr::boolean(Kind::And(vec![above, below])))
    }

    fn is_in(&mut self, at: At, input: &Node, list: &[Node]) -> Result<Expr, Problem> {
        let mut exprs = vec![self.bind(input)?];
        for node in list {
            exprs.push(self.bind(node)?);
        }
        let mut exprs = alike(at, "IN", exprs)?;
        let input = exprs.remove(0);
        Ok(Expr::boolean(Kind::In(Box::new(input), exprs)))
    }

    fn cast(&mut self, at: At, input: &Node, ty: &SqlType, safe: bool) -> Result<Expr, Problem> {
        let input = self.bind(input)?;
        if !types::castable(&input.ty, ty) {
            let advice = if input.ty.is_numeric() && ty.is_timestamp() { "use TO_TIMESTAMP_LTZ" } else { "" };
            return Err(at.problem(format!("{} cannot be cast to {ty}", input.ty), advice));
        }
        let same = input.ty == *ty;
        let mut expr = input.cast(ty);
        if let (Kind::Cast { safe: is_safe, .. }, false) = (&mut expr.kind, same) {
            *is_safe = safe;
        }
        Ok(expr)
    }

    fn conditions(&mut self, nodes: &[Node]) -> Result<Vec<Expr>, Problem> {
        nodes.iter().map(|node| self.condition(node)).collect()
    }

    fn calculate(&mut self, at: At, operator: Calculation, left: &Node, right: &Node) -> Result<Expr, Problem> {
        let (a, b) = (self.bind(left)?, self.bind(right)?);
        let Some(ty) = calculate::result(operator, &a.ty, &b.ty) else {
            let message = format!("there is no calculation of {} and {}", a.ty, b.ty);
            return Err(at.problem(message, "CAST both to numbers"));
        };
        let operand = |expr: Expr| match (&ty, expr.ty.digits()) {
            (SqlType::Decimal(..), Some((precision, scale))) => expr.cast(&SqlType::Decimal(precision, scale)),
            _ => expr.cast(&ty),
        };
        let kind = Kind::Calculate(operator, Box::new(operand(a)), Box::new(operand(b)));
        Ok(Expr { kind, ty })
    }

    /// The comparison of two values, as values of the type that they have in common.
    ///
    /// # Errors
    /// They have none, or cannot be compared.
    pub fn compare(&mut self, at: At, operator: Comparison, a: Expr, b: Expr) -> Result<Expr, Problem> {
        let [a, b] = pair(at, "a comparison", a, b)?;
        if matches!(a.ty, SqlType::Row(_)) {
            return Err(at.problem("ROWs cannot be compared", "compare their fields"));
        }
        Ok(Expr::boolean(Kind::Compare(operator, Box::new(a), Box::new(b))))
    }

    fn is(&mut self, at: At, input: &Node, what: &Is, negated: bool) -> Result<Expr, Problem> {
        let expr = match what {
            Is::Null => Kind::IsNull(Box::new(self.bind(input)?)),
            Is::Truth(truth) => Kind::IsTruth(Box::new(self.condition(input)?), *truth),
            Is::DistinctFrom(other) => {
                let [a, b] = pair(at, "IS DISTINCT FROM", self.bind(input)?, self.bind(other)?)?;
                Kind::Distinct(Box::new(a), Box::new(b))
            }
        };
        Ok(Expr::boolean(expr).negated(negated))
    }

    fn case(
        &mut self,
        at: At,
        operand: Option<&Node>,
        branches: &[(Node, Node)],
        otherwise: Option<&Node>,
    ) -> Result<Expr, Problem> {
        let operand = operand.map(|node| self.bind(node)).transpose()?;
        let mut whens = Vec::with_capacity(branches.len());
        let mut thens = Vec::with_capacity(branches.len() + 1);
        for (when, then) in branches {
            whens.push(match &operand {
                Some(operand) => {
                    let value = self.bind(when)?;
                    let copy = self.copy(when.at, operand)?;
                    self.compare(when.at, Comparison::Equal, copy, value)?
                }
                None => self.condition(when)?,
            });
            thens.push(self.bind(then)?);
        }
        thens.push(otherwise.map_or_else(|| Ok(Expr::null(SqlType::Null)), |node| self.bind(node))?);
        let mut thens = alike(at, "CASE", thens)?;
        let ty = thens[0].ty.clone();
        let otherwise = thens.pop().unwrap_or_else(|| Expr::null(ty.clone()));
        Ok(Expr { kind: Kind::Case(whens.into_iter().zip(thens).collect(), Box::new(otherwise)), ty })
    }
}

fn literal(value: Datum<'static>, ty: SqlType) -> Expr {
    Expr { kind: Kind::Literal(value), ty }
}

/// The expressions, all cast to the type that they have in common.
///
/// # Errors
/// They have none.
pub fn alike(at: At, what: &str, exprs: Vec<Expr>) -> Result<Vec<Expr>, Problem> {
    let mut ty = SqlType::Null;
    for expr in &exprs {
        ty = types::common(&ty, &expr.ty).ok_or_else(|| {
            let message = format!("{what} mixes {ty} and {}", expr.ty);
            at.problem(message, "CAST one of them to the other's type")
        })?;
    }
    Ok(exprs.into_iter().map(|expr| expr.cast(&ty)).collect())
}

/// Two expressions, cast to the type that they have in common.
///
/// # Errors
/// They have none.
pub fn pair(at: At, what: &str, a: Expr, b: Expr) -> Result<[Expr; 2], Problem> {
    match types::common(&a.ty, &b.ty) {
        Some(ty) => Ok([a.cast(&ty), b.cast(&ty)]),
        None => {
            let message = format!("{what} mixes {} and {}", a.ty, b.ty);
            Err(at.problem(message, "CAST one of them to the other's type"))
        }
    }
}

/// INT, BIGINT or DECIMAL for exact numbers, DOUBLE for those with an exponent.
fn number(at: At, digits: &str) -> Result<Expr, Problem> {
    if digits.contains(['e', 'E']) {
        let value = digits.parse().map_err(|_| at.problem(format!("{digits} is no number"), ""))?;
        return Ok(literal(Datum::Double(value), SqlType::Double));
    }
    if let Ok(value) = digits.parse::<i64>() {
        let ty = if i32::try_from(value).is_ok() { SqlType::Int } else { SqlType::BigInt };
        return Ok(literal(Datum::Int(value), ty));
    }
    let (whole, fraction) = digits.trim_start_matches('-').split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches(['-', '0']);
    let precision = (whole.len() + fraction.len()).max(1);
    if precision > usize::from(DECIMAL_DIGITS_MAX) {
        let message = format!("a number has at most {DECIMAL_DIGITS_MAX} digits");
        return Err(at.problem(message, "write it with an exponent, as a DOUBLE"));
    }
    let ty = SqlType::Decimal(precision as u8, fraction.len() as u8);
    match cast::convert(Datum::text(digits), &types::STRING, &ty) {
        Ok(Datum::Decimal(value)) => Ok(literal(Datum::Decimal(value), ty)),
        _ => Err(at.problem(format!("{digits} is no number"), "")),
    }
}

/// DATE 'text' and TIMESTAMP 'text'.
fn moment(at: At, ty: &SqlType, text: &str) -> Result<Expr, Problem> {
    match cast::convert(Datum::text(text), &types::STRING, ty) {
        Ok(Datum::Days(days)) => Ok(literal(Datum::Days(days), ty.clone())),
        Ok(Datum::Ticks(ticks)) => Ok(literal(Datum::Ticks(ticks), ty.clone())),
        _ => Err(at.problem(format!("'{text}' is no {ty}"), "write it as 2024-03-31 01:30:00")),
    }
}

/// Whether two expressions are written with the same words.
fn written_alike(a: &Node, b: &Node) -> bool {
    match (&*a.syntax, &*b.syntax) {
        (Syntax::Name(a), Syntax::Name(b)) => a == b,
        (Syntax::Cast { input: a, ty: ta, safe: sa }, Syntax::Cast { input: b, ty: tb, safe: sb }) => {
            ta == tb && sa == sb && written_alike(a, b)
        }
        _ => false,
    }
}
