//! A bound expression: every name is a slot of the decoded columns, every node knows its type, every conversion is
//! written out. What Flink would refuse is not expressible here, so evaluation meets no surprises of type.

use super::datum::Datum;
use super::functions::Function;
use super::functions::text::Like;
use super::syntax::{Calculation, Comparison};
use super::types::SqlType;

/// An expression and the type of its values.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: Kind,
    /// The type of its values.
    pub ty: SqlType,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A decoded column, by its slot.
    Slot(usize),
    /// A ROW put together again from its fields.
    Row {
        /// The slot that says whether the ROW is there.
        present: usize,
        /// Its fields, in order.
        fields: Vec<Expr>,
    },
    /// One value for all rows.
    Literal(Datum<'static>),
    /// CAST, or TRY_CAST if `safe`.
    Cast {
        /// What is cast.
        input: Box<Expr>,
        /// A value that cannot be cast becomes NULL.
        safe: bool,
    },
    /// NOT.
    Not(Box<Expr>),
    /// AND, from left to right; what stands behind a FALSE is not evaluated.
    And(Vec<Expr>),
    /// OR, from left to right; what stands behind a TRUE is not evaluated.
    Or(Vec<Expr>),
    /// IS NULL.
    IsNull(Box<Expr>),
    /// IS TRUE, IS FALSE.
    IsTruth(Box<Expr>, bool),
    /// Comparison of two values of the same type.
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// IS DISTINCT FROM, of two values of the same type.
    Distinct(Box<Expr>, Box<Expr>),
    /// A calculation. Operands of DECIMALs keep their own scales; others have the result's type.
    Calculate(Calculation, Box<Expr>, Box<Expr>),
    /// `-x`
    Negate(Box<Expr>),
    /// IN, over values of the same type.
    In(Box<Expr>, Vec<Expr>),
    /// LIKE.
    Like(Box<Expr>, Like),
    /// CASE: the first condition that is TRUE chooses; only what is chosen is evaluated.
    Case(Vec<(Expr, Expr)>, Box<Expr>),
    /// COALESCE: the first value that is not NULL; what stands behind it is not evaluated.
    Coalesce(Vec<Expr>),
    /// A function of its arguments. One NULL among them makes it NULL.
    Call(Function, Vec<Expr>),
}

impl Expr {
    /// NULL of a type.
    pub fn null(ty: SqlType) -> Self {
        Self { kind: Kind::Literal(Datum::Null), ty }
    }

    /// An expression of type BOOLEAN.
    pub fn boolean(kind: Kind) -> Self {
        Self { kind, ty: SqlType::Boolean }
    }

    /// NOT this, if `negated`.
    pub fn negated(self, negated: bool) -> Self {
        if negated { Self::boolean(Kind::Not(Box::new(self))) } else { self }
    }

    /// This as another type, if it is not that already.
    pub fn cast(self, ty: &SqlType) -> Self {
        match &self.kind {
            _ if self.ty == *ty => self,
            Kind::Literal(Datum::Null) => Self::null(ty.clone()),
            _ => Self { kind: Kind::Cast { input: Box::new(self), safe: false }, ty: ty.clone() },
        }
    }

    /// Nodes of it.
    pub fn size(&self) -> usize {
        1 + self.parts().into_iter().map(Expr::size).sum::<usize>()
    }

    /// The expressions it consists of.
    fn parts(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Slot(_) | Kind::Literal(_) => Vec::new(),
            Kind::Cast { input, .. }
            | Kind::Not(input)
            | Kind::IsNull(input)
            | Kind::IsTruth(input, _)
            | Kind::Negate(input)
            | Kind::Like(input, _) => vec![input],
            Kind::Compare(_, a, b) | Kind::Distinct(a, b) | Kind::Calculate(_, a, b) => vec![a, b],
            Kind::Row { fields: exprs, .. }
            | Kind::And(exprs)
            | Kind::Or(exprs)
            | Kind::Coalesce(exprs)
            | Kind::Call(_, exprs) => exprs.iter().collect(),
            Kind::In(input, list) => std::iter::once(&**input).chain(list).collect(),
            Kind::Case(branches, otherwise) => {
                branches.iter().flat_map(|(when, then)| [when, then]).chain([&**otherwise]).collect()
            }
        }
    }
}
