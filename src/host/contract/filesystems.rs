//! Filesystems in images: told, made, checked, grown, frozen and copied.

use super::area::{Area, IMAGE, format, spec, usable};
use super::{Broken, Ctx, Done, Row, caused, holds, same};
use crate::host::{Cause, Fsck, MkfsSpec, Probe};

pub(super) const CHECKS: &[Row] = &[
    ("a fresh file is blank, bytes of a stranger are foreign, and nothing is an error", probe),
    ("a formatted image is told by its filesystem, size and uuid", mkfs),
    ("a formatted image gets the uuid that was asked for", mkfs_uuid),
    ("formatting what is mounted, too small or unknown is refused", mkfs_refused),
    ("a clean filesystem checks clean, and a mounted one is not checked", fsck),
    ("a copy taken while mounted is mended by a check or by its mount", dirty),
    ("an unmounted filesystem grows where it can", grow_unmounted),
    ("a mounted filesystem grows with its device", grow_mounted),
    ("growing needs the device that is mounted there", grow_wrong),
    ("a filesystem is frozen once and thawed once", freeze),
    ("a copy of a frozen filesystem has what was written before", frozen_copy),
    ("clones of one filesystem are mounted side by side, each with its own data", side_by_side),
    ("a clone's unchanged blocks stay at the source's place", changed_blocks),
    ("trimming a mounted filesystem gives bytes back", trim),
];

fn probe(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "probe")?;
    ctx.host.create_file(&area.path("blank"), IMAGE)?;
    same("fresh", ctx.host.probe(&area.path("blank"))?, Probe::Blank)?;
    ctx.host.write_file(&area.path("foreign"), &[0x5a; 8192])?;
    ctx.host.set_len(&area.path("foreign"), IMAGE)?;
    let foreign = ctx.host.probe(&area.path("foreign"))?;
    holds("a stranger's bytes are foreign", matches!(foreign, Probe::Foreign(_)))?;
    let device = area.attach(&area.path("foreign"))?;
    let foreign = ctx.host.probe(&device.path)?;
    holds("behind a device too", matches!(foreign, Probe::Foreign(_)))?;
    caused("missing", ctx.host.probe(&area.path("no")), Cause::NotFound)
}

/// The parts of a filesystem that was found.
fn found(what: &str, probe: Probe) -> Result<(String, String, u64, bool), Broken> {
    match probe {
        Probe::Fs { fs, uuid, size, dirty, .. } => Ok((fs, uuid, size, dirty)),
        other => Err(Broken(format!("{what}: got {other:?}, want a filesystem"))),
    }
}

fn mkfs(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "mkfs")?;
    for kind in usable(ctx)? {
        let image = area.image(kind, kind)?;
        let (fs, uuid, size, dirty) = found(kind, ctx.host.probe(&image)?)?;
        same("kind", fs.as_str(), kind)?;
        // XFS tells in its log only, which is not read.
        same("its journal is empty", dirty, kind == "xfs" && dirty)?;
        holds("the uuid is in lower case with dashes", uuid.len() == 36 && uuid == uuid.to_lowercase())?;
        holds("it fills the image", (IMAGE / 10 * 9..=IMAGE).contains(&size))?;
        let device = area.attach(&image)?;
        same("through the device", ctx.host.probe(&device.path)?, ctx.host.probe(&image)?)?;
        ctx.host.mkfs(&device.path, &format(kind))?;
        let (_, again, ..) = found(kind, ctx.host.probe(&image)?)?;
        holds("formatting again gives another uuid", again != uuid)?;
    }
    Ok(())
}

