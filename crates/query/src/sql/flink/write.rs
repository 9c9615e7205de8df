//! An expression as text again, with brackets around all that could be read otherwise: for conditions that are added to a job's own.

use super::super::error::At;
use super::super::syntax::{Calculation, Comparison, Is, Node, Otherwise, Syntax};
use super::super::types::STRING;
use super::{literal, quoted};

/// Writes expressions.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// Whether the CAST there is written as TRY_CAST.
    pub is_tried: &'a dyn Fn(At) -> bool,
}

impl Writer<'_> {
    /// The expression, safe to stand beside any operator.
    pub fn write(&self, node: &Node) -> String {
        match &*node.syntax {
            Syntax::Name(path) => path.iter().map(|name| quoted(name)).collect::<Vec<_>>().join("."),
            Syntax::Text(text) => literal(text),
            Syntax::Number(digits) if digits.starts_with('-') => format!("({digits})"),
            Syntax::Number(digits) => digits.clone(),
            Syntax::Bool(truth) => if *truth { "TRUE" } else { "FALSE" }.to_owned(),
            Syntax::Null => "NULL".to_owned(),
            Syntax::Moment(ty, text) if ty.is_timestamp() => format!("TIMESTAMP {}", literal(text)),
            Syntax::Moment(_, text) => format!("DATE {}", literal(text)),
            Syntax::Negate(input) => format!("(- {})", self.write(input)),
            Syntax::Not(input) => format!("(NOT {})", self.write(input)),
            Syntax::And(nodes) => format!("({})", self.list(nodes, " AND ")),
            Syntax::Or(nodes) => format!("({})", self.list(nodes, " OR ")),
            Syntax::Concat(nodes) => format!("({})", self.list(nodes, " || ")),
            Syntax::Calculate(operator, a, b) => {
                format!("({} {} {})", self.write(a), calculation(*operator), self.write(b))
            }
            Syntax::Compare(operator, a, b) => {
                format!("({} {} {})", self.write(a), comparison(*operator), self.write(b))
            }
            Syntax::Call(name, arguments) => format!("{name}({})", self.list(arguments, ", ")),
            Syntax::Cast { input, ty, safe } => {
                let cast = if *safe || (self.is_tried)(node.at) { "TRY_CAST" } else { "CAST" };
                format!("{cast}({} AS {ty})", self.write(input))
            }
            syntax => self.worded(syntax),
        }
    }

    /// What is written with words of its own.
    fn worded(&self, syntax: &Syntax) -> String {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match syntax {
            Syntax::Is { input, what, negated } => {
                let (input, not) = (self.write(input), not(negated));
                match what {
                    Is::Null => format!("({input} IS {not}NULL)"),
                    Is::Truth(truth) => format!("({input} IS {not}{})", if *truth { "TRUE" } else { "FALSE" }),
                    Is::DistinctFrom(other) => format!("({input} IS {not}DISTINCT FROM {})", self.write(other)),
                }
            }
            Syntax::Between { input, low, high, negated } => {
                let (input, low, high) = (self.write(input), self.write(low), self.write(high));
                format!("({input} {}BETWEEN {low} AND {high})", not(negated))
            }
            Syntax::In { input, list, negated } => {
                format!("({} {}IN ({}))", self.write(input), not(negated), self.list(list, ", "))
            }
            Syntax::Like { input, pattern, escape, negated } => {
                let escape = escape.map(|c| format!(" ESCAPE {}", literal(&c.to_string()))).unwrap_or_default();
                format!("({} {}LIKE {}{escape})", self.write(input), not(negated), literal(pattern))
            }
            Syntax::Case { operand, branches, otherwise } => {
                let mut text = "CASE".to_owned();
                text += &operand.as_ref().map(|node| format!(" {}", self.write(node))).unwrap_or_default();
                for (when, then) in branches {
                    text += &format!(" WHEN {} THEN {}", self.write(when), self.write(then));
                }
                text += &otherwise.as_ref().map(|node| format!(" ELSE {}", self.write(node))).unwrap_or_default();
                text + " END"
            }
            Syntax::Trim { leading, trailing, what, input } => {
                let side = match (leading, trailing) {
                    (true, false) => "LEADING",
                    (false, true) => "TRAILING",
                    _ => "BOTH",
                };
                let what = what.as_ref().map_or_else(|| literal(" "), |what| self.write(what));
                format!("TRIM({side} {what} FROM {})", self.write(input))
            }
            Syntax::JsonValue { input, path, returning, on_empty, on_error } => {
                let mut text = format!("JSON_VALUE({}, {}", self.write(input), literal(path));
                if *returning != STRING {
                    text += &format!(" RETURNING {returning}");
                }
                for (otherwise, event) in [(on_empty, "EMPTY"), (on_error, "ERROR")] {
                    text += &match otherwise {
                        Otherwise::Null => String::new(),
                        Otherwise::Error => format!(" ERROR ON {event}"),
                        Otherwise::Default(node) => format!(" DEFAULT {} ON {event}", self.write(node)),
                    };
                }
                text + ")"
            }
            _ => unreachable!("all others are written without words of their own"),
        }
    }

    fn list(&self, nodes: &[Node], by: &str) -> String {
        nodes.iter().map(|node| self.write(node)).collect::<Vec<_>>().join(by)
    }
}

