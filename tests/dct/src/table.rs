//! The interface table: every operation and model that DCT publishes, with names, types and required flags.
//!
//! The simulator must refuse what the vendor's published interface does not have, and must not answer with anything it does
//! not have either. Both checks read this one table (`data/dct-v3-interface.tsv`, facts only), so neither side can drift from
//! it. Routing is by the table too: an operation that is in it and not simulated answers 501, anything else 404 or 405.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The type of a field or parameter, as the table writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// true or false.
    Boolean,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// A day, `2026-01-31`.
    Date,
    /// RFC 3339 date and time.
    DateTime,
    /// Anything JSON can say.
    Any,
    /// A JSON array of one type.
    List(Box<Type>),
    /// A JSON object with free keys.
    Map(Box<Type>),
    /// A model of the table, by name.
    Model(String),
}

impl Type {
    fn parse(text: &str) -> Type {
        let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|t| t.strip_suffix('>'));
        if let Some(of) = inner("list<") {
            return Type::List(Box::new(Type::parse(of)));
        }
        if let Some(of) = inner("map<string,") {
            return Type::Map(Box::new(Type::parse(of)));
        }
        match text {
            "string" | "IOBase" => Type::String,
            "boolean" => Type::Boolean,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "date" => Type::Date,
            "date-time" => Type::DateTime,
            _ if text.contains('|') => Type::Any,
            name => Type::Model(name.to_owned()),
        }
    }
}

/// One field of a model.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its type.
    pub of: Type,
    /// Whether a document without it is refused.
    pub required: bool,
    /// The only values allowed, in text; empty for any.
    pub allowed: Vec<String>,
}

/// One operation: a method on a path template.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `POST /vdbs/{vdbId}/enable`: what counts, faults and logs call it.
    pub name: String,
    /// The HTTP method.
    pub method: String,
    /// The path template, from the base path on.
    pub path: String,
    /// Model of the request body.
    pub body: Option<String>,
    /// Whether a request without a body is refused.
    pub body_required: bool,
    /// Model of the answer; none where the answer has no body.
    pub answer: Option<String>,
    /// Query parameters: name, type, required.
    pub query: Vec<(String, Type, bool)>,
}

/// Where a request leads by the table.
#[derive(Debug)]
pub enum Route<'a> {
    /// To this operation, with these path parameters in order.
    To(&'a Operation, Vec<String>),
    /// The path is known, the method is not.
    Method,
    /// The path is not known.
    Nowhere,
}

/// All operations and models.
#[derive(Debug, Default)]
pub struct Table {
    /// Operations in the order of the file.
    pub operations: Vec<Operation>,
    /// Fields by model. A model that is a plain value has the single field `value`.
    pub models: BTreeMap<String, BTreeMap<String, Field>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("../data/dct-v3-interface.tsv")));

impl Table {
    /// The table of this build.
    pub fn get() -> &'static Table {
        &TABLE
    }

    fn parse(text: &str) -> Table {
        let mut table = Table::default();
        for line in text.lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            let column = |n: usize| columns.get(n).copied().unwrap_or_default();
            match column(0) {
                "op" => {
                    table.operations.push(operation(column(1), column(2), column(3), column(4), column(5)))
                }
                // A line without a field says what a model is put together from; its fields follow anyway.
                "model" if !column(2).is_empty() => {
                    let field = Field {
                        of: Type::parse(column(3)),
                        required: column(4) == "required",
                        allowed: column(5).split_whitespace().map(str::to_owned).collect(),
                    };
                    table.models.entry(column(1).to_owned()).or_default().insert(column(2).to_owned(), field);
                }
                _ => {}
            }
        }
        table
    }

    /// The operation of a method and a path (without base path and query). Literal segments win over parameters.
    pub fn route(&self, method: &str, path: &str) -> Route<'_> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let mut best: Option<(usize, &Operation, Vec<String>)> = None;
        let mut known = false;
        for op in &self.operations {
            let Some(params) = fits(&op.path, &segments) else { continue };
            known = true;
            if op.method == method && best.as_ref().is_none_or(|(n, ..)| params.len() < *n) {
                best = Some((params.len(), op, params));
            }
        }
        match best {
            Some((_, op, params)) => Route::To(op, params),
            None if known => Route::Method,
            None => Route::Nowhere,
        }
    }

    /// The operation of this name, `POST /vdbs/search`.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.iter().find(|op| op.name == name)
    }

    /// The fields of a model.
    pub fn model(&self, name: &str) -> Option<&BTreeMap<String, Field>> {
        self.models.get(name)
    }

    /// What a plain-value model (an enumeration, a named list) stands for.
    pub fn alias(&self, name: &str) -> Option<&Field> {
        let fields = self.models.get(name)?;
        if fields.len() == 1 { fields.get("value") } else { None }
    }
}

fn operation(path: &str, method: &str, body: &str, answer: &str, params: &str) -> Operation {
    let query = params.split_whitespace().filter_map(|p| {
        let (name, of) = p.strip_suffix("(query)")?.split_once(':')?;
        Some((name.trim_end_matches('*').to_owned(), Type::parse(of), name.ends_with('*')))
    });
    let text = |t: &str| (!t.is_empty()).then(|| t.trim_end_matches('?').to_owned());
    Operation {
        name: format!("{method} {path}"),
        method: method.to_owned(),
        path: path.to_owned(),
        body: text(body),
        body_required: !body.is_empty() && !body.ends_with('?'),
        answer: text(answer),
        query: query.collect(),
    }
}

fn fits(template: &str, segments: &[&str]) -> Option<Vec<String>> {
    let wanted: Vec<&str> = template.trim_start_matches('/').split('/').collect();
    if wanted.len() != segments.len() {
        return None;
    }
    let mut params = Vec::new();
    for (want, have) in wanted.iter().zip(segments) {
        if want.starts_with('{') {
            if have.is_empty() {
                return None;
            }
            params.push(percent_encoding::percent_decode_str(have).decode_utf8_lossy().into_owned());
        } else if want != have {
            return None;
        }
    }
    Some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_the_operation_that_names_most_of_it() {
        fn check(method: &str, path: &str, expect: &str) {
            let got = match Table::get().route(method, path) {
                Route::To(op, params) => format!("{} {params:?}", op.name),
                Route::Method => "405".to_owned(),
                Route::Nowhere => "404".to_owned(),
            };
            assert_eq!(got, expect, "{method} {path}");
        }
        check("GET", "/vdbs", "GET /vdbs []");
        check("POST", "/vdbs/search", "POST /vdbs/search []");
        check("GET", "/snapshots/find_by_timestamp", "GET /snapshots/find_by_timestamp []");
        check("GET", "/vdbs/1-APPDATA_CONTAINER-2", r#"GET /vdbs/{vdbId} ["1-APPDATA_CONTAINER-2"]"#);
        check("GET", "/vdbs/a%20b", r#"GET /vdbs/{vdbId} ["a b"]"#);
        check("PUT", "/vdbs", "405");
        check("GET", "/vdbs/", "404");
        check("GET", "/nothing", "404");
    }

    #[test]
    fn every_model_that_an_operation_names_is_in_the_table_or_is_a_plain_type() {
        let table = Table::get();
        assert_eq!(table.operations.len(), 201);
        for op in &table.operations {
            for name in op.body.iter().chain(&op.answer) {
                let plain = !matches!(Type::parse(name), Type::Model(_));
                assert!(plain || table.model(name).is_some(), "{} names {name}", op.name);
            }
        }
    }
}