fn mkfs_uuid(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "mkfs-uuid")?;
    let wanted = "0c1e5b5e-4f7a-4d0f-9d4e-0123456789ab";
    for kind in usable(ctx)? {
        let mut how = format(kind);
        let arg = if kind == "xfs" {
            ["-m".to_owned(), format!("uuid={wanted}")]
        } else {
            ["-U".to_owned(), wanted.to_owned()]
        };
        how.args.extend(arg);
        let image = area.path(kind);
        ctx.host.create_file(&image, IMAGE)?;
        ctx.host.mkfs(&image, &how)?;
        let (_, uuid, ..) = found(kind, ctx.host.probe(&image)?)?;
        same("uuid", uuid.as_str(), wanted)?;
    }
    Ok(())
}

fn mkfs_refused(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "mkfs-refused")?;
    let unknown = MkfsSpec { fs: "ntfs".into(), args: Vec::new() };
    ctx.host.create_file(&area.path("raw"), IMAGE)?;
    caused("unknown", ctx.host.mkfs(&area.path("raw"), &unknown), Cause::Unsupported)?;
    same("untouched", ctx.host.probe(&area.path("raw"))?, Probe::Blank)?;
    for kind in usable(ctx)? {
        ctx.host.create_file(&area.path(&format!("{kind}-small")), 64 << 10)?;
        caused(
            "too small",
            ctx.host.mkfs(&area.path(&format!("{kind}-small")), &format(kind)),
            Cause::Program,
        )?;
        caused("missing", ctx.host.mkfs(&area.path("no"), &format(kind)), Cause::NotFound)?;
        let image = area.image(kind, kind)?;
        let (device, target) = area.mount(&image, kind, kind)?;
        caused("mounted", ctx.host.mkfs(&device.path, &format(kind)), Cause::Busy)?;
        ctx.host.write_file(&target.join("f"), b"alive")?;
    }
    Ok(())
}

fn fsck(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "fsck")?;
    for kind in usable(ctx)? {
        let image = area.image(kind, kind)?;
        let device = area.attach(&image)?;
        same(kind, ctx.host.fsck(&device.path, kind)?, Fsck::Clean)?;
    }
    let unknown = ctx.host.fsck(&area.path("x"), "ntfs");
    caused("unknown", unknown, Cause::Unsupported)?;
    if !usable(ctx)?.contains(&"ext4") {
        return Ok(());
    }
    let (device, _) = area.mount(&area.path("ext4"), "t", "ext4")?;
    caused("mounted", ctx.host.fsck(&device.path, "ext4"), Cause::Busy)
}

fn dirty(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "dirty")?;
    for kind in usable(ctx)? {
        let image = area.image(kind, kind)?;
        let (_, target) = area.mount(&image, kind, kind)?;
        ctx.host.write_file(&target.join("f"), b"synced")?;
        ctx.host.sync_file(&target.join("f"))?;
        ctx.host.sync_file(&image)?;
        let copy = area.path(&format!("{kind}-copy"));
        ctx.host.clone_file(&image, &copy)?;
        if kind == "btrfs" {
            // Its twin is mounted, and btrfs tells filesystems apart by uuid.
            ctx.host.unmount(&target)?;
        } else {
            same("the journal is not empty", found(kind, ctx.host.probe(&copy)?)?.3, true)?;
        }
        let device = area.attach(&copy)?;
        let checked = ctx.host.fsck(&device.path, kind)?;
        holds("it is not damaged", !matches!(checked, Fsck::Damaged(_)))?;
        if kind == "ext4" {
            same("the check emptied the journal", found(kind, ctx.host.probe(&copy)?)?.3, false)?;
        }
        let target = area.target_dir(&format!("{kind}-copy"))?;
        ctx.host.mount_device(&device.path, &target, &spec(kind))?;
        same("the file", ctx.host.read_file(&target.join("f"))?, Some(b"synced".to_vec()))?;
        ctx.host.unmount(&target)?;
        let dirty = found(kind, ctx.host.probe(&copy)?)?.3;
        same("clean after the unmount", dirty, kind == "xfs" && dirty)?;
    }
    Ok(())
}