fn calculation(operator: Calculation) -> &'static str {
    match operator {
        Calculation::Add => "+",
        Calculation::Subtract => "-",
        Calculation::Multiply => "*",
        Calculation::Divide => "/",
        Calculation::Remainder => "%",
    }
}

fn comparison(operator: Comparison) -> &'static str {
    match operator {
        Comparison::Equal => "=",
        Comparison::Unequal => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cursor::Cursor;
    use super::super::super::parse;
    use super::*;

    /// What is written is read again as the same tree.
    #[test]
    fn an_expression_is_written_as_it_is_read() {
        let expressions = [
            "`a` + b * -c - -1 / 2 % 3",
            "a OR NOT b AND c = d OR e <> 'it''s'",
            "a NOT BETWEEN 1 AND 2.5 AND b IN (1, 2) AND c NOT IN ('x')",
            "a IS NOT NULL AND (b > 1) IS TRUE AND (c) IS NOT FALSE AND a IS DISTINCT FROM b",
            "CASE x WHEN 1 THEN 'a' WHEN 2 THEN 'b' END || CASE WHEN y THEN z ELSE NULL END",
            "TRIM(BOTH 'x' FROM a) || TRIM(a) || TRIM(LEADING FROM a) || TRIM(TRAILING b FROM a)",
            "SUBSTRING(a FROM 2 FOR 3) || COALESCE(a, b.c.d, UPPER(e))",
            "JSON_VALUE(a, '$.b' RETURNING INT DEFAULT 1 ON EMPTY ERROR ON ERROR)",
            "a LIKE 'x!%%' ESCAPE '!' OR a NOT LIKE '_'",
            "CAST(a AS DECIMAL(10, 2)) + TRY_CAST(b AS INT) < TIMESTAMP '2024-01-01 00:00:00.5' OR d = DATE '2024-01-01'",
        ];
        for expression in expressions {
            let parsed = |text: &str| parse::expression(&mut Cursor::new(text).unwrap()).unwrap();
            let writer = Writer { is_tried: &|_| false };
            let once = writer.write(&parsed(expression));
            assert_eq!(writer.write(&parsed(&once)), once, "{expression}");
        }
        let parsed = parse::expression(&mut Cursor::new("CAST(t.a.b AS INT)").unwrap()).unwrap();
        assert_eq!(Writer { is_tried: &|_| true }.write(&parsed), "TRY_CAST(`t`.`a`.`b` AS INT)");
        let parsed = parse::expression(&mut Cursor::new(expressions[1]).unwrap()).unwrap();
        let written = "(`a` OR ((NOT `b`) AND (`c` = `d`)) OR (`e` <> 'it''s'))";
        assert_eq!(Writer { is_tried: &|_| false }.write(&parsed), written);
    }
}
