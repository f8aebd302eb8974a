//! Environments and their hosts. The one change that matters to a driver: `nfs_addresses`, the list of who may mount.
//!
//! The list is replaced as a whole, so two writers that read, add and write lose one of the additions. That is the interface's,
//! and it is kept.

use serde_json::{Value, json};

use super::{find, not_simulated};
use crate::actions::Action;
use crate::dct::Dct;
use crate::http::{Call, Refused, Reply};
use crate::jobs::answer;
use crate::world::{Doc, Kind, text};

pub(super) fn serve(dct: &mut Dct, call: &Call) -> Reply {
    match (call.op.method.as_str(), call.op.path.as_str()) {
        ("GET", "/environments/hosts/{hostId}") => {
            let all = dct.world.all_seen(Kind::Environment).into_iter();
            let host = all.flat_map(hosts).find(|h| text(h, "id").as_deref() == Some(call.param(0)));
            let host = host.ok_or_else(|| Refused::gone("Host", call.param(0)))?;
            Ok((200, Some(Value::Object(host.clone()))))
        }
        ("GET", "/environments/{environmentId}/users") => {
            let env = find::shown(dct, Kind::Environment, call.param(0))?;
            Ok((200, Some(json!({"users": env.get("env_users").cloned().unwrap_or_else(|| json!([]))}))))
        }
        ("PATCH", "/environments/{environmentId}/hosts/{hostId}") => {
            let (env, host) = (call.param(0).to_owned(), call.param(1).to_owned());
            let doc = find::shown(dct, Kind::Environment, &env)?;
            let known = hosts(doc).find(|h| text(h, "id").as_deref() == Some(&host));
            let name = known.map(|h| text(h, "hostname").unwrap_or_default());
            let name = name.ok_or_else(|| Refused::gone("Host", &host))?;
            let addresses = call.body.get("nfs_addresses").and_then(Value::as_array);
            if let Some(wrong) = addresses.into_iter().flatten().find(|a| !a.as_str().is_some_and(is_address))
            {
                return Err(Refused::bad(format!("nfs_addresses: {wrong} is neither a host nor an address")));
            }
            let fields: Doc = call.body.clone();
            let action = Action::Host { env: env.clone(), host, fields };
            Ok((200, Some(answer(dct.start_job("HOST_UPDATE", (Kind::Environment, env), &name, action)))))
        }
        ("POST", path) => {
            let (job_type, on) = match path {
                "/environments/{environmentId}/enable" => ("ENVIRONMENT_ENABLE", Some(true)),
                "/environments/{environmentId}/disable" => ("ENVIRONMENT_DISABLE", Some(false)),
                "/environments/{environmentId}/refresh" => ("ENVIRONMENT_REFRESH", None),
                _ => return Err(not_simulated(call)),
            };
            let id = call.param(0).to_owned();
            let name = text(find::shown(dct, Kind::Environment, &id)?, "name").unwrap_or_default();
            let action = on.map_or(Action::Nothing, |on| Action::Switched {
                kind: Kind::Environment,
                id: id.clone(),
                on,
            });
            Ok((200, Some(answer(dct.start_job(job_type, (Kind::Environment, id), &name, action)))))
        }
        _ => Err(not_simulated(call)),
    }
}

/// The hosts of an environment.
pub(crate) fn hosts(env: &Doc) -> impl Iterator<Item = &Doc> {
    env.get("hosts").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// Whether a text can be the name or address of a client: it becomes an argument of `exportfs`.
pub(crate) fn is_address(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:/".contains(c))
}
