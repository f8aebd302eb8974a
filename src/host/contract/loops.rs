//! Loop devices.

use std::path::Path;

use super::area::{Area, IMAGE, format, usable};
use super::{Ctx, Done, Row, caused, holds, same};
use crate::host::{Cause, Detached, FileKind, LoopDevice, LoopOptions};

pub(super) const CHECKS: &[Row] = &[
    ("a file is attached, found and detached", attach),
    ("a device is found by its file's inode, whatever the file is called", by_inode),
    ("what cannot be attached is refused", refuse),
    ("a device of another file is left alone", others),
    ("a device whose file was removed is found below its directory and detached", removed),
    ("a mounted device is held, and its mount lives on", held),
    ("a device grows with its file when it is told to", resize),
    ("direct input and output is switched where the filesystem can", direct),
    ("a read-only device stays as it is", read_only),
    ("two devices of one file are both found", two),
    ("a device is in use while it is mounted", in_use),
    ("read-ahead is set on devices only", read_ahead),
];

fn paths(devices: &[LoopDevice]) -> Vec<&Path> {
    devices.iter().map(|device| device.path.as_path()).collect()
}

fn attach(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "attach")?;
    let image = area.path("a");
    ctx.host.create_file(&image, IMAGE)?;
    same("before", ctx.host.loops_of(&image)?, Vec::new())?;
    let device = area.attach(&image)?;
    same("found", paths(&ctx.host.loops_of(&image)?), vec![device.path.as_path()])?;
    let meta = ctx.host.metadata(&device.path)?.map(|meta| (meta.kind, meta.rdev));
    same("node", meta, Some((FileKind::BlockDevice, device.rdev)))?;
    same("size", ctx.host.device_size(&device.path)?, IMAGE)?;
    same("mode", device.read_only, false)?;
    same("detached", ctx.host.loop_detach(&device, &image)?, Detached::Gone)?;
    same("after", ctx.host.loops_of(&image)?, Vec::new())?;
    same("again", ctx.host.loop_detach(&device, &image)?, Detached::Gone)
}

fn by_inode(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "by-inode")?;
    let (a, b) = (area.path("a"), area.path("b"));
    ctx.host.create_file(&a, IMAGE)?;
    let device = area.attach(&a)?;
    ctx.host.rename(&a, &b)?;
    ctx.host.create_file(&a, IMAGE)?;
    same("the new file", ctx.host.loops_of(&a)?, Vec::new())?;
    same("the renamed file", paths(&ctx.host.loops_of(&b)?), vec![device.path.as_path()])?;
    same("detached", ctx.host.loop_detach(&device, &b)?, Detached::Gone)
}

fn refuse(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "refuse")?;
    caused("missing", area.attach(&area.path("no")), Cause::NotFound)?;
    holds("a directory is refused", area.attach(&area.dir).is_err())?;
    same("of nothing", ctx.host.loops_of(&area.path("no"))?, Vec::new())
}

fn others(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "others")?;
    let (a, b) = (area.path("a"), area.path("b"));
    ctx.host.create_file(&a, IMAGE)?;
    ctx.host.create_file(&b, IMAGE)?;
    let device = area.attach(&a)?;
    // As far as `b` goes, there is nothing to detach.
    same("of another", ctx.host.loop_detach(&device, &b)?, Detached::Gone)?;
    same("still there", ctx.host.loops_of(&a)?.len(), 1)?;
    same("of a missing file", ctx.host.loop_detach(&device, &area.path("c"))?, Detached::Gone)?;
    same("still there", ctx.host.loops_of(&a)?.len(), 1)
}

fn removed(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "removed")?;
    let a = area.path("a");
    ctx.host.create_file(&a, IMAGE)?;
    let device = area.attach(&a)?;
    same("below", paths(&ctx.host.loops_below(&area.dir)?), vec![device.path.as_path()])?;
    ctx.host.remove_file(&a)?;
    same("of the name", ctx.host.loops_of(&a)?, Vec::new())?;
    same("below", paths(&ctx.host.loops_below(&area.dir)?), vec![device.path.as_path()])?;
    ctx.host.make_dir(&area.path("d"))?;
    same("below another", ctx.host.loops_below(&area.path("d"))?, Vec::new())?;
    same("detached", ctx.host.loop_detach(&device, &a)?, Detached::Gone)?;
    same("after", ctx.host.loops_below(&area.dir)?, Vec::new())
}

