//! What the names in a StorageClass stand for: source, engine, environment, repository, group.
//!
//! Names are not unique across engines, and taking the first would copy the wrong data. So a name that several have is
//! refused with their ids. What is not said is filled in where exactly one thing fits, and refused with the list where
//! several do. Answers are believed for a short while, or a hundred claims of one class would ask the same a hundred
//! times.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::try_join;

use super::Inner;
use super::params::{Params, Point};
use crate::backend::delphix::{
    Bookmark, DSource, Dct, Engine, Environment, Filter, Group, ProvisionFrom, Repository, Snapshot, Vdb,
};
use crate::volume::{Error, Kind, Result};

/// Where and from what a VDB is made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) from: ProvisionFrom,
    pub(super) engine: Option<String>,
    pub(super) environment: String,
    pub(super) repository: String,
    pub(super) group: Option<String>,
}

/// What a copy is made of: as much as has to be known to place it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) engine: Option<String>,
    pub(super) toolkit: Option<String>,
    /// Where the source itself is, if that is a VDB.
    pub(super) place: Option<(String, String)>,
}

impl Source {
    pub(super) fn of_vdb(vdb: &Vdb) -> Source {
        let place = vdb.environment_id.clone().zip(vdb.repository_id.clone());
        Source { engine: vdb.engine_id.clone(), toolkit: vdb.toolkit_id.clone(), place }
    }
}

/// Answers by DCT and question, and since when they are known.
type Answers<T> = Mutex<HashMap<(String, String), (Instant, T)>>;

/// Answers that are still believed.
#[derive(Default)]
pub(super) struct Names {
    targets: Answers<Target>,
    engines: Answers<Engine>,
}

fn fresh<T: Clone>(table: &Answers<T>, key: &(String, String), for_: Duration) -> Option<T> {
    let table = table.lock().unwrap_or_else(PoisonError::into_inner);
    table.get(key).filter(|(at, _)| at.elapsed() < for_).map(|(_, value)| value.clone())
}

fn keep<T>(table: &Answers<T>, key: (String, String), value: T, for_: Duration) {
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    table.retain(|_, (at, _)| at.elapsed() < for_);
    table.insert(key, (Instant::now(), value));
}

/// An object with a name of which there may be several.
pub(super) trait Named {
    fn id(&self) -> &str;
    fn name(&self) -> Option<&str>;
    fn engine(&self) -> Option<&str>;
}

macro_rules! named {
    ($($of:ty),*) => {$(
        impl Named for $of {
            fn id(&self) -> &str {
                &self.id
            }
            fn name(&self) -> Option<&str> {
                self.name.as_deref()
            }
            fn engine(&self) -> Option<&str> {
                self.engine_id.as_deref()
            }
        }
    )*};
}
named!(Vdb, DSource, Environment, Group);

impl Named for Engine {
    fn id(&self) -> &str {
        &self.id
    }
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
    fn engine(&self) -> Option<&str> {
        Some(&self.id)
    }
}

impl Named for Bookmark {
    fn id(&self) -> &str {
        &self.id
    }
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
    fn engine(&self) -> Option<&str> {
        self.engine_ids.first().map(String::as_str)
    }
}

impl Named for Repository {
    fn id(&self) -> &str {
        &self.id
    }
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
    fn engine(&self) -> Option<&str> {
        None
    }
}

/// Either of two names of one thing.
pub(super) fn by(text: &str) -> Filter {
    Filter::eq("id", text).or(Filter::eq("name", text))
}

fn bad(key: &str, why: impl std::fmt::Display) -> Error {
    Error::invalid(&format!("parameters.{key}"), why)
}

