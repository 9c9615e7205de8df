//! Functions by name: which there are, what they take, what type they have.

use std::sync::Arc;

use super::bind::{Scope, alike, pair};
use super::cast;
use super::datum::Datum;
use super::error::{At, Problem};
use super::expr::{Expr, Kind};
use super::functions::Function;
use super::functions::json::{JsonValue, Path};
use super::functions::regexp::Pattern;
use super::functions::time::Format;
use super::syntax::{Calculation, Comparison, Node, Otherwise, Syntax};
use super::types::{self, STRING, SqlType};

/// Names in the order of the reference, for the message about an unknown one.
const NAMES: &str = "CAST, TRY_CAST, COALESCE, IFNULL, NULLIF, IF, CASE, UPPER, LOWER, TRIM, LTRIM, RTRIM, SUBSTRING, \
    CHAR_LENGTH, CONCAT, REGEXP_EXTRACT, SPLIT_INDEX, TO_TIMESTAMP_LTZ, DATE_FORMAT, JSON_VALUE, MOD";

/// Binds a call.
///
/// # Errors
/// There is no such function, or not with these arguments.
pub fn call(scope: &mut Scope<'_>, at: At, name: &str, arguments: &[Node]) -> Result<Expr, Problem> {
    let text = |function, arguments| Ok(Expr { kind: Kind::Call(function, arguments), ty: STRING });
    match (name, arguments) {
        ("UPPER", [input]) => text(Function::Upper, vec![scope.text(input)?]),
        ("LOWER", [input]) => text(Function::Lower, vec![scope.text(input)?]),
        ("LTRIM", [input]) => trim(scope, (true, false), None, input),
        ("RTRIM", [input]) => trim(scope, (false, true), None, input),
        ("CHAR_LENGTH" | "CHARACTER_LENGTH", [input]) => {
            Ok(Expr { kind: Kind::Call(Function::CharLength, vec![scope.text(input)?]), ty: SqlType::Int })
        }
        ("SUBSTRING", [input, start]) => text(Function::Substring, vec![scope.text(input)?, scope.integer(start)?]),
        ("SUBSTRING", [input, start, length]) => {
            text(Function::Substring, vec![scope.text(input)?, scope.integer(start)?, scope.integer(length)?])
        }
        ("CONCAT", [_, ..]) => {
            text(Function::Concat, arguments.iter().map(|argument| scope.text(argument)).collect::<Result<_, _>>()?)
        }
        ("REGEXP_EXTRACT", [input, pattern, group @ ..]) if group.len() <= 1 => {
            regexp_extract(scope, input, pattern, group.first())
        }
        ("SPLIT_INDEX", [input, separator, index]) => {
            let separator = match scope.bind(separator)? {
                expr if expr.ty.is_text() || expr.ty.is_integer() => expr,
                expr => return Err(separator.at.problem(format!("a separator is text, this is {}", expr.ty), "")),
            };
            text(Function::SplitIndex, vec![scope.text(input)?, separator, scope.integer(index)?])
        }
        ("TO_TIMESTAMP_LTZ", [number, digits]) => to_timestamp_ltz(scope, number, digits),
        ("DATE_FORMAT", [input, format]) => date_format(scope, input, format),
        ("COALESCE", [_, ..]) | ("IFNULL", [_, _]) => {
            let operands = arguments.iter().map(|argument| scope.bind(argument)).collect::<Result<_, _>>()?;
            let operands = alike(at, name, operands)?;
            let ty = operands[0].ty.clone();
            Ok(Expr { kind: Kind::Coalesce(operands), ty })
        }
        ("NULLIF", [value, other]) => {
            let (value, other) = (scope.bind(value)?, scope.bind(other)?);
            let copy = scope.copy(at, &value)?;
            let equal = scope.compare(at, Comparison::Equal, copy, other)?;
            let ty = value.ty.clone();
            Ok(Expr { kind: Kind::Case(vec![(equal, Expr::null(ty.clone()))], Box::new(value)), ty })
        }
        ("IF", [condition, then, otherwise]) => {
            let when = scope.condition(condition)?;
            let [then, otherwise] = pair(at, name, scope.bind(then)?, scope.bind(otherwise)?)?;
            let ty = then.ty.clone();
            Ok(Expr { kind: Kind::Case(vec![(when, then)], Box::new(otherwise)), ty })
        }
        ("MOD", [a, b]) => modulo(scope, at, a, b),
        _ if NAMES.split(", ").any(|known| known == name) => {
            let message = format!("{name} does not take {} arguments", arguments.len());
            Err(at.problem(message, "see the reference of Flink's functions"))
        }
        _ => {
            let message = format!("function {name} is not supported");
            Err(at.problem(message, format!("these are: {NAMES}")))
        }
    }
}

fn modulo(scope: &mut Scope<'_>, at: At, a: &Node, b: &Node) -> Result<Expr, Problem> {
    let depth = 1 + a.depth.max(b.depth);
    let syntax = Syntax::Calculate(Calculation::Remainder, a.clone(), b.clone());
    scope.bind(&Node { at, syntax: Box::new(syntax), depth })
}

/// Binds TRIM.
///
/// # Errors
/// Its parts are no texts.
pub fn trim(
    scope: &mut Scope<'_>,
    (leading, trailing): (bool, bool),
    what: Option<&Node>,
    input: &Node,
) -> Result<Expr, Problem> {
    let blank = Expr { kind: Kind::Literal(Datum::text(" ")), ty: SqlType::Char(1) };
    let what = what.map_or(Ok(blank), |what| scope.text(what))?;
    let kind = Kind::Call(Function::Trim { leading, trailing }, vec![scope.text(input)?, what]);
    Ok(Expr { kind, ty: STRING })
}

