//! btrfs subvolumes. On other filesystems the promise is that they say they have none.

use super::area::Area;
use super::{Ctx, Done, Row, caused, holds, same};
use crate::host::{Cause, FileKind};

const MIB: u64 = 1 << 20;

pub(super) const CHECKS: &[Row] = &[
    ("a filesystem without subvolumes says so", elsewhere),
    ("a subvolume is made, filled and removed whole", life),
    ("a snapshot has what was there, and goes its own way", snapshot),
    ("a read-only snapshot refuses writes", read_only),
    ("a limit holds, and can be changed", limit),
    ("a plain directory is no subvolume", plain),
];

/// An area in which subvolumes work; `None` where the pool has none.
fn btrfs(ctx: &Ctx, name: &str) -> Result<Option<Area>, super::Broken> {
    if ctx.fs != "btrfs" {
        return Ok(None);
    }
    let area = Area::new(ctx, name)?;
    ctx.host.quota_enable(&ctx.pool)?;
    ctx.host.quota_enable(&ctx.pool)?;
    Ok(Some(area))
}

fn elsewhere(ctx: &Ctx) -> Done {
    if ctx.fs == "btrfs" {
        return Ok(());
    }
    let area = Area::new(ctx, "elsewhere")?;
    caused("create", ctx.host.subvolume_create(&area.path("s"), MIB), Cause::Unsupported)?;
    same("nothing is left", ctx.host.metadata(&area.path("s"))?, None)?;
    caused("quota", ctx.host.quota_enable(&ctx.pool), Cause::Unsupported)
}

fn life(ctx: &Ctx) -> Done {
    let Some(area) = btrfs(ctx, "life")? else { return Ok(()) };
    let path = area.path("s");
    ctx.host.subvolume_create(&path, 64 * MIB)?;
    same("kind", ctx.host.metadata(&path)?.map(|meta| meta.kind), Some(FileKind::Directory))?;
    let (inner, outer) = (ctx.host.metadata(&path)?, ctx.host.metadata(&area.dir)?);
    holds("it has a device of its own", inner.map(|meta| meta.dev) != outer.map(|meta| meta.dev))?;
    ctx.host.make_dir(&path.join("d"))?;
    ctx.host.write_file(&path.join("d/f"), b"x")?;
    caused("again", ctx.host.subvolume_create(&path, MIB), Cause::Exists)?;
    let usage = ctx.host.subvolume_usage(&path)?;
    same("limit", usage.limit, Some(64 * MIB))?;
    holds("its own is no more than all", usage.exclusive <= usage.referenced)?;
    same("removed", ctx.host.subvolume_delete(&path)?, true)?;
    same("gone", ctx.host.subvolume_delete(&path)?, false)?;
    same("nothing is left", ctx.host.metadata(&path)?, None)
}

fn snapshot(ctx: &Ctx) -> Done {
    let Some(area) = btrfs(ctx, "snapshot")? else { return Ok(()) };
    let (a, b) = (area.path("a"), area.path("b"));
    ctx.host.subvolume_create(&a, 64 * MIB)?;
    ctx.host.make_dir(&a.join("d"))?;
    ctx.host.write_file(&a.join("d/f"), b"old")?;
    ctx.host.subvolume_snapshot(&a, &b, false, Some(32 * MIB))?;
    same("bytes", ctx.host.read_file(&b.join("d/f"))?, Some(b"old".to_vec()))?;
    same("limit", ctx.host.subvolume_usage(&b)?.limit, Some(32 * MIB))?;
    ctx.host.remove_file(&b.join("d/f"))?;
    ctx.host.write_file(&b.join("d/f"), b"new")?;
    same("the source", ctx.host.read_file(&a.join("d/f"))?, Some(b"old".to_vec()))?;
    caused("taken", ctx.host.subvolume_snapshot(&a, &b, false, None), Cause::Exists)?;
    caused(
        "missing",
        ctx.host.subvolume_snapshot(&area.path("no"), &area.path("c"), false, None),
        Cause::NotFound,
    )?;
    same("removed", ctx.host.subvolume_delete(&a)?, true)?;
    same("the snapshot", ctx.host.read_file(&b.join("d/f"))?, Some(b"new".to_vec()))
}

fn read_only(ctx: &Ctx) -> Done {
    let Some(area) = btrfs(ctx, "snapshot-read-only")? else { return Ok(()) };
    let (a, b) = (area.path("a"), area.path("b"));
    ctx.host.subvolume_create(&a, 64 * MIB)?;
    ctx.host.write_file(&a.join("f"), b"x")?;
    ctx.host.subvolume_snapshot(&a, &b, true, None)?;
    caused("write", ctx.host.write_file(&b.join("g"), b""), Cause::Denied)?;
    caused("remove", ctx.host.remove_file(&b.join("f")), Cause::Denied)?;
    same("bytes", ctx.host.read_file(&b.join("f"))?, Some(b"x".to_vec()))?;
    ctx.host.subvolume_snapshot(&b, &area.path("c"), false, None)?;
    ctx.host.write_file(&area.path("c").join("g"), b"a writable one of it takes writes")?;
    same("removed", ctx.host.subvolume_delete(&b)?, true)
}

fn limit(ctx: &Ctx) -> Done {
    let Some(area) = btrfs(ctx, "limit")? else { return Ok(()) };
    let path = area.path("s");
    ctx.host.subvolume_create(&path, MIB)?;
    let bytes = vec![1; 4 * MIB as usize];
    caused("too much", ctx.host.write_file(&path.join("f"), &bytes), Cause::NoSpace)?;
    same("nothing is left", ctx.host.metadata(&path.join("f"))?, None)?;
    ctx.host.subvolume_limit(&path, 64 * MIB)?;
    same("limit", ctx.host.subvolume_usage(&path)?.limit, Some(64 * MIB))?;
    ctx.host.write_file(&path.join("f"), &bytes)?;
    ctx.host.sync_file(&path.join("f"))?;
    same("length", ctx.host.metadata(&path.join("f"))?.map(|meta| meta.len), Some(4 * MIB))
}

fn plain(ctx: &Ctx) -> Done {
    let Some(area) = btrfs(ctx, "no-subvolume")? else { return Ok(()) };
    let dir = area.path("d");
    ctx.host.make_dir(&dir)?;
    caused("delete", ctx.host.subvolume_delete(&dir), Cause::Invalid)?;
    caused("limit", ctx.host.subvolume_limit(&dir, MIB), Cause::Invalid)?;
    caused("usage", ctx.host.subvolume_usage(&dir), Cause::Invalid)?;
    caused("snapshot", ctx.host.subvolume_snapshot(&dir, &area.path("s"), true, None), Cause::Invalid)?;
    caused("missing", ctx.host.subvolume_usage(&area.path("no")), Cause::NotFound)?;
    holds("it is still there", ctx.host.metadata(&dir)?.is_some())
}
