//! Filters and orders of a search, as the Data Control Tower's grammar has them.
//!
//! Values come from users: a name with a quote in it must not become a piece of the expression. The grammar publishes
//! two kinds of quotes and no escape, so a text goes between the quotes that it does not hold, and one that holds both,
//! a backslash (of unknown meaning) or a control character is refused. A filter that is refused stays so whatever it is joined
//! with, and no request is made with it.

use std::collections::BTreeSet;

use super::fault::{Failure, Fault, Result};

/// Most values of an `IN`.
pub(super) const MOST_VALUES: usize = 100;
/// Most different fields of an expression.
const MOST_FIELDS: usize = 8;
/// Most characters of an expression.
const LONGEST: usize = 50_000;

/// Which objects are searched for.
#[derive(Debug, Clone)]
pub struct Filter(Option<Result<Expression>>);

#[derive(Debug, Clone)]
struct Expression {
    text: String,
    fields: BTreeSet<&'static str>,
    /// Whether it is joined by OR, which binds less than AND.
    loose: bool,
}

impl Filter {
    /// Everything.
    pub fn all() -> Filter {
        Filter(None)
    }

    /// Those whose `field` is this text.
    pub fn eq(field: &'static str, text: &str) -> Filter {
        Filter::of(field, quote(field, text).map(|text| format!("{field} EQ {text}")))
    }

    /// Those whose `field` is not this text.
    pub fn ne(field: &'static str, text: &str) -> Filter {
        Filter::of(field, quote(field, text).map(|text| format!("{field} NE {text}")))
    }

    /// Those whose `field` is set or not.
    pub fn is(field: &'static str, set: bool) -> Filter {
        Filter::of(field, Ok(format!("{field} EQ {set}")))
    }

    /// Those whose list `field` has this text, or whose text `field` has it within.
    pub fn contains(field: &'static str, text: &str) -> Filter {
        Filter::of(field, quote(field, text).map(|text| format!("{field} CONTAINS {text}")))
    }

    /// Those whose time `field` is `at` or later.
    pub fn since(field: &'static str, at: jiff::Timestamp) -> Filter {
        Filter::of(field, Ok(format!("{field} GE {at}")))
    }

    /// Those whose time `field` is `at` or earlier.
    pub fn until(field: &'static str, at: jiff::Timestamp) -> Filter {
        Filter::of(field, Ok(format!("{field} LE {at}")))
    }

    /// Those whose `field` is one of these texts, at most 100.
    pub fn is_in<T: AsRef<str>>(field: &'static str, texts: &[T]) -> Filter {
        if texts.is_empty() || texts.len() > MOST_VALUES {
            let why = format!("{field}: a filter takes 1 to {MOST_VALUES} values, not {}", texts.len());
            return Filter(Some(Err(Failure::new(Fault::Invalid, why))));
        }
        let quoted: Result<Vec<_>> = texts.iter().map(|text| quote(field, text.as_ref())).collect();
        Filter::of(field, quoted.map(|quoted| format!("{field} IN [{}]", quoted.join(", "))))
    }

    /// Those that have this tag.
    pub fn tag(key: &str, value: &str) -> Filter {
        let inner = || {
            Ok(format!("tags CONTAINS {{key EQ {} AND value EQ {}}}", quote("tag", key)?, quote(key, value)?))
        };
        Filter::over(["tags", "key", "value"], inner())
    }

    /// Those that have a tag of this key.
    pub fn tag_key(key: &str) -> Filter {
        Filter::over(["tags", "key"], quote("tag", key).map(|key| format!("tags CONTAINS {{key EQ {key}}}")))
    }

    /// Those that both let through.
    #[must_use]
    pub fn and(self, other: Filter) -> Filter {
        self.join(other, "AND")
    }

    /// Those that either lets through.
    #[must_use]
    pub fn or(self, other: Filter) -> Filter {
        match (&self.0, &other.0) {
            // Everything or something is everything.
            (None, Some(Ok(_))) | (Some(Ok(_)), None) => Filter(None),
            _ => self.join(other, "OR"),
        }
    }

    fn of(field: &'static str, text: Result<String>) -> Filter {
        Filter::over([field], text)
    }

    fn over<const N: usize>(fields: [&'static str; N], text: Result<String>) -> Filter {
        Filter(Some(text.map(|text| Expression { text, fields: fields.into(), loose: false })))
    }

    fn join(self, other: Filter, word: &str) -> Filter {
        let loose = word == "OR";
        let (left, right) = match (self.0, other.0) {
            (None, one) | (one, None) => return Filter(one),
            (Some(Err(failure)), _) | (_, Some(Err(failure))) => return Filter(Some(Err(failure))),
            (Some(Ok(left)), Some(Ok(right))) => (left, right),
        };
        let side =
            |of: &Expression| if of.loose && !loose { format!("({})", of.text) } else { of.text.clone() };
        let text = format!("{} {word} {}", side(&left), side(&right));
        Filter(Some(Ok(Expression { text, fields: &left.fields | &right.fields, loose })))
    }

    /// The expression; `None` for everything.
    pub(super) fn expression(&self) -> Result<Option<&str>> {
        let Some(expression) = &self.0 else { return Ok(None) };
        let expression = expression.as_ref().map_err(Clone::clone)?;
        let refuse = |why: String| Err(Failure::new(Fault::Invalid, why));
        if expression.fields.len() > MOST_FIELDS {
            return refuse(format!(
                "a filter names {} fields; {MOST_FIELDS} are allowed",
                expression.fields.len()
            ));
        }
        if expression.text.chars().count() > LONGEST {
            return refuse(format!("a filter is longer than {LONGEST} characters"));
        }
        Ok(Some(&expression.text))
    }
}

/// The text as a literal of the grammar.
pub(super) fn quote(field: &str, text: &str) -> Result<String> {
    let refuse = |what: &str| {
        let shown = super::text::shorten(&text.escape_debug().to_string(), 80);
        Err(Failure::new(
            Fault::Invalid,
            format!(
                "{field}: `{shown}` has {what}, which a search of the DCT cannot express; give the id of the object"
            ),
        ))
    };
    if text.chars().any(char::is_control) {
        return refuse("a control character");
    }
    if text.contains('\\') {
        return refuse("a backslash");
    }
    match (text.contains('\''), text.contains('"')) {
        (false, _) => Ok(format!("'{text}'")),
        (true, false) => Ok(format!("\"{text}\"")),
        (true, true) => refuse("both kinds of quotes"),
    }
}

/// In which order a search answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// As the DCT likes.
    Any,
    /// The smallest, the earliest first.
    Up(&'static str),
    /// The largest, the latest first.
    Down(&'static str),
}

impl Sort {
    pub(super) fn parameter(self) -> Option<String> {
        match self {
            Sort::Any => None,
            Sort::Up(field) => Some(field.to_owned()),
            Sort::Down(field) => Some(format!("-{field}")),
        }
    }
}
