//! The filter expressions of `POST …/search`.
//!
//! What is published: `EQ NE LT LE GT GE` with a literal, `CONTAINS` (part of a text, member of a list, or an object of a list
//! that matches `{…}`), `IN [..]` with at most 100 literals, `SEARCH 'text'` over all fields, `NOT` before `AND` before `OR`,
//! parentheses, keywords in any case; literals `nil`, `true`, `false`, numbers, texts in single or double quotes, RFC 3339
//! times, lists; at most 8 different identifiers.
//!
//! What is not published is refused rather than guessed, since a driver must not depend on it: above all, no way is known to
//! put a quote into a text quoted with the same quote, or what a backslash means, so a backslash in a text is an error.

mod eval;
mod lex;
mod parse;

use serde_json::Value;

use crate::clock::Millis;

/// Most different identifiers in one expression.
const IDENTIFIERS: usize = 8;
/// Most literals in one list.
const LIST: usize = 100;

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Nil,
    Bool(bool),
    Number(f64),
    Text(String),
    Time(Millis),
    List(Vec<Literal>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// An expression. Made by [`Filter::parse`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    Compare(String, Test),
    Nested(String, Box<Filter>),
    Search(String),
}

/// What a field is held against.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    Is(Compare, Literal),
    Contains(Literal),
    In(Vec<Literal>),
}

impl Filter {
    /// Reads an expression. `known` says which identifiers may be filtered by, given the field they are nested in.
    ///
    /// # Errors
    /// What is wrong, with its place counted in characters.
    pub(crate) fn parse(text: &str, known: &dyn Fn(Option<&str>, &str) -> bool) -> Result<Filter, String> {
        parse::parse(lex::lex(text)?, known)
    }

    /// Whether an object matches.
    pub(crate) fn matches(&self, object: &serde_json::Map<String, Value>) -> bool {
        eval::matches(self, object)
    }
}

#[cfg(test)]
mod tests;