fn held(ctx: &Ctx) -> Done {
    let Some(fs) = usable(ctx)?.first().copied() else { return Ok(()) };
    let area = Area::new(ctx, "held")?;
    let image = area.image("a", fs)?;
    let (device, target) = area.mount(&image, "t", fs)?;
    same("while mounted", ctx.host.loop_detach(&device, &image)?, Detached::Held)?;
    ctx.host.write_file(&target.join("f"), b"alive")?;
    ctx.host.sync_file(&target.join("f"))?;
    same("still attached", ctx.host.loops_of(&image)?.len(), 1)?;
    same("unmounted", ctx.host.unmount(&target)?, true)?;
    same("not gone by itself", ctx.host.loops_of(&image)?.len(), 1)?;
    same("then", ctx.host.loop_detach(&device, &image)?, Detached::Gone)
}

fn resize(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "resize")?;
    let image = area.path("a");
    ctx.host.create_file(&image, IMAGE)?;
    let device = area.attach(&image)?;
    ctx.host.set_len(&image, 2 * IMAGE)?;
    same("before", ctx.host.device_size(&device.path)?, IMAGE)?;
    ctx.host.loop_resize(&device)?;
    same("after", ctx.host.device_size(&device.path)?, 2 * IMAGE)
}

fn direct(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "direct")?;
    let image = area.path("a");
    ctx.host.create_file(&image, IMAGE)?;
    let device = area.attach(&image)?;
    same("not asked for", device.direct_io, false)?;
    match ctx.host.loop_set_direct_io(&device, true) {
        Err(error) if error.cause == Cause::Unsupported => return Ok(()),
        other => other?,
    }
    same("on", ctx.host.loops_of(&image)?.iter().all(|device| device.direct_io), true)?;
    ctx.host.loop_set_direct_io(&device, false)?;
    same("off", ctx.host.loops_of(&image)?.iter().any(|device| device.direct_io), false)?;
    ctx.host.loop_detach(&device, &image)?;
    let device = ctx.host.loop_attach(&image, LoopOptions { direct_io: true, ..LoopOptions::default() })?;
    same("asked for", device.direct_io, true)
}

fn read_only(ctx: &Ctx) -> Done {
    let Some(fs) = usable(ctx)?.first().copied() else { return Ok(()) };
    let area = Area::new(ctx, "read-only")?;
    let image = area.image("a", fs)?;
    let device = ctx.host.loop_attach(&image, LoopOptions { read_only: true, ..LoopOptions::default() })?;
    same("device", device.read_only, true)?;
    same("found", ctx.host.loops_of(&image)?.iter().all(|device| device.read_only), true)?;
    same("probe", ctx.host.probe(&device.path)?, ctx.host.probe(&image)?)?;
    holds("it is not formatted", ctx.host.mkfs(&device.path, &format(fs)).is_err())?;
    let target = area.target_dir("t")?;
    let spec = super::area::spec(fs);
    holds("not mounted for writing", ctx.host.mount_device(&device.path, &target, &spec).is_err())?;
    same("nothing is mounted", ctx.host.mount_at(&target)?, None)
}

fn two(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "two")?;
    let image = area.path("a");
    ctx.host.create_file(&image, IMAGE)?;
    let (one, other) = (area.attach(&image)?, area.attach(&image)?);
    holds("they are two", one.rdev != other.rdev)?;
    same("found", ctx.host.loops_of(&image)?.len(), 2)?;
    same("detached", ctx.host.loop_detach(&one, &image)?, Detached::Gone)?;
    same("left", paths(&ctx.host.loops_of(&image)?), vec![other.path.as_path()])
}

fn in_use(ctx: &Ctx) -> Done {
    let Some(fs) = usable(ctx)?.first().copied() else { return Ok(()) };
    let area = Area::new(ctx, "in-use")?;
    let image = area.image("a", fs)?;
    let device = area.attach(&image)?;
    same("attached", ctx.host.device_in_use(&device.path)?, false)?;
    let target = area.target_dir("t")?;
    ctx.host.mount_device(&device.path, &target, &super::area::spec(fs))?;
    same("mounted", ctx.host.device_in_use(&device.path)?, true)?;
    ctx.host.unmount(&target)?;
    same("unmounted", ctx.host.device_in_use(&device.path)?, false)?;
    caused("a file", ctx.host.device_in_use(&image), Cause::Invalid)?;
    caused("missing", ctx.host.device_in_use(&area.path("no")), Cause::NotFound)
}

fn read_ahead(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "read-ahead")?;
    let image = area.path("a");
    ctx.host.create_file(&image, IMAGE)?;
    let device = area.attach(&image)?;
    ctx.host.set_read_ahead(&device.path, 4096)?;
    caused("a file", ctx.host.set_read_ahead(&image, 4096), Cause::Invalid)?;
    caused("missing", ctx.host.set_read_ahead(&area.path("no"), 4096), Cause::NotFound)?;
    caused("size of a file", ctx.host.device_size(&image), Cause::Invalid)
}