fn grow_unmounted(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "grow-unmounted")?;
    caused("unknown", ctx.host.grow_unmounted(&area.path("x"), "ntfs"), Cause::Unsupported)?;
    for kind in usable(ctx)? {
        let image = area.image(kind, kind)?;
        ctx.host.set_len(&image, 2 * IMAGE)?;
        let device = area.attach(&image)?;
        let before = found(kind, ctx.host.probe(&image)?)?.2;
        let grown = ctx.host.grow_unmounted(&device.path, kind)?;
        same("only ext4 grows unmounted", grown, kind == "ext4")?;
        let after = found(kind, ctx.host.probe(&image)?)?.2;
        holds("it is larger if it says so", if grown { after > before } else { after == before })?;
    }
    Ok(())
}

fn grow_mounted(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "grow-mounted")?;
    for kind in usable(ctx)? {
        let image = area.image(kind, kind)?;
        let (device, target) = area.mount(&image, kind, kind)?;
        let before = ctx.host.usage(&target)?.bytes;
        ctx.host.grow_mounted(&device.path, &target, kind)?;
        same("nothing to grow", ctx.host.usage(&target)?.bytes, before)?;
        ctx.host.set_len(&image, 2 * IMAGE)?;
        ctx.host.loop_resize(&device)?;
        if kind == "ext4" && !ctx.host.facts()?.cap_sys_resource {
            caused(
                "without the capability",
                ctx.host.grow_mounted(&device.path, &target, kind),
                Cause::Denied,
            )?;
            continue;
        }
        ctx.host.grow_mounted(&device.path, &target, kind)?;
        holds("it is larger", ctx.host.usage(&target)?.bytes > before + IMAGE / 2)?;
        same("still mounted", ctx.host.mount_at(&target)?.is_some(), true)?;
    }
    Ok(())
}

fn grow_wrong(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "grow-wrong")?;
    for kind in usable(ctx)?.into_iter().filter(|kind| *kind != "btrfs") {
        let (_, target) = area.mount(&area.image(kind, kind)?, kind, kind)?;
        let other = area.path(&format!("{kind}-other"));
        ctx.host.create_file(&other, IMAGE)?;
        let device = area.attach(&other)?;
        caused("another device", ctx.host.grow_mounted(&device.path, &target, kind), Cause::Invalid)?;
        let plain = area.target_dir("plain")?;
        caused("no mount", ctx.host.grow_mounted(&device.path, &plain, kind), Cause::NotFound)?;
    }
    Ok(())
}

fn freeze(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "freeze")?;
    for kind in usable(ctx)? {
        let (_, target) = area.mount(&area.image(kind, kind)?, kind, kind)?;
        same("not frozen", ctx.host.thaw(&target)?, false)?;
        same("frozen", ctx.host.freeze(&target)?, true)?;
        same("twice", ctx.host.freeze(&target)?, false)?;
        same("thawed", ctx.host.thaw(&target)?, true)?;
        same("twice", ctx.host.thaw(&target)?, false)?;
        ctx.host.write_file(&target.join("f"), b"writes go on")?;
    }
    let plain = area.target_dir("plain")?;
    caused("no mount", ctx.host.freeze(&plain), Cause::NotFound)?;
    caused("no mount", ctx.host.thaw(&plain), Cause::NotFound)?;
    caused("missing", ctx.host.freeze(&area.target("no")), Cause::NotFound)
}

fn frozen_copy(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "frozen-copy")?;
    for kind in usable(ctx)? {
        let image = area.image(kind, kind)?;
        let (_, target) = area.mount(&image, kind, kind)?;
        // Not synced: the freeze is what brings it into the image.
        ctx.host.write_file(&target.join("f"), b"before")?;
        ctx.host.freeze(&target)?;
        let copy = area.path(&format!("{kind}-copy"));
        let copied = ctx.host.sync_file(&image).and_then(|()| ctx.host.clone_file(&image, &copy));
        ctx.host.thaw(&target)?;
        copied?;
        ctx.host.write_file(&target.join("g"), b"after")?;
        ctx.host.unmount(&target)?;
        let (_, target) = area.mount(&copy, &format!("{kind}-copy"), kind)?;
        same("before", ctx.host.read_file(&target.join("f"))?, Some(b"before".to_vec()))?;
        same("after", ctx.host.read_file(&target.join("g"))?, None)?;
        ctx.host.unmount(&target)?;
    }
    Ok(())
}

