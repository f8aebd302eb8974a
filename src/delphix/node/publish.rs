//! NodePublishVolume and its opposite: the staged export where a pod sees it.

use std::path::Path;
use std::sync::Arc;

use super::stage::STAGING;
use super::table::{Here, taken};
use super::{Inner, Node, Publish};
use crate::host::{FileKind, NfsMount, NfsSource};
use crate::service::api::allows_second_publish;
use crate::service::blocking;
use crate::service::node::target_error;
use crate::volume::{Error, Kind, Result};

/// The request's field, for messages.
const TARGET: &str = "target_path";

impl Node {
    /// Makes a staged volume visible at the target path. Repeatable.
    pub async fn publish(&self, request: Publish) -> Result<()> {
        if request.target.as_os_str().is_empty() {
            return Err(Error::invalid(TARGET, "is missing"));
        }
        if request.stage.staging.as_os_str().is_empty() {
            return Err(Error::precondition(format!("{STAGING}: is missing: stage the volume first")));
        }
        if request.stage.staging == request.target {
            return Err(Error::invalid(TARGET, "is the staging path too"));
        }
        let (inner, volume) = (self.inner.clone(), request.stage.volume.clone());
        self.inner.work(&volume, async move { inner.publish(&request).await }).await
    }

    /// Takes the volume from the target path, within a bounded time also where its server is dead, and removes the path.
    pub async fn unpublish(&self, volume: &str, target: &Path) -> Result<()> {
        let (inner, id, target) = (self.inner.clone(), volume.to_owned(), target.to_owned());
        let work = async move {
            inner.clear(&id, &target, TARGET).await?;
            inner.remove_target(TARGET, &target).await
        };
        self.inner.work(volume, work).await
    }
}

impl Inner {
    async fn publish(self: &Arc<Self>, request: &Publish) -> Result<()> {
        let wanted = self.wanted(&request.stage).await?;
        let (staging, target) = (&request.stage.staging, &request.target);
        let read_only = request.read_only || wanted.read_only;
        let staged = match self.look(staging).await? {
            Here::Export(mount) => mount,
            Here::Nothing | Here::Other(_) => return Err(not_staged(request, "is not staged")),
        };
        let Some(source) = staged.source.clone().filter(|source| wanted.is(source)) else {
            return Err(not_staged(request, "was rewound, refreshed or moved since it was staged"));
        };
        match self.look(target).await? {
            Here::Nothing => {}
            Here::Other(entry) => return Err(taken(TARGET, target, &entry.fs)),
            Here::Export(there) if there.source.as_ref() == Some(&source) => {
                return same(request, &there, read_only);
            }
            Here::Export(_) => return Err(taken(TARGET, target, "another export")),
        }
        if staged.read_only && !read_only {
            return Err(not_staged(request, "is staged read-only, and asked for writing,"));
        }
        self.refuse_second(request, &source).await?;
        self.show(request, read_only).await
    }

    /// SINGLE_NODE_SINGLE_WRITER is one pod's: a second target is refused while the first is there.
    async fn refuse_second(&self, request: &Publish, source: &NfsSource) -> Result<()> {
        if allows_second_publish(request.stage.capability.mode) {
            return Ok(());
        }
        let others = self.elsewhere(source, &[&request.stage.staging, &request.target]).await?;
        let Some(first) = others.first() else { return Ok(()) };
        let text = format!(
            "access_mode: volume {} is for one pod at a time and is published at {}: unpublish it there first",
            request.stage.volume,
            first.target.display()
        );
        Err(Error::precondition(text))
    }

    async fn show(&self, request: &Publish, read_only: bool) -> Result<()> {
        let (host, target) = (self.host.clone(), request.target.clone());
        let made =
            blocking(move || host.make_target(&target, FileKind::Directory).map_err(target_error)).await?;
        let (source, target) = (request.stage.staging.clone(), request.target.clone());
        let bound = self.slow.run(&request.stage.volume, "binding", self.limits.mount, move |host| {
            Ok(host.bind(&source, &target, read_only)?)
        });
        let Err(error) = bound.await else { return Ok(()) };
        // What a thread may still be mounting is left to the retry.
        if made && error.kind() != Kind::Unavailable {
            self.remove_target(TARGET, &request.target).await?;
        }
        Err(error)
    }
}

fn same(request: &Publish, there: &NfsMount, read_only: bool) -> Result<()> {
    if there.read_only == read_only {
        return Ok(());
    }
    let say = |read_only: bool| if read_only { "for reading only" } else { "for writing" };
    let text = format!(
        "{TARGET}: volume {} is published at {} {}, asked for {}: unpublish it first",
        request.stage.volume,
        request.target.display(),
        say(there.read_only),
        say(read_only)
    );
    Err(Error::new(Kind::AlreadyExists, text))
}

fn not_staged(request: &Publish, what: &str) -> Error {
    let (volume, at) = (&request.stage.volume, request.stage.staging.display());
    Error::precondition(format!("{STAGING}: volume {volume} {what} at {at}: stage it first"))
}
