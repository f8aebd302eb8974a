//! Mounts and request paths.

use std::path::Path;

use super::area::{Area, spec, usable};
use super::{Broken, Ctx, Done, Row, caused, holds, same};
use crate::host::{Cause, FileKind, MountFlag, MountSpec};

pub(super) const CHECKS: &[Row] = &[
    ("a plain directory and a missing path are no mount", plain),
    ("a mounted device is in the table and gone after", mount),
    ("a device that is not what it should be is not mounted", mount_wrong),
    ("an option that the filesystem does not know is refused", options),
    ("a mount with flags works as any other", flags),
    ("of mounts on one another the uppermost goes first", stacked),
    ("a mount with another below it is busy", below),
    ("one device is mounted at two places, and stays at one", twice),
    ("a read-only mount refuses writes", read_only),
    ("a bound directory shows the same files, and outlives its source's mount", bind),
    ("a read-only bind refuses writes and its source does not", bind_read_only),
    ("a bound device node is a block device at the target", bind_node),
    ("a bind needs a source, and a target of the same kind", bind_wrong),
    ("a target is made once in its kind, with its parents", make_target),
    ("a target is removed only when it is empty and no mount", remove_target),
    ("a symbolic link anywhere in a request path is refused", links),
    ("a request path that is not plain is refused", odd_paths),
    ("usage is that of a mount point", usage),
];

/// The first filesystem that can be made and mounted, in an area of its own.
fn first(ctx: &Ctx, name: &str) -> Result<Option<(Area, &'static str)>, Broken> {
    match usable(ctx)?.first() {
        Some(fs) => Ok(Some((Area::new(ctx, name)?, fs))),
        None => Ok(None),
    }
}

fn plain(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "plain")?;
    let dir = area.target_dir("d")?;
    same("directory", ctx.host.mount_at(&dir)?, None)?;
    same("missing", ctx.host.mount_at(&area.target("no"))?, None)?;
    same("below nothing", ctx.host.mount_at(&area.target("no/deeper"))?, None)?;
    same("unmounting it", ctx.host.unmount(&dir)?, false)?;
    same("unmounting nothing", ctx.host.unmount(&area.target("no"))?, false)
}

fn mount(ctx: &Ctx) -> Done {
    for fs in usable(ctx)? {
        let area = Area::new(ctx, "mount")?;
        let (device, target) = area.mount(&area.image("a", fs)?, "t", fs)?;
        let Some(entry) = ctx.host.mount_at(&target)? else {
            return Err(Broken("nothing is mounted".into()));
        };
        same("target", entry.target.as_path(), target.as_path())?;
        same("filesystem", entry.fs.as_str(), fs)?;
        same("root", entry.root.as_path(), Path::new("/"))?;
        same("rest", (entry.node_rdev, entry.read_only), (None, false))?;
        if fs != "btrfs" {
            same("device", entry.dev, device.rdev)?;
        }
        same("in the table", ctx.host.mounts()?.iter().filter(|mount| mount.target == target).count(), 1)?;
        same("its root", ctx.host.target_kind(&target)?, Some(FileKind::Directory))?;
        same("unmounted", ctx.host.unmount(&target)?, true)?;
        same("after", ctx.host.mount_at(&target)?, None)?;
        same("again", ctx.host.unmount(&target)?, false)?;
        same("in the table", ctx.host.mounts()?.iter().any(|mount| mount.target == target), false)?;
    }
    Ok(())
}

fn mount_wrong(ctx: &Ctx) -> Done {
    let Some((area, fs)) = first(ctx, "mount-wrong")? else { return Ok(()) };
    let target = area.target_dir("t")?;
    ctx.host.create_file(&area.path("blank"), super::area::IMAGE)?;
    let blank = area.attach(&area.path("blank"))?;
    caused("blank", ctx.host.mount_device(&blank.path, &target, &spec(fs)), Cause::Invalid)?;
    let device = area.attach(&area.image("a", fs)?)?;
    caused("missing", ctx.host.mount_device(&device.path, &area.target("no"), &spec(fs)), Cause::NotFound)?;
    let unknown = MountSpec { fs: "no-such-fs".into(), ..MountSpec::default() };
    caused("unknown", ctx.host.mount_device(&device.path, &target, &unknown), Cause::Unsupported)?;
    same("nothing is mounted", ctx.host.mount_at(&target)?, None)?;
    same("nobody holds it", ctx.host.device_in_use(&device.path)?, false)
}

