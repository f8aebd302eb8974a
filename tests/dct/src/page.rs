//! Lists: a filter, an order, and a page of it behind a cursor.
//!
//! `limit` is 1 to 1000, 100 if not given. A cursor is opaque; one that was not given out is refused. `total` is never answered,
//! as a real DCT may leave it out. The order of a list that is not sorted is that of making.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::filter::Filter;
use crate::http::{Call, Refused};
use crate::table::{Table, Type};
use crate::world::Doc;

const LIMIT: usize = 100;
const MOST: usize = 1000;
/// Keeps a cursor from looking like a number to count on.
const VEIL: u64 = 0x5eed_0ff5_4007_d0c7;

/// The page of `docs` that a call asks for, as `{items, response_metadata}`.
pub(crate) fn page(call: &Call, model: &str, docs: Vec<&Doc>) -> Result<Value, Refused> {
    let mut docs = docs;
    if let Some(text) = call.body.get("filter_expression").and_then(Value::as_str) {
        let filter = filter(call, model, text)?;
        docs.retain(|doc| filter.matches(doc));
    }
    if let Some(sort) = call.query("sort") {
        let (field, down) = sort.strip_prefix('-').map_or((sort, false), |field| (field, true));
        if Table::get().model(model).is_none_or(|fields| !fields.contains_key(field))
            || !call.release.has(field)
        {
            return Err(Refused::bad(format!("sort: {field:?} is not a field to sort by")));
        }
        docs.sort_by(|a, b| {
            let order = order(a.get(field), b.get(field));
            if down { order.reverse() } else { order }
        });
    }
    let limit = call.query("limit").map_or(Some(LIMIT), |l| l.parse().ok());
    let limit = limit.filter(|l| (1..=MOST).contains(l));
    let limit = limit.ok_or_else(|| Refused::bad(format!("limit is not between 1 and {MOST}")))?;
    let from = match call.query("cursor") {
        Some(cursor) => {
            read(cursor).ok_or_else(|| Refused::bad("cursor is not one that was given out".to_owned()))?
        }
        None => 0,
    };
    let next = (from + limit < docs.len()).then(|| write(from + limit));
    let prev = (from > 0).then(|| write(from.saturating_sub(limit)));
    let items: Vec<&Doc> = docs.into_iter().skip(from).take(limit).collect();
    let mut metadata = Doc::new();
    for (name, cursor) in [("next_cursor", next), ("prev_cursor", prev)] {
        if let Some(cursor) = cursor {
            metadata.insert(name.to_owned(), cursor.into());
        }
    }
    Ok(json!({ "items": items, "response_metadata": metadata }))
}

fn filter(call: &Call, model: &str, text: &str) -> Result<Filter, Refused> {
    let most = if call.release >= crate::release::Release::DATED { 50_000 } else { 2_000 };
    if !(5..=most).contains(&text.chars().count()) {
        return Err(Refused::bad(format!("filter_expression has not between 5 and {most} characters")));
    }
    let table = Table::get();
    let known = |inside: Option<&str>, name: &str| {
        let Some(fields) = table.model(model).filter(|_| call.release.has(name)) else { return false };
        let Some(inside) = inside else { return fields.contains_key(name) };
        let inner = match fields.get(inside).map(|f| &f.of) {
            Some(Type::List(of)) => of,
            Some(of) => of,
            None => return false,
        };
        matches!(inner, Type::Model(inner) if table.model(inner).is_some_and(|f| f.contains_key(name)))
    };
    Filter::parse(text, &known).map_err(|e| Refused::bad(format!("filter_expression: {e}")))
}

/// Order of two values of one field: what is absent comes first, other things by their text.
fn order(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (Some(a), Some(b)) => a.to_string().cmp(&b.to_string()),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

fn write(at: usize) -> String {
    format!("{:016x}", (at as u64) ^ VEIL)
}

fn read(cursor: &str) -> Option<usize> {
    let at = u64::from_str_radix(cursor, 16).ok().filter(|_| cursor.len() == 16)? ^ VEIL;
    usize::try_from(at).ok().filter(|at| *at < 1 << 32)
}