fn shown<'a, T: Named + 'a>(all: impl IntoIterator<Item = &'a T>) -> String {
    let one = |of: &T| match of.name() {
        Some(name) => format!("{} ({name})", of.id()),
        None => of.id().to_owned(),
    };
    let mut all: Vec<String> = all.into_iter().map(one).collect();
    all.sort();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// The one that `text` means: the one with that id, else the only one with that name on the engine.
pub(super) fn only<T: Named>(key: &str, text: &str, engine: Option<&str>, found: Vec<T>) -> Result<T> {
    let here = |of: &T| match (of.engine(), engine) {
        (Some(of), Some(engine)) => of == engine,
        _ => true,
    };
    let (mut found, elsewhere): (Vec<T>, Vec<T>) = found.into_iter().partition(here);
    if let Some(n) = found.iter().position(|of| of.id() == text) {
        return Ok(found.swap_remove(n));
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 if elsewhere.is_empty() => {
            Err(bad(key, format!("{text:?} is neither an id nor a name on this DCT")))
        }
        0 => {
            let engine = engine.unwrap_or_default();
            Err(bad(
                key,
                format!("{text:?} is not on engine {engine}; elsewhere there is {}", shown(&elsewhere)),
            ))
        }
        _ => Err(bad(key, format!("{text:?} is the name of several: {}; give the id of one", shown(&found)))),
    }
}

impl Inner {
    /// What a StorageClass without a content source copies, and where to.
    pub(super) async fn target(&self, dct: &Dct, params: &Params) -> Result<Target> {
        let written: Vec<String> =
            params.written().iter().map(|(key, value)| format!("{key}={value}")).collect();
        let key = (dct.name().to_owned(), written.join("\n"));
        if let Some(target) = fresh(&self.names.targets, &key, self.settings.names_for) {
            return Ok(target);
        }
        let engine = self.engine_named(dct, params).await?;
        let (from, source) = self.source(dct, params, engine.as_deref()).await?;
        let target = self.place(dct, params, from, source).await?;
        keep(&self.names.targets, key, target.clone(), self.settings.names_for);
        Ok(target)
    }

    /// Believes nothing any more that was found out about names: something that was found is refused.
    pub(super) fn forget_names(&self) {
        self.names.targets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn engine_named(&self, dct: &Dct, params: &Params) -> Result<Option<String>> {
        let Some(text) = &params.engine else { return Ok(None) };
        let engine = only("engine", text, None, dct.engines(by(text)).await?)?;
        Ok(Some(engine.id))
    }

    /// The source and its point.
    async fn source(
        &self,
        dct: &Dct,
        params: &Params,
        engine: Option<&str>,
    ) -> Result<(ProvisionFrom, Source)> {
        if let Point::Bookmark(text) = &params.point {
            return self.bookmarked(dct, text, engine).await;
        }
        let Some(text) = &params.source else {
            return match &params.point {
                Point::Snapshot(id) => {
                    let found: Option<Snapshot> = dct.snapshot(id).await?;
                    let found =
                        found.ok_or_else(|| bad("sourceSnapshot", format!("{id:?} does not exist")))?;
                    let source = Source { engine: found.engine_id, ..Source::default() };
                    Ok((ProvisionFrom::Snapshot { id: Some(id.clone()), source: None }, source))
                }
                _ => Ok((
                    ProvisionFrom::Empty,
                    Source { engine: engine.map(str::to_owned), ..Source::default() },
                )),
            };
        };
        let (dsources, vdbs) = try_join!(dct.dsources(by(text)), dct.vdbs(by(text)))?;
        let (id, source) = match (only("source", text, engine, dsources), only("source", text, engine, vdbs))
        {
            (Ok(dsource), Ok(vdb)) if dsource.id != *text && vdb.id != *text => {
                let why = format!(
                    "{text:?} is the name of dSource {} and of VDB {}; give the id of one",
                    dsource.id, vdb.id
                );
                return Err(bad("source", why));
            }
            (_, Ok(vdb)) if vdb.id == *text => (vdb.id.clone(), Source::of_vdb(&vdb)),
            (Ok(dsource), _) => {
                let source = Source { engine: dsource.engine_id, toolkit: dsource.toolkit_id, place: None };
                (dsource.id, source)
            }
            // A place is only taken over by what Kubernetes calls a clone.
            (_, Ok(vdb)) => (vdb.id.clone(), Source { place: None, ..Source::of_vdb(&vdb) }),
            // Of two refusals the one that found something says more.
            (Err(one), Err(two)) => {
                return Err(if one.to_string().contains("neither") { two } else { one });
            }
        };
        let source = Source { place: None, ..source };
        let from = match &params.point {
            Point::Snapshot(snapshot) => {
                ProvisionFrom::Snapshot { id: Some(snapshot.clone()), source: Some(id) }
            }
            Point::Timestamp(at) => ProvisionFrom::Timestamp { source: id, at: *at },
            Point::Latest | Point::Bookmark(_) => ProvisionFrom::Snapshot { id: None, source: Some(id) },
        };
        Ok((from, source))
    }

    async fn bookmarked(
        &self,
        dct: &Dct,
        text: &str,
        engine: Option<&str>,
    ) -> Result<(ProvisionFrom, Source)> {
        let found = only("sourceBookmark", text, engine, dct.bookmarks(by(text)).await?)?;
        let [vdb] = found.vdb_ids.as_slice() else {
            let why = format!("{text:?} has {} VDBs; give one that has exactly one", found.vdb_ids.len());
            return Err(bad("sourceBookmark", why));
        };
        let source = match dct.vdb(vdb).await? {
            Some(vdb) => Source { place: None, ..Source::of_vdb(&vdb) },
            None => Source { engine: found.engine_ids.first().cloned(), ..Source::default() },
        };
        Ok((ProvisionFrom::Bookmark(found.id), source))
    }

    /// Environment, repository and group: as named, else the only ones that fit.
    pub(super) async fn place(
        &self,
        dct: &Dct,
        params: &Params,
        from: ProvisionFrom,
        source: Source,
    ) -> Result<Target> {
        let groups = async {
            match &params.group {
                Some(text) => dct.groups(by(text)).await,
                None => Ok(Vec::new()),
            }
        };
        if let (Some((environment, repository)), None, None) =
            (&source.place, &params.environment, &params.repository)
        {
            let group = group_of(params, source.engine.as_deref(), groups.await?)?;
            let (environment, repository) = (environment.clone(), repository.clone());
            return Ok(Target { from, engine: source.engine, environment, repository, group });
        }
        let filter = match &source.engine {
            Some(engine) => Filter::eq("engine_id", engine),
            None => Filter::all(),
        };
        let (environments, groups) = try_join!(dct.environments(filter), groups)?;
        let environments = match &params.environment {
            None => environments,
            Some(text) => {
                let named = |of: &Environment| of.id == *text || of.name.as_ref() == Some(text);
                let all = shown(&environments);
                let found: Vec<Environment> = environments.into_iter().filter(named).collect();
                if found.is_empty() {
                    let on =
                        source.engine.as_ref().map_or(String::new(), |engine| format!(" on engine {engine}"));
                    return Err(bad("environment", format!("{text:?} does not exist{on}; there is {all}")));
                }
                vec![only("environment", text, source.engine.as_deref(), found)?]
            }
        };
        let (environment, repository) = fitting(params, &source, &environments)?;
        let engine = source.engine.clone().or_else(|| environment.engine_id.clone());
        let group = group_of(params, engine.as_deref(), groups)?;
        Ok(Target {
            from,
            engine,
            environment: environment.id.clone(),
            repository: repository.id.clone(),
            group,
        })
    }

    /// An engine by its id.
    pub(super) async fn engine(&self, dct: &Dct, id: &str) -> Result<Engine> {
        let key = (dct.name().to_owned(), id.to_owned());
        if let Some(engine) = fresh(&self.names.engines, &key, self.settings.names_for) {
            return Ok(engine);
        }
        let engine = dct.engine(id).await?.ok_or_else(|| {
            let text =
                format!("engine {id} is no longer registered with DCT {}: register it again", dct.name());
            Error::new(Kind::Precondition, text)
        })?;
        keep(&self.names.engines, key, engine.clone(), self.settings.names_for);
        Ok(engine)
    }
}

fn group_of(params: &Params, engine: Option<&str>, groups: Vec<Group>) -> Result<Option<String>> {
    let Some(text) = &params.group else { return Ok(None) };
    only("group", text, engine, groups).map(|group| Some(group.id))
}

/// The only repository that a VDB of this source can lie in.
fn fitting<'a>(
    params: &Params,
    source: &Source,
    environments: &'a [Environment],
) -> Result<(&'a Environment, &'a Repository)> {
    let mut named = Vec::new();
    for environment in environments {
        for repository in &environment.repositories {
            let meant = params
                .repository
                .as_ref()
                .is_none_or(|text| repository.id == *text || repository.name.as_ref() == Some(text));
            if meant {
                named.push((environment, repository));
            }
        }
    }
    if named.is_empty() {
        return Err(match &params.repository {
            Some(text) => {
                let all = shown(environments.iter().flat_map(|environment| &environment.repositories));
                bad("repository", format!("{text:?} does not exist there; there is {all}"))
            }
            None => bad("environment", format!("no repository is known in {}", shown(environments))),
        });
    }
    let why_not = |(environment, repository): &(&Environment, &Repository)| {
        if environment.enabled == Some(false) {
            return Some("its environment is disabled");
        }
        if repository.allow_provisioning == Some(false) {
            return Some("it does not allow provisioning");
        }
        match (&repository.toolkit_id, &source.toolkit) {
            (Some(one), Some(other)) if one != other => Some("it is of another plugin than the source"),
            _ => None,
        }
    };
    let fits: Vec<_> = named.iter().filter(|pair| why_not(pair).is_none()).collect();
    let line = |(environment, repository): &(&Environment, &Repository)| {
        let why = why_not(&(environment, repository)).map_or(String::new(), |why| format!(": {why}"));
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        format!(
            "{} ({}) in {} ({}){why}",
            repository.id,
            name(&repository.name),
            environment.id,
            name(&environment.name)
        )
    };
    match fits[..] {
        [one] => Ok(*one),
        [] => {
            let all: Vec<String> = named.iter().map(line).collect();
            Err(bad("repository", format!("none fits; {}", all.join("; "))))
        }
        _ => {
            let several: Vec<String> = fits.into_iter().map(line).collect();
            let key = if params.environment.is_some() { "repository" } else { "environment" };
            Err(bad(key, format!("is not said, and several fit; give one of {}", several.join("; "))))
        }
    }
}