fn options(ctx: &Ctx) -> Done {
    let Some((area, fs)) = first(ctx, "options")? else { return Ok(()) };
    let device = area.attach(&area.image("a", fs)?)?;
    let target = area.target_dir("t")?;
    let how = MountSpec { options: vec![("no_such_option".into(), None)], ..spec(fs) };
    caused("unknown", ctx.host.mount_device(&device.path, &target, &how), Cause::Invalid)?;
    same("nothing is mounted", ctx.host.mount_at(&target)?, None)?;
    let how = MountSpec { options: vec![("discard".into(), None)], ..spec(fs) };
    ctx.host.mount_device(&device.path, &target, &how)?;
    holds("a known one is taken", ctx.host.mount_at(&target)?.is_some())
}

fn flags(ctx: &Ctx) -> Done {
    let Some((area, fs)) = first(ctx, "flags")? else { return Ok(()) };
    let device = area.attach(&area.image("a", fs)?)?;
    let target = area.target_dir("t")?;
    let how = MountSpec { flags: vec![MountFlag::NoExec, MountFlag::NoAtime], ..spec(fs) };
    ctx.host.mount_device(&device.path, &target, &how)?;
    ctx.host.write_file(&target.join("f"), b"x")?;
    same("mounted", ctx.host.mount_at(&target)?.map(|entry| entry.read_only), Some(false))
}

fn stacked(ctx: &Ctx) -> Done {
    let Some((area, fs)) = first(ctx, "stacked")? else { return Ok(()) };
    let (_, target) = area.mount(&area.image("a", fs)?, "t", fs)?;
    ctx.host.write_file(&target.join("lower"), b"")?;
    let (_, target) = area.mount(&area.image("b", fs)?, "t", fs).map(|(device, _)| (device, target))?;
    same("the lower is covered", ctx.host.metadata(&target.join("lower"))?, None)?;
    same("first", ctx.host.unmount(&target)?, true)?;
    holds("the lower is back", ctx.host.metadata(&target.join("lower"))?.is_some())?;
    same("second", ctx.host.unmount(&target)?, true)?;
    same("third", ctx.host.unmount(&target)?, false)
}

fn below(ctx: &Ctx) -> Done {
    let Some((area, fs)) = first(ctx, "below")? else { return Ok(()) };
    let (_, target) = area.mount(&area.image("a", fs)?, "t", fs)?;
    ctx.host.make_dir(&target.join("d"))?;
    area.mount(&area.image("b", fs)?, "t/d", fs)?;
    caused("crowded", ctx.host.unmount(&target), Cause::Busy)?;
    holds("it lives on", ctx.host.mount_at(&target)?.is_some())?;
    same("inner", ctx.host.unmount(&target.join("d"))?, true)?;
    same("outer", ctx.host.unmount(&target)?, true)
}

fn twice(ctx: &Ctx) -> Done {
    let Some((area, fs)) = first(ctx, "twice")? else { return Ok(()) };
    let (device, one) = area.mount(&area.image("a", fs)?, "t", fs)?;
    let other = area.target_dir("u")?;
    ctx.host.mount_device(&device.path, &other, &spec(fs))?;
    ctx.host.write_file(&one.join("f"), b"x")?;
    same("the same files", ctx.host.read_file(&other.join("f"))?, Some(b"x".to_vec()))?;
    same("one goes", ctx.host.unmount(&one)?, true)?;
    same("in use", ctx.host.device_in_use(&device.path)?, true)?;
    same("the other stays", ctx.host.read_file(&other.join("f"))?, Some(b"x".to_vec()))
}

fn read_only(ctx: &Ctx) -> Done {
    for fs in usable(ctx)? {
        let area = Area::new(ctx, "mount-read-only")?;
        let image = area.image("a", fs)?;
        let device = area.attach(&image)?;
        let target = area.target_dir("t")?;
        let how = MountSpec { read_only: true, ..spec(fs) };
        ctx.host.mount_device(&device.path, &target, &how)?;
        same("entry", ctx.host.mount_at(&target)?.map(|entry| entry.read_only), Some(true))?;
        caused("write", ctx.host.write_file(&target.join("f"), b""), Cause::Denied)?;
        same("statfs", ctx.host.fs_stat(&target)?.read_only, true)?;
        same("usage", ctx.host.usage(&target)?.read_only, true)?;
    }
    Ok(())
}