fn regexp_extract(scope: &mut Scope<'_>, input: &Node, pattern: &Node, group: Option<&Node>) -> Result<Expr, Problem> {
    let input = scope.text(input)?;
    let group = match group {
        Some(group) => scope.integer(group)?.cast(&SqlType::Int),
        None => Expr { kind: Kind::Literal(Datum::Int(0)), ty: SqlType::Int },
    };
    let Syntax::Text(text) = &*pattern.syntax else {
        let arguments = vec![input, scope.text(pattern)?, group];
        return Ok(Expr { kind: Kind::Call(Function::RegexpExtractAny, arguments), ty: STRING });
    };
    let compiled = match scope.patterns.get(text) {
        Some(compiled) => compiled.clone(),
        None => {
            let compiled = Arc::new(Pattern::new(text).map_err(|what| {
                let advice = "matching takes linear time here; write the pattern without it";
                pattern.at.problem(format!("{what} is not supported in regular expressions"), advice)
            })?);
            scope.patterns.insert(text.clone(), compiled.clone());
            compiled
        }
    };
    if !compiled.is_valid() {
        let At { line, column } = pattern.at;
        scope.warnings.push(format!("line {line}, column {column}: no regular expression; the result is always NULL"));
    }
    Ok(Expr { kind: Kind::Call(Function::RegexpExtract(compiled), vec![input, group]), ty: STRING })
}

fn to_timestamp_ltz(scope: &mut Scope<'_>, number: &Node, digits: &Node) -> Result<Expr, Problem> {
    let expr = scope.bind(number)?;
    if !expr.ty.is_numeric() && expr.ty != SqlType::Null {
        let message = format!("TO_TIMESTAMP_LTZ takes a number, this is {}", expr.ty);
        return Err(number.at.problem(message, "CAST it to BIGINT"));
    }
    let seconds = match &*digits.syntax {
        Syntax::Number(digits) if digits == "0" => true,
        Syntax::Number(digits) if digits == "3" => false,
        _ => return Err(digits.at.problem("the precision is 0 (seconds) or 3 (milliseconds)", "")),
    };
    let arguments = vec![expr.cast(&SqlType::BigInt)];
    Ok(Expr { kind: Kind::Call(Function::ToTimestampLtz { seconds }, arguments), ty: SqlType::TimestampLtz(3) })
}

fn date_format(scope: &mut Scope<'_>, input: &Node, format: &Node) -> Result<Expr, Problem> {
    let expr = scope.bind(input)?;
    if !expr.ty.is_timestamp() {
        let message = format!("DATE_FORMAT takes a timestamp, this is {}", expr.ty);
        return Err(input.at.problem(message, "CAST it to TIMESTAMP(3)"));
    }
    let kind = match &*format.syntax {
        Syntax::Text(text) => {
            let format = Format::new(text).map_err(|message| format.at.problem(message, ""))?;
            Kind::Call(Function::DateFormat(format), vec![expr])
        }
        _ => Kind::Call(Function::DateFormatAny, vec![expr, scope.text(format)?]),
    };
    Ok(Expr { kind, ty: STRING })
}

/// Binds JSON_VALUE.
///
/// # Errors
/// Its path, its type or a default cannot be.
pub fn json_value(
    scope: &mut Scope<'_>,
    at: At,
    input: &Node,
    path: &str,
    returning: &SqlType,
    (on_empty, on_error): (&Otherwise, &Otherwise),
) -> Result<Expr, Problem> {
    if !returning.is_text() && !matches!(returning, SqlType::Int | SqlType::Double | SqlType::Boolean) {
        let message = format!("JSON_VALUE returns STRING, INT, DOUBLE or BOOLEAN, not {returning}");
        return Err(at.problem(message, "return STRING and CAST it"));
    }
    let input = scope.text(input)?;
    let parsed = Path::new(path).map_err(|what| {
        at.problem(format!("the path '{path}' has {what}, which is not supported"), "name keys and indices only")
    })?;
    if !parsed.is_valid() {
        scope.warnings.push(format!("line {}, column {}: '{path}' is no JSON path", at.line, at.column));
    }
    let mut yields = |otherwise: &Otherwise| match otherwise {
        Otherwise::Null => Ok(Ok(Datum::Null)),
        Otherwise::Error => Ok(Err(())),
        Otherwise::Default(node) => default(scope, node, returning).map(Ok),
    };
    let (on_empty, on_error) = (yields(on_empty)?, yields(on_error)?);
    let json = JsonValue { path: parsed, returning: returning.clone(), on_empty, on_error };
    Ok(Expr { kind: Kind::Call(Function::JsonValue(json), vec![input]), ty: returning.clone() })
}

fn default(scope: &mut Scope<'_>, node: &Node, returning: &SqlType) -> Result<Datum<'static>, Problem> {
    let refused = || node.at.problem(format!("the default is no {returning}"), "write a literal of that type");
    match scope.bind(node)? {
        Expr { kind: Kind::Literal(value), ty } if types::insertable(&ty, returning) => {
            cast::convert(value, &ty, returning).map_err(|_| refused())
        }
        _ => Err(refused()),
    }
}
