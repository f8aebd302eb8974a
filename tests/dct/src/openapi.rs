//! The specification that a DCT serves of itself, made from the interface table: the place to find out what a release can do.
//!
//! Only what feature detection reads is written: the version, the paths with their methods, the models with their fields.

use std::fmt::Write as _;

use crate::release::Release;
use crate::table::{Table, Type};

/// The specification of a release, YAML.
pub(crate) fn specification(table: &Table, release: Release) -> String {
    let mut out = String::new();
    // Writing into a String does not fail.
    let _ = write(&mut out, table, release);
    out
}

fn write(out: &mut String, table: &Table, release: Release) -> std::fmt::Result {
    writeln!(out, "openapi: 3.0.0\ninfo:\n  title: Delphix DCT API\n  version: {}", release.api())?;
    writeln!(out, "  description: simulated\nservers:\n- url: /dct/v3\npaths:")?;
    let mut last = "";
    for op in table.operations.iter().filter(|op| release.has_path(&op.path)) {
        if op.path != last {
            writeln!(out, "  {}:", op.path)?;
            last = &op.path;
        }
        writeln!(out, "    {}:", op.method.to_lowercase())?;
        writeln!(out, "      responses:\n        '200':\n          description: done")?;
    }
    writeln!(out, "components:\n  schemas:")?;
    for (name, fields) in &table.models {
        writeln!(out, "    {name}:\n      type: object\n      properties:")?;
        for (field, of) in fields.iter().filter(|(field, _)| release.has(field)) {
            writeln!(out, "        {field}:\n          {}", kind(&of.of))?;
        }
    }
    Ok(())
}

fn kind(of: &Type) -> String {
    let plain = match of {
        Type::String | Type::Date | Type::DateTime => "string",
        Type::Boolean => "boolean",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::List(_) => "array",
        Type::Any | Type::Map(_) => "object",
        Type::Model(name) => return format!("$ref: '#/components/schemas/{name}'"),
    };
    format!("type: {plain}")
}
