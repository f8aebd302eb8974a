//! What a request means by an id or a name.
//!
//! Many request fields take a name in place of an id. A name that several objects have is refused with their ids, as there is no
//! telling which was meant.

use crate::clock;
use crate::dct::Dct;
use crate::http::Refused;
use crate::world::{Doc, Kind, flag, text};

/// An object that DCT shows, by id.
pub(super) fn shown<'a>(dct: &'a Dct, kind: Kind, id: &str) -> Result<&'a Doc, Refused> {
    dct.world.seen(kind, id).ok_or_else(|| Refused::gone(kind.model(), id))
}

/// The id of an object that DCT shows, by id or by a name that only it has; on one engine, if one is given.
pub(super) fn id(dct: &Dct, kind: Kind, wanted: &str, engine: Option<&str>) -> Result<String, Refused> {
    if let Some(doc) = dct.world.seen(kind, wanted) {
        return match engine {
            Some(engine) if text(doc, "engine_id").as_deref() != Some(engine) => {
                Err(Refused::new(404, format!("{} {wanted} is not on engine {engine}", kind.model())))
            }
            _ => Ok(wanted.to_owned()),
        };
    }
    let all = dct.world.all_seen(kind).into_iter();
    let named = all.filter(|d| text(d, "name").as_deref() == Some(wanted));
    let named = named.filter(|d| engine.is_none() || text(d, "engine_id").as_deref() == engine);
    let ids: Vec<String> = named.filter_map(|d| text(d, "id")).collect();
    match ids.as_slice() {
        [] => Err(Refused::gone(kind.model(), wanted)),
        [one] => Ok(one.clone()),
        _ => Err(Refused::bad(format!(
            "{} {wanted:?} is the name of several: {}",
            kind.model(),
            ids.join(", ")
        ))),
    }
}

/// A dSource or VDB by id or name.
pub(super) fn dataset(dct: &Dct, wanted: &str) -> Result<(Kind, String), Refused> {
    match (id(dct, Kind::Dsource, wanted, None), id(dct, Kind::Vdb, wanted, None)) {
        (Ok(dsource), Err(e)) if e.status == 404 => Ok((Kind::Dsource, dsource)),
        (Err(e), Ok(vdb)) if e.status == 404 => Ok((Kind::Vdb, vdb)),
        (Ok(_), Ok(_)) => Err(Refused::bad(format!("{wanted:?} is the name of a dSource and of a VDB"))),
        (Err(e), _) if e.status == 404 => Err(Refused::gone("dataset", wanted)),
        (Err(e), _) | (_, Err(e)) => Err(e),
    }
}

/// The newest snapshot of a dataset that DCT shows, at or before a time if one is given, of one timeflow if one is given.
pub(super) fn newest(
    dct: &Dct,
    dataset: &str,
    until: Option<&str>,
    flow: Option<&str>,
) -> Result<Doc, Refused> {
    let until = match until {
        Some(text) => Some(
            clock::parse(text).ok_or_else(|| Refused::bad(format!("timestamp is not a time: {text:?}")))?,
        ),
        None => None,
    };
    let at = |doc: &&Doc| text(doc, "timestamp").and_then(|t| clock::parse(&t)).unwrap_or_default();
    let all = dct.world.all_seen(Kind::Snapshot).into_iter();
    let of = all.filter(|d| text(d, "dataset_id").as_deref() == Some(dataset));
    let of = of.filter(|d| flow.is_none() || text(d, "timeflow_id").as_deref() == flow);
    // Of two at one time the one made later counts.
    let best = of.filter(|d| until.is_none_or(|until| at(d) <= until)).max_by_key(at);
    best.cloned().ok_or_else(|| Refused::bad(format!("dataset {dataset} has no snapshot at that point")))
}

/// A VDB that may be changed: DCT shows it and nobody locked it.
pub(super) fn unlocked(dct: &Dct, id: &str) -> Result<Doc, Refused> {
    let doc = shown(dct, Kind::Vdb, id)?;
    if flag(doc, "is_locked") {
        return Err(Refused::bad(format!("VDB {id} is locked")));
    }
    Ok(doc.clone())
}
