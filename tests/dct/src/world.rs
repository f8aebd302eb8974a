//! The objects of a simulated DCT, twice: as the engine has them, and as DCT shows them.
//!
//! DCT learns of an engine's objects by telemetry, so what it shows lags what was done. Each object therefore holds the truth
//! and what is seen of it; a job changes the truth, and a while after the job has ended the truth becomes visible. Jobs,
//! bookmarks and tags belong to DCT itself and never lag.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Millis;
use crate::jobs::Run;

/// A JSON object.
pub(crate) type Doc = Map<String, Value>;

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Kind {
    Engine,
    Environment,
    Group,
    Dsource,
    Vdb,
    Timeflow,
    Snapshot,
    Bookmark,
    Job,
    Source,
    Toolkit,
}

impl Kind {
    /// Its model in the interface table.
    pub fn model(self) -> &'static str {
        match self {
            Kind::Engine => "RegisteredEngine",
            Kind::Environment => "Environment",
            Kind::Group => "DatasetGroup",
            Kind::Dsource => "DSource",
            Kind::Vdb => "VDB",
            Kind::Timeflow => "Timeflow",
            Kind::Snapshot => "Snapshot",
            Kind::Bookmark => "Bookmark",
            Kind::Job => "Job",
            Kind::Source => "Source",
            Kind::Toolkit => "Toolkit",
        }
    }

    /// The kind whose operations live below a path, `/vdbs`.
    pub fn of_path(path: &str) -> Option<Kind> {
        Some(match path.trim_start_matches('/').split('/').next()? {
            "management" => Kind::Engine,
            "environments" => Kind::Environment,
            "groups" => Kind::Group,
            "dsources" => Kind::Dsource,
            "vdbs" => Kind::Vdb,
            "timeflows" => Kind::Timeflow,
            "snapshots" => Kind::Snapshot,
            "bookmarks" => Kind::Bookmark,
            "jobs" => Kind::Job,
            "sources" => Kind::Source,
            "toolkits" => Kind::Toolkit,
            _ => return None,
        })
    }
}

/// Reference to an object.
pub(crate) type Ref = (Kind, String);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Object {
    /// Position in lists that are not sorted: the order of making.
    seq: u64,
    /// As the engine has it; none once it is gone there.
    truth: Option<Doc>,
    /// As DCT shows it; none before telemetry has seen it.
    seen: Option<Doc>,
    /// What the API has no field for.
    hidden: Doc,
}

/// Something that will happen at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Due {
    pub(crate) at: Millis,
    seq: u64,
    pub(crate) event: Event,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A job takes its next step.
    Job(String),
    /// The truth about these becomes visible.
    Sync(Vec<Ref>),
}

/// All there is. Written as it is into the state file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct World {
    pub(crate) now: Millis,
    objects: BTreeMap<Kind, BTreeMap<String, Object>>,
    counters: BTreeMap<String, u64>,
    due: Vec<Due>,
    pub(crate) runs: BTreeMap<String, Run>,
    touched: BTreeSet<Ref>,
    /// Counts changes, so that the state is written only when it has changed.
    pub(crate) changes: u64,
}

impl World {
    /// The next number of a counter, from 1.
    pub(crate) fn next(&mut self, counter: &str) -> u64 {
        self.changes += 1;
        let n = self.counters.entry(counter.to_owned()).or_default();
        *n += 1;
        *n
    }

    /// The next id of a kind of engine object: `1-APPDATA_CONTAINER-7`.
    pub(crate) fn next_id(&mut self, engine: &str, reference: &str) -> String {
        let n = self.next(&format!("{engine}-{reference}"));
        format!("{engine}-{reference}-{n}")
    }

    /// An object as DCT shows it.
    pub(crate) fn seen(&self, kind: Kind, id: &str) -> Option<&Doc> {
        self.objects.get(&kind)?.get(id)?.seen.as_ref()
    }

    /// An object as the engine has it.
    pub(crate) fn truth(&self, kind: Kind, id: &str) -> Option<&Doc> {
        self.objects.get(&kind)?.get(id)?.truth.as_ref()
    }

    /// All objects DCT shows of a kind, in the order they were made.
    pub(crate) fn all_seen(&self, kind: Kind) -> Vec<&Doc> {
        self.in_order(kind).into_iter().filter_map(|o| o.seen.as_ref()).collect()
    }

    /// All objects of a kind the engine has, in the order they were made.
    pub(crate) fn all_true(&self, kind: Kind) -> Vec<&Doc> {
        self.in_order(kind).into_iter().filter_map(|o| o.truth.as_ref()).collect()
    }

    fn in_order(&self, kind: Kind) -> Vec<&Object> {
        let mut all: Vec<&Object> = self.objects.get(&kind).into_iter().flat_map(BTreeMap::values).collect();
        all.sort_by_key(|o| o.seq);
        all
    }