fn bind(ctx: &Ctx) -> Done {
    let Some((area, fs)) = first(ctx, "bind")? else { return Ok(()) };
    let (device, staged) = area.mount(&area.image("a", fs)?, "staged", fs)?;
    let target = area.target_dir("t")?;
    ctx.host.bind(&staged, &target, false)?;
    ctx.host.write_file(&staged.join("f"), b"x")?;
    same("the same files", ctx.host.read_file(&target.join("f"))?, Some(b"x".to_vec()))?;
    let (here, there) = (ctx.host.mount_at(&staged)?, ctx.host.mount_at(&target)?);
    same(
        "one filesystem",
        here.map(|entry| (entry.dev, entry.fs)),
        there.map(|entry| (entry.dev, entry.fs)),
    )?;
    same("the source goes", ctx.host.unmount(&staged)?, true)?;
    same("the bind stays", ctx.host.read_file(&target.join("f"))?, Some(b"x".to_vec()))?;
    same("and holds the device", ctx.host.device_in_use(&device.path)?, true)?;
    same("it goes", ctx.host.unmount(&target)?, true)?;
    same("nobody holds it", ctx.host.device_in_use(&device.path)?, false)
}

fn bind_read_only(ctx: &Ctx) -> Done {
    let Some((area, fs)) = first(ctx, "bind-read-only")? else { return Ok(()) };
    let (_, staged) = area.mount(&area.image("a", fs)?, "staged", fs)?;
    let target = area.target_dir("t")?;
    ctx.host.bind(&staged, &target, true)?;
    caused("write", ctx.host.write_file(&target.join("f"), b""), Cause::Denied)?;
    same("statfs", ctx.host.fs_stat(&target)?.read_only, true)?;
    same("entry", ctx.host.mount_at(&target)?.map(|entry| entry.read_only), Some(true))?;
    same("the filesystem is not", ctx.host.usage(&target)?.read_only, false)?;
    ctx.host.write_file(&staged.join("f"), b"x")?;
    same("the source's entry", ctx.host.mount_at(&staged)?.map(|entry| entry.read_only), Some(false))
}

fn bind_node(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "bind-node")?;
    ctx.host.create_file(&area.path("a"), super::area::IMAGE)?;
    let device = area.attach(&area.path("a"))?;
    let target = area.target("t");
    ctx.host.make_target(&target, FileKind::File)?;
    ctx.host.bind(&device.path, &target, false)?;
    same("node", ctx.host.mount_at(&target)?.and_then(|entry| entry.node_rdev), Some(device.rdev))?;
    let table = ctx.host.mounts()?;
    let listed = table.iter().find(|entry| entry.target == target).and_then(|entry| entry.node_rdev);
    same("in the table", listed, Some(device.rdev))?;
    same("kind", ctx.host.target_kind(&target)?, Some(FileKind::BlockDevice))?;
    same("the target is there", ctx.host.make_target(&target, FileKind::File)?, false)?;
    caused("it is not removed", ctx.host.remove_target(&target), Cause::Busy)?;
    same("unmounted", ctx.host.unmount(&target)?, true)?;
    same("the file below", ctx.host.target_kind(&target)?, Some(FileKind::File))?;
    same("removed", ctx.host.remove_target(&target)?, true)
}

fn bind_wrong(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "bind-wrong")?;
    let dir = area.target_dir("d")?;
    let file = area.target("f");
    ctx.host.make_target(&file, FileKind::File)?;
    caused("a directory on a file", ctx.host.bind(&dir, &file, false), Cause::Invalid)?;
    caused("a file on a directory", ctx.host.bind(&file, &dir, false), Cause::Invalid)?;
    caused("no source", ctx.host.bind(&area.target("no"), &dir, false), Cause::NotFound)?;
    caused("no target", ctx.host.bind(&dir, &area.target("no"), false), Cause::NotFound)?;
    same("nothing is mounted", ctx.host.mount_at(&dir)?, None)
}

