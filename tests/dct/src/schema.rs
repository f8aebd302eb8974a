//! Checks a JSON document against a model of the interface table: requests on the way in, answers on the way out.
//!
//! An unknown field, a value of another type, a missing required field and a value outside an enumeration are each named with
//! their path in the document. `null` passes where a field is optional: the vendor's clients send it for "not set".

use serde_json::Value;

use crate::release::Release;
use crate::table::{Field, Table, Type};

/// All that is wrong with `value` as a `model`, by release of DCT (a field that came later is unknown before).
pub fn check_model(table: &Table, release: Release, model: &str, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = Check { table, release, wrong: &mut wrong };
    check.model(model, value, "");
    wrong
}

/// Whether text is a value of a type, for parameters in a query.
pub(crate) fn check_text(of: &Type, text: &str) -> bool {
    match of {
        Type::Integer => text.parse::<i64>().is_ok(),
        Type::Number => text.parse::<f64>().is_ok(),
        Type::Boolean => matches!(text, "true" | "false"),
        Type::DateTime => is_date_time(text),
        Type::Date => is_date(text),
        _ => true,
    }
}

struct Check<'a> {
    table: &'a Table,
    release: Release,
    wrong: &'a mut Vec<String>,
}

impl Check<'_> {
    fn model(&mut self, name: &str, value: &Value, at: &str) {
        if let Some(field) = self.table.alias(name) {
            return self.field(&field.clone(), value, at);
        }
        let Some(fields) = self.table.model(name) else {
            // One enumeration has no values in the table.
            return self.expect(value.is_string(), at, "text");
        };
        let Some(doc) = value.as_object() else {
            return self.expect(false, at, "an object");
        };
        for (key, item) in doc {
            let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            match fields.get(key) {
                Some(_) if !self.release.has(key) => self.wrong.push(format!("{path} is not known")),
                Some(field) if item.is_null() && !field.required => {}
                Some(field) => self.field(field, item, &path),
                None => self.wrong.push(format!("{path} is not known")),
            }
        }
        for key in fields.iter().filter(|(_, f)| f.required).map(|(key, _)| key) {
            if !doc.contains_key(key) {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                self.wrong.push(format!("{path} is required"));
            }
        }
    }

    fn field(&mut self, field: &Field, value: &Value, at: &str) {
        let before = self.wrong.len();
        self.of(&field.of, value, at);
        if self.wrong.len() == before && !field.allowed.is_empty() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let one = field.allowed.contains(&text);
            self.expect(one, at, &format!("one of {}", field.allowed.join(", ")));
        }
    }

    fn of(&mut self, of: &Type, value: &Value, at: &str) {
        match of {
            Type::Any => {}
            Type::String => self.expect(value.is_string(), at, "text"),
            Type::Boolean => self.expect(value.is_boolean(), at, "true or false"),
            Type::Integer => self.expect(value.is_i64() || value.is_u64(), at, "a whole number"),
            Type::Number => self.expect(value.is_number(), at, "a number"),
            Type::Date => self.expect(value.as_str().is_some_and(is_date), at, "a date"),
            Type::DateTime => self.expect(value.as_str().is_some_and(is_date_time), at, "a date and time"),
            Type::Model(name) => self.model(name, value, at),
            Type::Map(of) => {
                self.object(value, at);
                for (key, item) in value.as_object().into_iter().flatten() {
                    self.of(of, item, &format!("{at}.{key}"));
                }
            }
            Type::List(of) => {
                self.expect(value.is_array(), at, "a list");
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.of(of, item, &format!("{at}[{n}]"));
                }
            }
        }
    }

    fn object(&mut self, value: &Value, at: &str) {
        self.expect(value.is_object(), at, "an object");
    }

    fn expect(&mut self, holds: bool, at: &str, what: &str) {
        if !holds {
            let at = if at.is_empty() { "the document" } else { at };
            self.wrong.push(format!("{at} is not {what}"));
        }
    }
}

fn is_date(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10
}

fn is_date_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_refused_for_what_its_model_does_not_allow() {
        fn check(model: &str, value: Value, expect: &[&str]) {
            let got = check_model(Table::get(), Release::LATEST, model, &value);
            assert_eq!(got, expect, "{model} {value}");
        }
        check("EnableVDBParameters", json!({"attempt_start": false, "ownership_spec": "999:999"}), &[]);
        check("EnableVDBParameters", json!({"attempt_start": null}), &[]);
        check("EnableVDBParameters", json!({"attempt_start": "no"}), &["attempt_start is not true or false"]);
        check("EnableVDBParameters", json!({"atempt_start": false}), &["atempt_start is not known"]);
        check("EnableVDBParameters", json!([]), &["the document is not an object"]);
        check("TagsRequest", json!({}), &["tags is required"]);
        check("TagsRequest", json!({"tags": [{"key": "a"}]}), &["tags[0].value is required"]);
        check("TagsRequest", json!({"tags": {}}), &["tags is not a list"]);
        check(
            "BookmarkCreateParameters",
            json!({"name": "a", "bookmark_type": "SECRET"}),
            &["bookmark_type is not one of PUBLIC, PRIVATE"],
        );
        check(
            "BookmarkCreateParameters",
            json!({"name": "a", "expiration": "tomorrow"}),
            &["expiration is not a date"],
        );
        check("UpdateSnapshotParameters", json!({"expiration": "2026-12-31"}), &[]);
        check("VDB", json!({"creation_date": "2026-12-31"}), &["creation_date is not a date and time"]);
        check(
            "VDB",
            json!({"containerization_state": "SHIPPED"}),
            &[
                "containerization_state is not one of NOT_CONTAINERIZED, READY_FOR_CONTAINER, RUNNING_IN_CONTAINER",
            ],
        );
    }
}
