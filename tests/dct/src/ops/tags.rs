//! Tags: pairs of key and value on any object. They are DCT's own, so they show at once. A key may have several values.

use serde_json::{Value, json};

use super::find;
use crate::dct::Dct;
use crate::http::{Call, Refused, Reply};
use crate::world::Kind;

pub(super) fn serve(dct: &mut Dct, call: &Call, kind: Kind) -> Reply {
    let id = call.param(0);
    let mut tags =
        find::shown(dct, kind, id)?.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = call.body.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
    match (call.op.method.as_str(), call.op.path.ends_with("/delete")) {
        ("GET", _) => return Ok((200, Some(json!({ "tags": tags })))),
        (_, false) => {
            for tag in named {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
        (_, true) => {
            let (key, value) = (call.body.get("key"), call.body.get("value"));
            if key.is_none() && named.is_empty() {
                return Err(Refused::bad("DeleteTag: neither key nor tags is given"));
            }
            tags.retain(|tag| {
                let by_key = key.is_some_and(|k| Some(k) == tag.get("key"))
                    && value.is_none_or(|v| Some(v) == tag.get("value"));
                !by_key && !named.contains(tag)
            });
        }
    }
    dct.world.set_shown(kind, id, "tags", tags.clone());
    Ok(if call.op.path.ends_with("/delete") { (204, None) } else { (201, Some(json!({ "tags": tags }))) })
}