fn side_by_side(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "side-by-side")?;
    for kind in usable(ctx)?.into_iter().filter(|kind| *kind != "btrfs") {
        let image = area.image(kind, kind)?;
        let names = [format!("{kind}-1"), format!("{kind}-2")];
        let third = area.path(&format!("{kind}-3"));
        for clone in names.iter().map(|name| area.path(name)).chain([third.clone()]) {
            ctx.host.clone_file(&image, &clone)?;
        }
        let plain = crate::host::MountSpec { fs: kind.into(), ..Default::default() };
        // A filesystem that is mounted with `nouuid` is in nobody's way: the kernel notes the uuid of the others only.
        let at = area.target_dir("first")?;
        if kind == "xfs" {
            ctx.host.mount_device(&area.attach(&image)?.path, &at, &plain)?;
        }
        let mut targets = Vec::new();
        for name in &names {
            let (_, target) = area.mount(&area.path(name), name, kind)?;
            ctx.host.write_file(&target.join("mine"), name.as_bytes())?;
            targets.push(target);
        }
        if kind == "xfs" {
            let device = area.attach(&third)?;
            let at = area.target_dir("plain")?;
            holds(
                "twins are refused without nouuid",
                ctx.host.mount_device(&device.path, &at, &plain).is_err(),
            )?;
            same("nothing is mounted", ctx.host.mount_at(&at)?, None)?;
        }
        for (name, target) in names.iter().zip(&targets) {
            same("unmounted", ctx.host.unmount(target)?, true)?;
            ctx.host.mount_device(&ctx.host.loops_of(&area.path(name))?[0].path, target, &spec(kind))?;
            same("its own", ctx.host.read_file(&target.join("mine"))?, Some(name.as_bytes().to_vec()))?;
        }
    }
    Ok(())
}

fn changed_blocks(ctx: &Ctx) -> Done {
    let Some(kind) = usable(ctx)?.first().copied() else { return Ok(()) };
    let area = Area::new(ctx, "changed-blocks")?;
    let (image, copy) = (area.image("a", kind)?, area.path("b"));
    ctx.host.sync_file(&image)?;
    ctx.host.clone_file(&image, &copy)?;
    let (device, target) = area.mount(&copy, "t", kind)?;
    ctx.host.write_file(&target.join("f"), &vec![3; 64 << 10])?;
    ctx.host.unmount(&target)?;
    ctx.host.loop_detach(&device, &copy)?;
    ctx.host.sync_file(&copy)?;
    let (ours, theirs) = (ctx.host.extents(&image, 0, 10_000)?, ctx.host.extents(&copy, 0, 10_000)?);
    let covered = |e: &crate::host::Extent| {
        ours.iter().any(|o| {
            o.logical <= e.logical
                && o.logical + o.len >= e.logical + e.len
                && o.physical + (e.logical - o.logical) == e.physical
        })
    };
    holds("some blocks are where they were", theirs.iter().any(&covered))?;
    holds("some are not", !theirs.iter().all(covered))?;
    holds("what only the clone has is not shared", theirs.iter().any(|e| !e.shared))
}

fn trim(ctx: &Ctx) -> Done {
    let area = Area::new(ctx, "trim")?;
    for kind in usable(ctx)? {
        let (_, target) = area.mount(&area.image(kind, kind)?, kind, kind)?;
        holds("no more than there is", ctx.host.trim(&target)? <= IMAGE)?;
    }
    let plain = area.target_dir("plain")?;
    caused("no mount", ctx.host.trim(&plain), Cause::NotFound)
}
