//! The tree that the parser makes of a job text: what is written, before anybody asks what it means.

use super::error::At;
use super::types::SqlType;

/// CREATE TABLE.
#[derive(Clone, Debug)]
pub struct Table {
    /// Where its name stands.
    pub at: At,
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// What stands between its brackets: from here ...
    pub body_from: At,
    /// ... to here.
    pub body_to: At,
    /// WATERMARK FOR, if any.
    pub watermark: Option<Watermark>,
    /// Keys and values of WITH, in order, with the place of each key.
    pub options: Vec<(At, String, String)>,
    /// What it declares beside columns and options, by the words that begin it; without effect here.
    pub ignored: Vec<&'static str>,
}

/// A column of CREATE TABLE.
#[derive(Clone, Debug)]
pub struct Column {
    /// Where its name stands.
    pub at: At,
    /// Its name.
    pub name: String,
    /// What fills it.
    pub kind: ColumnKind,
}

/// What fills a column.
#[derive(Clone, Debug)]
pub enum ColumnKind {
    /// The record's bytes.
    Physical {
        /// Its type.
        ty: SqlType,
        /// NOT NULL.
        required: bool,
    },
    /// METADATA FROM key.
    Metadata {
        /// Its type.
        ty: SqlType,
        /// The key.
        key: String,
    },
    /// AS expression.
    Computed(Node),
}

/// WATERMARK FOR column AS column - INTERVAL delay.
#[derive(Clone, Debug)]
pub struct Watermark {
    /// Where it stands.
    pub at: At,
    /// The column.
    pub column: String,
    /// How far the watermark stays behind, in ms.
    pub delay_ms: i64,
}

/// INSERT INTO sink SELECT items FROM table WHERE condition.
#[derive(Clone, Debug)]
pub struct Insert {
    /// Where the sink's name stands.
    pub at: At,
    /// The sink.
    pub sink: String,
    /// Where SELECT stands.
    pub select_at: At,
    /// What is selected.
    pub items: Vec<Item>,
    /// Where FROM stands.
    pub from_at: At,
    /// Where it ends.
    pub end_at: At,
    /// Where the source's name stands.
    pub source_at: At,
    /// The source.
    pub source: String,
    /// The name under which its columns may be qualified.
    pub alias: String,
    /// WHERE, if any.
    pub condition: Option<Node>,
}

/// One item of SELECT.
#[derive(Clone, Debug)]
pub enum Item {
    /// `*`
    All(At),
    /// An expression, with its name if one is given.
    One(Node, Option<String>),
}

