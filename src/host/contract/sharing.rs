//! Clones and copies of files.

use std::path::Path;

use super::area::Area;
use super::{Ctx, Done, Row, caused, holds, same};
use crate::host::{Cause, HostResult};

pub(super) const CHECKS: &[Row] = &[
    ("a clone has the same bytes at the same place on the disk", clone_shares),
    ("a clone and its source go their own ways", clone_diverges),
    ("removing the source leaves the clone whole", clone_survives),
    ("a clone lands only at a free name", clone_once),
    ("a clone of a missing file leaves nothing", clone_missing),
    ("a clone to another filesystem is unsupported and leaves nothing", clone_across),
    ("space that was only set aside is not in the way of a clone", clone_thick),
    ("a sparse copy has the bytes and the holes, and tells how far it is", copy),
    ("a copy that is stopped leaves nothing", copy_stopped),
    ("a copy lands only at a free name", copy_once),
];

/// A file of 256 KiB that is not all the same.
fn pattern() -> Vec<u8> {
    (0..256_u32 << 10).map(|i| (i / 4096 + i % 251) as u8).collect()
}

fn written(ctx: &Ctx, path: &Path) -> HostResult<()> {
    ctx.host.write_file(path, &pattern())?;
    ctx.host.sync_file(path)
}

fn clone_shares(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "clone-shares")?;
    let (a, b) = (area.path("a"), area.path("b"));
    written(ctx, &a)?;
    ctx.host.clone_file(&a, &b)?;
    holds("the bytes are the same", ctx.host.read_file(&b)? == Some(pattern()))?;
    let (ours, theirs) = (ctx.host.extents(&a, 0, 100)?, ctx.host.extents(&b, 0, 100)?);
    let place = |e: &crate::host::Extent| (e.logical, e.physical, e.len);
    holds("there is something to share", !ours.is_empty())?;
    same("places", ours.iter().map(place).collect::<Vec<_>>(), theirs.iter().map(place).collect())?;
    holds("both say shared", ours.iter().chain(&theirs).all(|e| e.shared))
}

fn clone_diverges(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "clone-diverges")?;
    let (a, b) = (area.path("a"), area.path("b"));
    written(ctx, &a)?;
    ctx.host.clone_file(&a, &b)?;
    ctx.host.set_len(&b, 4096)?;
    ctx.host.set_len(&b, 256 << 10)?;
    holds("the source is whole", ctx.host.read_file(&a)? == Some(pattern()))?;
    let bytes = ctx.host.read_file(&b)?.unwrap_or_default();
    holds("the clone is cut", bytes.len() == 256 << 10 && bytes.iter().skip(4096).all(|byte| *byte == 0))
}

fn clone_survives(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "clone-survives")?;
    let (a, b) = (area.path("a"), area.path("b"));
    written(ctx, &a)?;
    ctx.host.clone_file(&a, &b)?;
    ctx.host.remove_file(&a)?;
    holds("the clone is whole", ctx.host.read_file(&b)? == Some(pattern()))?;
    same("length", ctx.host.metadata(&b)?.map(|meta| meta.len), Some(256 << 10))
}

fn clone_once(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "clone-once")?;
    let (a, b) = (area.path("a"), area.path("b"));
    written(ctx, &a)?;
    ctx.host.write_file(&b, b"mine")?;
    caused("taken", ctx.host.clone_file(&a, &b), Cause::Exists)?;
    same("bytes", ctx.host.read_file(&b)?, Some(b"mine".to_vec()))
}

fn clone_missing(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "clone-missing")?;
    caused("missing", ctx.host.clone_file(&area.path("a"), &area.path("b")), Cause::NotFound)?;
    same("left", ctx.host.metadata(&area.path("b"))?, None)
}

fn clone_across(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "clone-across")?;
    let there = area.target("b");
    if ctx.host.fs_stat(&area.dir)?.dev == ctx.host.fs_stat(&area.targets)?.dev {
        return Ok(());
    }
    written(ctx, &area.path("a"))?;
    caused("across", ctx.host.clone_file(&area.path("a"), &there), Cause::Unsupported)?;
    same("left", ctx.host.metadata(&there)?, None)
}

fn clone_thick(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "clone-thick")?;
    let (a, b) = (area.path("a"), area.path("b"));
    written(ctx, &a)?;
    ctx.host.set_len(&a, 1 << 20)?;
    ctx.host.allocate(&a)?;
    ctx.host.clone_file(&a, &b)?;
    holds("the bytes are the same", ctx.host.read_file(&a)? == ctx.host.read_file(&b)?)?;
    ctx.host.allocate(&b)?;
    ctx.host.sync_file(&b)?;
    holds("it can be thick too", ctx.host.metadata(&b)?.is_some_and(|meta| meta.allocated >= 1 << 20))
}

fn copy(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "copy")?;
    let (a, b) = (area.path("a"), area.path("b"));
    written(ctx, &a)?;
    ctx.host.set_len(&a, 1 << 20)?;
    let mut told = Vec::new();
    ctx.host.copy_sparse(&a, &b, &mut |done, total| {
        told.push((done, total));
        true
    })?;
    holds("the bytes are the same", ctx.host.read_file(&a)? == ctx.host.read_file(&b)?)?;
    same("the last word", told.last().copied(), Some((256 << 10, 256 << 10)))?;
    holds("progress only grows", told.windows(2).all(|two| two[0].0 <= two[1].0))?;
    ctx.host.sync_file(&b)?;
    holds("the hole is a hole", ctx.host.metadata(&b)?.is_some_and(|meta| meta.allocated < 1 << 20))?;
    let (ours, theirs) = (ctx.host.extents(&a, 0, 100)?, ctx.host.extents(&b, 0, 100)?);
    let apart = |e: &crate::host::Extent| theirs.iter().all(|t| t.physical != e.physical);
    holds("nothing is shared, or all of it", ours.iter().all(apart) || ours.iter().all(|e| e.shared))
}

fn copy_stopped(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "copy-stopped")?;
    let (a, b) = (area.path("a"), area.path("b"));
    written(ctx, &a)?;
    caused("stopped", ctx.host.copy_sparse(&a, &b, &mut |_, _| false), Cause::Stopped)?;
    same("left", ctx.host.metadata(&b)?, None)
}

fn copy_once(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "copy-once")?;
    let (a, b) = (area.path("a"), area.path("b"));
    written(ctx, &a)?;
    ctx.host.write_file(&b, b"mine")?;
    caused("taken", ctx.host.copy_sparse(&a, &b, &mut |_, _| true), Cause::Exists)?;
    same("bytes", ctx.host.read_file(&b)?, Some(b"mine".to_vec()))?;
    let missing = ctx.host.copy_sparse(&area.path("c"), &area.path("d"), &mut |_, _| true);
    caused("missing", missing, Cause::NotFound)?;
    same("left", ctx.host.metadata(&area.path("d"))?, None)
}
