//! A Data Control Tower as the use cases see it: what is there.
//!
//! A search reads all its pages. A DCT that says it could not ask an engine gives a list that lacks that engine's objects; taken for
//! the truth, it would make a second VDB of a name, so such a list is an error.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::capabilities::Known;
use super::fault::{Failure, Fault, Result};
use super::filter::{Filter, Sort};
use super::kinds::{Kind, Object};
use super::model::{Bookmark, DSource, Engine, Environment, Group, Job, Snapshot, Timeflow, Toolkit, Vdb};
use super::poll::Poll;
use super::settings::{DctSettings, Settings, Timing};
use super::text::shorten;
use super::transport::{Ask, Transport};
use crate::metrics::DctFigures;
use crate::volume::{self, Error};

/// Most pages of one search: far above any real one.
const MOST_PAGES: usize = 10_000;

/// Every DCT that the settings name.
#[derive(Clone, Default)]
pub struct Dcts(Vec<Dct>);

impl Dcts {
    /// Prepares the way to each DCT; nothing is asked of them yet.
    ///
    /// Fails where a setting is wrong; names its key.
    pub fn open(settings: Settings) -> volume::Result<Dcts> {
        Dcts::open_counted(settings, &DctFigures::default())
    }

    /// The same, counting into `figures`.
    pub fn open_counted(settings: Settings, figures: &DctFigures) -> volume::Result<Dcts> {
        settings.check()?;
        crate::tls::install_provider();
        let open = |settings: DctSettings| {
            let name = settings.name.clone();
            Dct::open(settings, figures.clone()).map_err(|error| error.context(format!("dct `{name}`")))
        };
        settings.dcts.into_iter().map(open).collect::<volume::Result<_>>().map(Dcts)
    }

    /// The DCT of that name in the settings.
    pub fn get(&self, name: &str) -> volume::Result<&Dct> {
        self.0.iter().find(|dct| dct.name() == name).ok_or_else(|| {
            let why = format!("`{}` is not one of {}", name.escape_debug(), self.names());
            Error::invalid("dct", why)
        })
    }

    /// The only DCT there is, where nothing says which.
    pub fn only(&self) -> volume::Result<&Dct> {
        match self.0.as_slice() {
            [one] => Ok(one),
            _ => Err(Error::invalid("dct", format!("is not given; say which of {}", self.names()))),
        }
    }

    /// All of them, in the order of the settings.
    pub fn iter(&self) -> impl Iterator<Item = &Dct> {
        self.0.iter()
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|dct| format!("`{}`", dct.name())).collect();
        if names.is_empty() { "none: no [[dct]] is configured".to_owned() } else { names.join(", ") }
    }
}

/// One DCT. Cheap to clone: all clones share the connections and the loop that waits.
#[derive(Clone)]
pub struct Dct(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) transport: Transport,
    pub(super) poll: Poll,
    pub(super) known: Known,
}

impl std::fmt::Debug for Dct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dct").field(&self.name()).finish()
    }
}

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    items: Option<Vec<Value>>,
    #[serde(default)]
    response_metadata: Option<Metadata>,
    /// What is not in it, and why.
    #[serde(default)]
    errors: Option<Value>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    next_cursor: Option<String>,
}

impl Dct {
    fn open(settings: DctSettings, figures: DctFigures) -> volume::Result<Dct> {
        if settings.insecure_skip_verify {
            tracing::warn!(
                dct = settings.name,
                "insecure-skip-verify is set: the certificate of this DCT is NOT checked, and whoever is on the way \
                 can read the API key and answer in its place; give its authority by ca-file instead"
            );
        }
        let transport = Transport::new(settings, figures)?;
        Ok(Dct(Arc::new(Inner { transport, poll: Poll::default(), known: Known::default() })))
    }

    /// Its name in the settings.
    pub fn name(&self) -> &str {
        &self.settings().name
    }

    /// Its settings.
    pub fn settings(&self) -> &DctSettings {
        &self.0.transport.settings
    }

    pub(super) fn timing(&self) -> &Timing {
        &self.settings().timing
    }

    /// The address that nodes mount from: that of the settings for this engine, else the one by which the DCT reaches it.
    pub fn data_address<'a>(&'a self, engine: &'a Engine) -> Option<&'a str> {
        let names = [Some(engine.id.as_str()), engine.name.as_deref(), engine.hostname.as_deref()];
        let special = names.into_iter().flatten().find_map(|name| self.settings().engines.get(name));
        special.and_then(|special| special.data_address.as_deref()).or(engine.hostname.as_deref())
    }

    /// The object of that id; `None` if the DCT does not know it.
    pub async fn get<T: Object>(&self, id: &str) -> Result<Option<T>> {
        let op = T::KIND.get;
        let object: T = match self.0.transport.json(&Ask::read(op, &[id])).await {
            Err(failure) if failure.is_not_found() => return Ok(None),
            got => got?,
        };
        if object.id().is_empty() {
            return Err(self.0.transport.broken(op, "it has no id"));
        }
        Ok(Some(object))
    }

    /// Every object that `filter` lets through.
    pub async fn all<T: Object>(&self, filter: Filter, sort: Sort) -> Result<Vec<T>> {
        let items = self.search(T::KIND, &filter, sort, None).await?;
        Ok(items.into_iter().filter_map(read).collect())
    }

    /// The first `most` (up to 1000) of them, by one request.
    pub async fn first<T: Object>(&self, filter: Filter, sort: Sort, most: u16) -> Result<Vec<T>> {
        let items = self.search(T::KIND, &filter, sort, Some(most.clamp(1, 1000))).await?;
        Ok(items.into_iter().filter_map(read).collect())
    }