    /// A text field of the truth.
    pub(crate) fn text(&self, kind: Kind, id: &str, field: &str) -> Option<String> {
        text(self.truth(kind, id)?, field)
    }

    /// What the API has no field for.
    pub(crate) fn hidden(&self, kind: Kind, id: &str, field: &str) -> Option<&Value> {
        self.objects.get(&kind)?.get(id)?.hidden.get(field)
    }

    /// Adds an object to the engine; DCT does not show it yet.
    pub(crate) fn add(&mut self, kind: Kind, id: &str, truth: Doc, hidden: Doc) {
        self.changes += 1;
        let seq = self.next("seq");
        let object = Object { seq, truth: Some(truth), seen: None, hidden };
        self.objects.entry(kind).or_default().insert(id.to_owned(), object);
        self.touched.insert((kind, id.to_owned()));
    }

    /// Adds an object that DCT shows at once.
    pub(crate) fn add_shown(&mut self, kind: Kind, id: &str, doc: Doc) {
        self.add(kind, id, doc, Doc::new());
        self.sync(kind, id);
    }

    /// Changes the truth about an object. Nothing happens if it is gone.
    pub(crate) fn edit(&mut self, kind: Kind, id: &str, change: impl FnOnce(&mut Doc)) {
        self.changes += 1;
        if let Some(truth) = self.object(kind, id).and_then(|o| o.truth.as_mut()) {
            change(truth);
            self.touched.insert((kind, id.to_owned()));
        }
    }

    /// Sets one field of the truth.
    pub(crate) fn set(&mut self, kind: Kind, id: &str, field: &str, value: impl Into<Value>) {
        let value = value.into();
        self.edit(kind, id, |doc| {
            doc.insert(field.to_owned(), value);
        });
    }

    /// Sets one field both in truth and as shown: for what belongs to DCT.
    pub(crate) fn set_shown(&mut self, kind: Kind, id: &str, field: &str, value: impl Into<Value>) {
        self.changes += 1;
        let value = value.into();
        if let Some(object) = self.object(kind, id) {
            for doc in [object.truth.as_mut(), object.seen.as_mut()].into_iter().flatten() {
                doc.insert(field.to_owned(), value.clone());
            }
        }
    }

    /// Sets what the API has no field for.
    pub(crate) fn hide(&mut self, kind: Kind, id: &str, field: &str, value: impl Into<Value>) {
        self.changes += 1;
        if let Some(object) = self.object(kind, id) {
            object.hidden.insert(field.to_owned(), value.into());
        }
    }

    /// Takes an object away from the engine; DCT goes on showing it until telemetry.
    pub(crate) fn remove(&mut self, kind: Kind, id: &str) {
        self.changes += 1;
        if let Some(object) = self.object(kind, id) {
            object.truth = None;
            self.touched.insert((kind, id.to_owned()));
        }
    }

    /// Makes the truth about an object visible.
    pub(crate) fn sync(&mut self, kind: Kind, id: &str) {
        self.changes += 1;
        self.touched.remove(&(kind, id.to_owned()));
        let Some(all) = self.objects.get_mut(&kind) else { return };
        match all.get_mut(id) {
            Some(object) if object.truth.is_some() => object.seen = object.truth.clone(),
            _ => {
                all.remove(id);
            }
        }
    }

    /// What was changed since this was last asked.
    pub(crate) fn take_touched(&mut self) -> Vec<Ref> {
        std::mem::take(&mut self.touched).into_iter().collect()
    }

    /// Makes all that was changed visible at once.
    pub(crate) fn sync_touched(&mut self) {
        for (kind, id) in self.take_touched() {
            self.sync(kind, &id);
        }
    }

    pub(crate) fn schedule(&mut self, after: Millis, event: Event) {
        let seq = self.next("due");
        self.due.push(Due { at: self.now.saturating_add(after), seq, event });
    }

    /// Takes the earliest event that is due by `now`.
    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<Due> {
        let (n, _) = self.due.iter().enumerate().min_by_key(|(_, d)| (d.at, d.seq))?;
        (self.due.get(n)?.at <= now).then(|| {
            self.changes += 1;
            self.due.swap_remove(n)
        })
    }

    fn object(&mut self, kind: Kind, id: &str) -> Option<&mut Object> {
        self.objects.get_mut(&kind)?.get_mut(id)
    }
}

/// A text field of a document.
pub(crate) fn text(doc: &Doc, field: &str) -> Option<String> {
    doc.get(field)?.as_str().map(str::to_owned)
}

/// Whether a field is there and true.
pub(crate) fn flag(doc: &Doc, field: &str) -> bool {
    doc.get(field).and_then(Value::as_bool).unwrap_or(false)
}

/// An object of these fields, without those that are null.
pub(crate) fn doc(value: Value) -> Doc {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, v)| !v.is_null()).collect(),
        _ => Doc::new(),
    }
}