/// An expression and where it begins.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins; for operators, where the operator stands.
    pub at: At,
    /// What it is.
    pub syntax: Box<Syntax>,
    /// Levels below it. Bounded, so that nothing that walks the tree can exhaust the stack.
    pub depth: usize,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum Syntax {
    /// A column, or a field of one.
    Name(Vec<String>),
    /// A string.
    Text(String),
    /// A number, as written.
    Number(String),
    /// TRUE or FALSE.
    Bool(bool),
    /// NULL.
    Null,
    /// DATE 'text' or TIMESTAMP 'text'.
    Moment(SqlType, String),
    /// `-x`
    Negate(Node),
    /// NOT x.
    Not(Node),
    /// All of them joined by AND.
    And(Vec<Node>),
    /// All of them joined by OR.
    Or(Vec<Node>),
    /// All of them joined by `||`.
    Concat(Vec<Node>),
    /// A calculation.
    Calculate(Calculation, Node, Node),
    /// A comparison.
    Compare(Comparison, Node, Node),
    /// x IS [NOT] something.
    Is {
        /// x.
        input: Node,
        /// What it is asked to be.
        what: Is,
        /// NOT.
        negated: bool,
    },
    /// x [NOT] BETWEEN low AND high.
    Between {
        /// x.
        input: Node,
        /// The least value.
        low: Node,
        /// The greatest value.
        high: Node,
        /// NOT.
        negated: bool,
    },
    /// x [NOT] IN (list).
    In {
        /// x.
        input: Node,
        /// The list.
        list: Vec<Node>,
        /// NOT.
        negated: bool,
    },
    /// x [NOT] LIKE pattern [ESCAPE c].
    Like {
        /// x.
        input: Node,
        /// The pattern.
        pattern: String,
        /// What takes the meaning of the next character.
        escape: Option<char>,
        /// NOT.
        negated: bool,
    },
    /// Both forms of CASE.
    Case {
        /// CASE x.
        operand: Option<Node>,
        /// WHEN and THEN.
        branches: Vec<(Node, Node)>,
        /// ELSE.
        otherwise: Option<Node>,
    },
    /// CAST or TRY_CAST.
    Cast {
        /// What is cast.
        input: Node,
        /// To which type.
        ty: SqlType,
        /// TRY_CAST.
        safe: bool,
    },
    /// TRIM(side what FROM input).
    Trim {
        /// Leading characters.
        leading: bool,
        /// Trailing characters.
        trailing: bool,
        /// Which characters; blanks if not stated.
        what: Option<Node>,
        /// From what.
        input: Node,
    },
    /// JSON_VALUE with its clauses.
    JsonValue {
        /// The document.
        input: Node,
        /// The path.
        path: String,
        /// RETURNING; STRING if not stated.
        returning: SqlType,
        /// ON EMPTY.
        on_empty: Otherwise,
        /// ON ERROR.
        on_error: Otherwise,
    },
    /// Any other function, its name in capitals.
    Call(String, Vec<Node>),
}

/// `+ - * / %`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calculation {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// `= <> < <= > >=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// What IS asks for.
#[derive(Clone, Debug)]
pub enum Is {
    /// NULL (UNKNOWN is another word for it).
    Null,
    /// TRUE or FALSE.
    Truth(bool),
    /// DISTINCT FROM.
    DistinctFrom(Node),
}

/// What JSON_VALUE yields where it finds nothing.
#[derive(Clone, Debug)]
pub enum Otherwise {
    /// NULL.
    Null,
    /// A failure.
    Error,
    /// A value.
    Default(Node),
}

impl Syntax {
    /// The expressions it consists of.
    pub fn parts(&self) -> Vec<&Node> {
        match self {
            Syntax::Name(_)
            | Syntax::Text(_)
            | Syntax::Number(_)
            | Syntax::Bool(_)
            | Syntax::Null
            | Syntax::Moment(..) => Vec::new(),
            Syntax::Negate(input) | Syntax::Not(input) | Syntax::Like { input, .. } | Syntax::Cast { input, .. } => {
                vec![input]
            }
            Syntax::And(nodes) | Syntax::Or(nodes) | Syntax::Concat(nodes) | Syntax::Call(_, nodes) => {
                nodes.iter().collect()
            }
            Syntax::Calculate(_, left, right) | Syntax::Compare(_, left, right) => vec![left, right],
            Syntax::Is { input, what: Is::DistinctFrom(other), .. } => vec![input, other],
            Syntax::Is { input, .. } => vec![input],
            Syntax::Between { input, low, high, .. } => vec![input, low, high],
            Syntax::In { input, list, .. } => std::iter::once(input).chain(list).collect(),
            Syntax::Case { operand, branches, otherwise } => {
                let branches = branches.iter().flat_map(|(when, then)| [when, then]);
                operand.iter().chain(branches).chain(otherwise).collect()
            }
            // As they are evaluated.
            Syntax::Trim { what, input, .. } => std::iter::once(input).chain(what).collect(),
            Syntax::JsonValue { input, on_empty, on_error, .. } => {
                let defaults = [on_empty, on_error].into_iter().filter_map(|otherwise| match otherwise {
                    Otherwise::Default(node) => Some(node),
                    _ => None,
                });
                std::iter::once(input).chain(defaults).collect()
            }
        }
    }
}
