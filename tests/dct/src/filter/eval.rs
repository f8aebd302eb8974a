//! Whether an object matches. A field that is absent is `nil`, which equals only `nil` and is in no order.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{Compare, Filter, Literal, Test};
use crate::clock;

pub(super) fn matches(filter: &Filter, object: &Map<String, Value>) -> bool {
    match filter {
        Filter::And(a, b) => matches(a, object) && matches(b, object),
        Filter::Or(a, b) => matches(a, object) || matches(b, object),
        Filter::Not(a) => !matches(a, object),
        Filter::Search(text) => object.values().any(|v| holds(v, &text.to_lowercase())),
        Filter::Nested(name, inner) => match object.get(name) {
            Some(Value::Array(items)) => {
                items.iter().any(|i| i.as_object().is_some_and(|o| matches(inner, o)))
            }
            Some(Value::Object(one)) => matches(inner, one),
            _ => false,
        },
        Filter::Compare(name, test) => compare(object.get(name).unwrap_or(&Value::Null), test),
    }
}

fn compare(value: &Value, test: &Test) -> bool {
    match test {
        Test::Is(Compare::Eq, literal) => equal(value, literal),
        Test::Is(Compare::Ne, literal) => !equal(value, literal),
        Test::Is(op, literal) => order(value, literal).is_some_and(|order| match op {
            Compare::Lt => order == Ordering::Less,
            Compare::Le => order != Ordering::Greater,
            Compare::Gt => order == Ordering::Greater,
            _ => order != Ordering::Less,
        }),
        Test::In(items) => items.iter().any(|literal| equal(value, literal)),
        Test::Contains(literal) => match (value, literal) {
            (Value::String(text), Literal::Text(part)) => text.contains(part.as_str()),
            (Value::Array(items), literal) => items.iter().any(|item| equal(item, literal)),
            _ => false,
        },
    }
}

fn equal(value: &Value, literal: &Literal) -> bool {
    match (value, literal) {
        (Value::Null, Literal::Nil) => true,
        (Value::Bool(a), Literal::Bool(b)) => a == b,
        (Value::Array(a), Literal::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        _ => order(value, literal) == Some(Ordering::Equal),
    }
}

fn order(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Number(a), Literal::Number(b)) => a.as_f64()?.partial_cmp(b),
        (Value::String(a), Literal::Time(b)) => Some(clock::parse(a)?.cmp(b)),
        // A time in quotes is compared as a time where the field holds one.
        (Value::String(a), Literal::Text(b)) => match (clock::parse(a), clock::parse(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => Some(a.as_str().cmp(b.as_str())),
        },
        _ => None,
    }
}

fn holds(value: &Value, part: &str) -> bool {
    match value {
        Value::String(text) => text.to_lowercase().contains(part),
        Value::Number(number) => number.to_string().contains(part),
        Value::Array(items) => items.iter().any(|v| holds(v, part)),
        Value::Object(fields) => fields.values().any(|v| holds(v, part)),
        _ => false,
    }
}