fn make_target(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "make-target")?;
    let (dir, file) = (area.target("a/b/d"), area.target("a/b/f"));
    same("directory", ctx.host.make_target(&dir, FileKind::Directory)?, true)?;
    same("again", ctx.host.make_target(&dir, FileKind::Directory)?, false)?;
    same("file", ctx.host.make_target(&file, FileKind::File)?, true)?;
    same("again", ctx.host.make_target(&file, FileKind::File)?, false)?;
    caused("a file for a directory", ctx.host.make_target(&dir, FileKind::File), Cause::Exists)?;
    caused("a directory for a file", ctx.host.make_target(&file, FileKind::Directory), Cause::Exists)?;
    caused("a node", ctx.host.make_target(&area.target("n"), FileKind::BlockDevice), Cause::Invalid)?;
    same("kind", ctx.host.target_kind(&dir)?, Some(FileKind::Directory))?;
    same("kind", ctx.host.target_kind(&file)?, Some(FileKind::File))?;
    same("missing", ctx.host.target_kind(&area.target("n"))?, None)
}

fn remove_target(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "remove-target")?;
    let dir = area.target_dir("d")?;
    ctx.host.write_file(&dir.join("f"), b"x")?;
    caused("full directory", ctx.host.remove_target(&dir), Cause::NotEmpty)?;
    caused("full file", ctx.host.remove_target(&dir.join("f")), Cause::NotEmpty)?;
    ctx.host.remove_file(&dir.join("f"))?;
    if let Some(fs) = usable(ctx)?.first() {
        area.mount(&area.image("a", fs)?, "d", fs)?;
        caused("a mount", ctx.host.remove_target(&dir), Cause::Busy)?;
        ctx.host.unmount(&dir)?;
    }
    same("empty", ctx.host.remove_target(&dir)?, true)?;
    same("missing", ctx.host.remove_target(&dir)?, false)?;
    same("below nothing", ctx.host.remove_target(&dir.join("deeper"))?, false)
}

fn links(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "links")?;
    let real = area.target_dir("real")?;
    area.target_dir("real/inner")?;
    (ctx.plant_link)(&area.target("link"), &real).map_err(Broken)?;
    for path in ["link", "link/inner", "link/new"] {
        let path = area.target(path);
        let what = path.to_string_lossy();
        caused(&what, ctx.host.target_kind(&path), Cause::Invalid)?;
        caused(&what, ctx.host.make_target(&path, FileKind::Directory), Cause::Invalid)?;
        caused(&what, ctx.host.remove_target(&path), Cause::Invalid)?;
        caused(&what, ctx.host.mount_at(&path), Cause::Invalid)?;
        caused(&what, ctx.host.unmount(&path), Cause::Invalid)?;
        caused(&what, ctx.host.bind(&real, &path, false), Cause::Invalid)?;
        caused(&what, ctx.host.bind(&path, &real, false), Cause::Invalid)?;
        caused(&what, ctx.host.usage(&path), Cause::Invalid)?;
        caused(&what, ctx.host.freeze(&path), Cause::Invalid)?;
    }
    same("nothing was made", ctx.host.metadata(&real.join("new"))?, None)?;
    same("the link", ctx.host.metadata(&area.target("link"))?.map(|meta| meta.kind), Some(FileKind::Other))
}

fn odd_paths(ctx: &Ctx) -> Done {
    for path in ["", "relative/path", "/var/../etc"] {
        let path = Path::new(path);
        let what = path.to_string_lossy();
        caused(&what, ctx.host.target_kind(path), Cause::Invalid)?;
        caused(&what, ctx.host.make_target(path, FileKind::Directory), Cause::Invalid)?;
        caused(&what, ctx.host.remove_target(path), Cause::Invalid)?;
        caused(&what, ctx.host.unmount(path), Cause::Invalid)?;
    }
    Ok(())
}

fn usage(ctx: &Ctx) -> Done {
    for fs in usable(ctx)? {
        let area = Area::new(ctx, "usage")?;
        let (_, target) = area.mount(&area.image("a", fs)?, "t", fs)?;
        let usage = ctx.host.usage(&target)?;
        let image = super::area::IMAGE;
        holds("its size is about the image's", usage.bytes <= image && usage.bytes > image / 2)?;
        holds("it has room", usage.bytes_available > 0 && usage.bytes_available <= usage.bytes)?;
        same("btrfs counts no inodes", usage.inodes == 0, fs == "btrfs")?;
        holds("some are in use", usage.inodes == 0 || usage.inodes_used > 0)?;
        same("mode", usage.read_only, false)?;
        caused("below it", ctx.host.usage(&area.target_dir("plain")?), Cause::NotFound)?;
        caused("missing", ctx.host.usage(&area.target("no")), Cause::NotFound)?;
    }
    Ok(())
}