    /// The objects of a search as they came, each id once.
    pub(super) async fn search(
        &self,
        kind: Kind,
        filter: &Filter,
        sort: Sort,
        first: Option<u16>,
    ) -> Result<Vec<Value>> {
        let body = match filter.expression()? {
            Some(expression) => json!({ "filter_expression": expression }),
            None => json!({}),
        };
        let limit = first.unwrap_or(self.timing().page_size);
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let (mut cursor, mut cursors) = (None, HashSet::new());
        for _ in 0..MOST_PAGES {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            query.extend(sort.parameter().map(|sort| ("sort", sort)));
            let mut ask = Ask::read(kind.search, &[]);
            (ask.query, ask.body) = (query, Some(body.clone()));
            let page: Page = self.0.transport.json(&ask).await?;
            self.whole(kind, &page)?;
            for item in page.items.unwrap_or_default() {
                // What is made or deleted meanwhile moves objects from one page to another.
                if id_of(&item).is_none_or(|id| seen.insert(id)) {
                    found.push(item);
                }
            }
            let next = page.response_metadata.and_then(|metadata| metadata.next_cursor);
            match next.filter(|next| !next.is_empty() && first.is_none()) {
                None => return Ok(found),
                Some(next) if !cursors.insert(next.clone()) => {
                    return Err(self.0.transport.broken(kind.search, "a page leads back to one before it"));
                }
                next => cursor = next,
            }
        }
        Err(self.0.transport.broken(kind.search, "there is no last page"))
    }

    /// Whether a page has all that it should.
    fn whole(&self, kind: Kind, page: &Page) -> Result<()> {
        let said = match &page.errors {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(errors)) if errors.is_empty() => return Ok(()),
            Some(Value::Object(errors)) => match errors.get("errors").or(errors.get("items")) {
                Some(Value::Array(inner)) if inner.is_empty() => return Ok(()),
                _ if errors.is_empty() => return Ok(()),
                _ => page.errors.as_ref(),
            },
            said => said.as_ref(),
        };
        let said = shorten(&said.map(Value::to_string).unwrap_or_default(), 300);
        let message = format!(
            "{} gives only a part of its {}s: {said}; check its engines",
            self.0.transport.shown(),
            kind.name
        );
        Err(Failure::new(Fault::Unreachable, message))
    }

    /// The VDB of that id.
    pub async fn vdb(&self, id: &str) -> Result<Option<Vdb>> {
        self.get(id).await
    }

    /// VDBs.
    pub async fn vdbs(&self, filter: Filter) -> Result<Vec<Vdb>> {
        self.all(filter, Sort::Any).await
    }

    /// The dSource of that id.
    pub async fn dsource(&self, id: &str) -> Result<Option<DSource>> {
        self.get(id).await
    }

    /// DSources.
    pub async fn dsources(&self, filter: Filter) -> Result<Vec<DSource>> {
        self.all(filter, Sort::Any).await
    }

    /// The environment of that id.
    pub async fn environment(&self, id: &str) -> Result<Option<Environment>> {
        self.get(id).await
    }

    /// Environments.
    pub async fn environments(&self, filter: Filter) -> Result<Vec<Environment>> {
        self.all(filter, Sort::Any).await
    }

    /// The engine of that id.
    pub async fn engine(&self, id: &str) -> Result<Option<Engine>> {
        self.get(id).await
    }

    /// Engines.
    pub async fn engines(&self, filter: Filter) -> Result<Vec<Engine>> {
        self.all(filter, Sort::Any).await
    }

    /// The snapshot of that id.
    pub async fn snapshot(&self, id: &str) -> Result<Option<Snapshot>> {
        self.get(id).await
    }

    /// Snapshots.
    pub async fn snapshots(&self, filter: Filter, sort: Sort) -> Result<Vec<Snapshot>> {
        self.all(filter, sort).await
    }

    /// The bookmark of that id.
    pub async fn bookmark(&self, id: &str) -> Result<Option<Bookmark>> {
        self.get(id).await
    }

    /// Bookmarks.
    pub async fn bookmarks(&self, filter: Filter) -> Result<Vec<Bookmark>> {
        self.all(filter, Sort::Any).await
    }

    /// Groups of datasets.
    pub async fn groups(&self, filter: Filter) -> Result<Vec<Group>> {
        self.all(filter, Sort::Any).await
    }

    /// The timeflow of that id.
    pub async fn timeflow(&self, id: &str) -> Result<Option<Timeflow>> {
        self.get(id).await
    }

    /// Timeflows.
    pub async fn timeflows(&self, filter: Filter) -> Result<Vec<Timeflow>> {
        self.all(filter, Sort::Any).await
    }

    /// Plugins.
    pub async fn toolkits(&self, filter: Filter) -> Result<Vec<Toolkit>> {
        self.all(filter, Sort::Any).await
    }

    /// The job of that id.
    pub async fn job(&self, id: &str) -> Result<Option<Job>> {
        self.get(id).await
    }

    /// Jobs.
    pub async fn jobs(&self, filter: Filter) -> Result<Vec<Job>> {
        self.all(filter, Sort::Any).await
    }
}

/// The id of an object as it came.
pub(super) fn id_of(item: &Value) -> Option<String> {
    match item.get("id")? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// The object, if it has an id: without one nothing can be done with it.
pub(super) fn read<T: Object>(item: Value) -> Option<T> {
    if !item.is_object() {
        return None;
    }
    serde_json::from_value(item).ok().filter(|object: &T| !object.id().is_empty())
}
