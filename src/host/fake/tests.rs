//! What the fake promises besides the shared contract: crashes, power cuts, reboots, and the traps.

use std::path::{Path, PathBuf};

use super::{Fake, Moment};
use crate::host::{
    Cause, Detached, FileKind, Host, HostResult, LoopDevice, LoopOptions, MkfsSpec, MountSpec, Probe,
};

const GIB: u64 = 1 << 30;

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn pool() -> Fake {
    Fake::with_pool("/pool", "xfs", 10 * GIB)
}

/// An image with a filesystem, attached and mounted at `/var/lib/kubelet/NAME`.
fn mounted(fake: &Fake, name: &str, fs: &str) -> (LoopDevice, PathBuf, PathBuf) {
    let image = p("/pool").join(format!("{name}.img"));
    fake.create_file(&image, GIB).unwrap();
    fake.mkfs(&image, &MkfsSpec { fs: fs.into(), args: vec![] }).unwrap();
    fake.sync_dir(p("/pool")).unwrap();
    let (device, target) = mount(fake, name, fs).unwrap();
    (device, image, target)
}

fn mount(fake: &Fake, name: &str, fs: &str) -> HostResult<(LoopDevice, PathBuf)> {
    let device = fake.loop_attach(&p("/pool").join(format!("{name}.img")), LoopOptions::default())?;
    let target = p("/var/lib/kubelet").join(name);
    fake.make_target(&target, FileKind::Directory)?;
    let options = if fs == "xfs" { vec![("nouuid".to_owned(), None)] } else { vec![] };
    fake.mount_device(&device.path, &target, &MountSpec { fs: fs.into(), options, ..MountSpec::default() })?;
    Ok((device, target))
}

#[test]
fn what_an_application_did_not_sync_is_not_in_a_copy_without_a_freeze() {
    let fake = pool();
    let (_, image, target) = mounted(&fake, "a", "xfs");
    fake.app_write(&target, "k", "old").unwrap();
    fake.app_fsync(&target).unwrap();
    fake.app_write(&target, "k", "new").unwrap();
    fake.clone_file(&image, p("/pool/early.img")).unwrap();
    assert!(fake.freeze(&target).unwrap());
    assert_eq!(fake.app_write(&target, "k", "late").unwrap_err().cause, Cause::Busy);
    fake.clone_file(&image, p("/pool/late.img")).unwrap();
    assert!(fake.thaw(&target).unwrap());
    assert_eq!(fake.peek("/pool/early.img", "k").unwrap().as_deref(), Some("old"));
    assert_eq!(fake.peek("/pool/late.img", "k").unwrap().as_deref(), Some("new"));
}

#[test]
fn a_file_whose_name_is_durable_and_whose_content_is_not_reads_as_zero_length_after_a_power_cut() {
    let fake = pool();
    fake.write_file(p("/pool/synced"), b"yes").unwrap();
    fake.sync_file(p("/pool/synced")).unwrap();
    fake.write_file(p("/pool/named"), b"no").unwrap();
    fake.sync_dir(p("/pool")).unwrap();
    fake.write_file(p("/pool/nameless"), b"no").unwrap();
    let fake = fake.power_cut();
    assert_eq!(fake.read_file(p("/pool/synced")).unwrap(), Some(b"yes".to_vec()));
    assert_eq!(fake.read_file(p("/pool/named")).unwrap(), Some(Vec::new()));
    assert_eq!(fake.read_file(p("/pool/nameless")).unwrap(), None);
}

#[test]
fn a_rename_that_was_not_synced_is_undone_by_a_power_cut_and_the_old_file_is_whole() {
    let fake = pool();
    for (name, bytes) in [("/pool/a", b"old"), ("/pool/a.new", b"new")] {
        fake.write_file(p(name), bytes).unwrap();
        fake.sync_file(p(name)).unwrap();
    }
    let used = fake.audit().used;
    fake.rename(p("/pool/a.new"), p("/pool/a")).unwrap();
    fake.set_len(p("/pool/a"), 1).unwrap();
    let fake = fake.power_cut();
    assert_eq!(fake.read_file(p("/pool/a")).unwrap(), Some(b"old".to_vec()));
    assert_eq!(fake.read_file(p("/pool/a.new")).unwrap(), Some(b"new".to_vec()));
    assert_eq!(fake.audit().used, used);
}

#[test]
fn a_subvolume_deleted_but_not_committed_is_back_whole_after_a_power_cut() {
    let fake = Fake::with_pool("/pool", "btrfs", GIB);
    fake.quota_enable(p("/pool")).unwrap();
    fake.subvolume_create(p("/pool/s"), GIB).unwrap();
    fake.write_file(p("/pool/s/f"), b"x").unwrap();
    fake.sync_file(p("/pool/s/f")).unwrap();
    assert!(fake.subvolume_delete(p("/pool/s")).unwrap());
    let fake = fake.power_cut();
    assert_eq!(fake.read_file(p("/pool/s/f")).unwrap(), Some(b"x".to_vec()));
    assert!(fake.subvolume_delete(p("/pool/s")).unwrap());
    fake.sync_dir(p("/pool")).unwrap();
    assert_eq!(fake.power_cut().audit().used[p("/pool")], 0);
}

#[test]
fn a_synced_write_survives_a_power_cut_and_an_unsynced_one_does_not() {
    let fake = pool();
    let (_, _, target) = mounted(&fake, "a", "ext4");
    fake.app_write(&target, "kept", "1").unwrap();
    fake.app_fsync(&target).unwrap();
    fake.app_write(&target, "lost", "1").unwrap();
    let fake = fake.power_cut();
    assert!(fake.audit().loops.is_empty() && fake.audit().mounts.is_empty());
    assert!(matches!(fake.probe(p("/pool/a.img")).unwrap(), Probe::Fs { dirty: true, .. }));
    mount(&fake, "a", "ext4").unwrap();
    assert_eq!(fake.app_read(&target, "kept").unwrap().as_deref(), Some("1"));
    assert_eq!(fake.app_read(&target, "lost").unwrap(), None);
}

#[test]
fn loops_mounts_and_freezes_outlive_the_process_and_not_the_boot() {
    let fake = pool();
    let (device, image, target) = mounted(&fake, "a", "xfs");
    fake.app_write(&target, "k", "v").unwrap();
    fake.freeze(&target).unwrap();
    let lock = fake.lock_dir(p("/pool")).unwrap();
    let dead = fake.clone();
    let fake = fake.restart();
    assert_eq!(dead.metadata(&image).unwrap_err().cause, Cause::Crashed);
    assert_eq!(fake.loops_of(&image).unwrap(), vec![device.clone()]);
    assert!(fake.mount_at(&target).unwrap().is_some());
    assert_eq!(fake.audit().frozen, vec![device.path.clone()]);
    let _mine = fake.lock_dir(p("/pool")).unwrap();
    drop(lock);
    assert_eq!(fake.lock_dir(p("/pool")).err().map(|e| e.cause), Some(Cause::Busy));
    let boot = fake.facts().unwrap().boot_id;
    let fake = fake.reboot();
    assert_ne!(fake.facts().unwrap().boot_id, boot);
    assert!(
        fake.audit().loops.is_empty() && fake.audit().mounts.is_empty() && fake.audit().frozen.is_empty()
    );
    let (again, _) = mount(&fake, "a", "xfs").unwrap();
    assert_ne!(again.path, device.path, "numbers come in another order");
    assert_eq!(fake.app_read(&target, "k").unwrap().as_deref(), Some("v"));
}

#[test]
fn a_crash_has_its_effect_before_during_or_after_the_call() {
    let check = |moment: Moment, expect: Option<u64>| {
        let fake = pool();
        fake.write_file(p("/pool/a"), b"12345678").unwrap();
        fake.crash(2, moment);
        assert_eq!(fake.clone_file(p("/pool/a"), p("/pool/b")).unwrap_err().cause, Cause::Crashed);
        assert_eq!(fake.metadata(p("/pool/a")).unwrap_err().cause, Cause::Crashed);
        let fake = fake.restart();
        assert_eq!(fake.metadata(p("/pool/b")).unwrap().map(|meta| meta.len), expect);
    };
    check(Moment::Before, None);
    check(Moment::During, Some(0));
    check(Moment::After, Some(8));
}

#[test]
fn planned_failures_have_no_effect_and_are_counted() {
    let fake = pool();
    fake.fail_at(2, Cause::NoSpace);
    fake.fail_always("fs_stat", Cause::Other);
    fake.make_dir(p("/pool/a")).unwrap();
    assert_eq!(fake.make_dir(p("/pool/b")).unwrap_err().cause, Cause::NoSpace);
    assert!(fake.make_dir(p("/pool/b")).unwrap());
    assert_eq!(fake.fs_stat(p("/pool")).unwrap_err().cause, Cause::Other);
    assert_eq!(fake.counted(), 3);
    assert_eq!(fake.calls().iter().filter(|call| call.mutating).count(), 3);
}

#[test]
fn a_hook_runs_between_two_calls_of_the_driver() {
    let fake = pool();
    fake.on_call(|fake, call| {
        if call.name == "rename" {
            fake.plant("/pool/b", "stranger").unwrap();
        }
    });
    fake.write_file(p("/pool/a"), b"mine").unwrap();
    fake.rename(p("/pool/a"), p("/pool/c")).unwrap();
    fake.off_call();
    assert_eq!(fake.read_file(p("/pool/b")).unwrap(), Some(b"stranger".to_vec()));
}

#[test]
fn a_full_pool_turns_a_mounted_volume_read_only_and_not_the_writers_data_wrong() {
    let fake = Fake::with_pool("/pool", "xfs", 64 << 20);
    let (_, image, target) = mounted(&fake, "a", "ext4");
    fake.app_write(&target, "k", "old").unwrap();
    fake.app_fsync(&target).unwrap();
    fake.clone_file(&image, p("/pool/s.img")).unwrap();
    let free = fake.fs_stat(p("/pool")).unwrap().available;
    fake.create_file(p("/pool/ballast"), free).unwrap();
    fake.allocate(p("/pool/ballast")).unwrap();
    fake.app_write(&target, "k", "new").unwrap();
    fake.app_fsync(&target).unwrap_err();
    assert!(fake.usage(&target).unwrap().read_only);
    assert_eq!(fake.peek("/pool/s.img", "k").unwrap().as_deref(), Some("old"));
}

#[test]
fn a_device_that_is_detached_while_held_goes_when_its_last_holder_does() {
    let fake = pool();
    let (device, image, target) = mounted(&fake, "a", "xfs");
    assert_eq!(fake.loop_detach(&device, &image).unwrap(), Detached::Held);
    assert!(!fake.audit().loops[0].leaving, "the driver's own call leaves no mark");
    fake.losetup_d(&device.path).unwrap();
    assert_eq!(fake.loops_of(&image).unwrap().len(), 1);
    assert!(fake.unmount(&target).unwrap());
    assert!(fake.loops_of(&image).unwrap().is_empty());
}

#[test]
fn a_removed_image_keeps_its_space_while_a_device_has_it_and_the_device_is_found() {
    let fake = pool();
    let (device, image, target) = mounted(&fake, "a", "xfs");
    fake.unmount(&target).unwrap();
    assert!(fake.remove_file(&image).unwrap());
    assert!(fake.audit().used[p("/pool")] > 0);
    assert_eq!(fake.loops_below(p("/pool")).unwrap()[0].path, device.path);
    assert_eq!(fake.loops_below(p("/pool")).unwrap()[0].file, p("/pool/a.img (deleted)"));
    assert!(fake.audit().loops[0].removed);
    assert_eq!(fake.loop_detach(&device, &image).unwrap(), Detached::Gone);
    assert_eq!(fake.audit().used[p("/pool")], 0);
}

#[test]
fn a_frozen_filesystem_outlives_its_last_mount() {
    let fake = pool();
    let (device, _, target) = mounted(&fake, "a", "xfs");
    fake.freeze(&target).unwrap();
    assert!(fake.unmount(&target).unwrap());
    assert!(fake.device_in_use(&device.path).unwrap());
    fake.mount_device(&device.path, &target, &MountSpec { fs: "xfs".into(), ..MountSpec::default() })
        .unwrap();
    assert!(fake.thaw(&target).unwrap());
    assert!(fake.unmount(&target).unwrap());
    assert!(!fake.device_in_use(&device.path).unwrap());
}

#[test]
fn a_read_only_bind_of_a_device_node_does_not_stop_writes_and_a_read_only_device_does() {
    let check = |options: LoopOptions, bind_read_only: bool, written: bool| {
        let fake = pool();
        fake.create_file(p("/pool/raw"), GIB).unwrap();
        let device = fake.loop_attach(p("/pool/raw"), options).unwrap();
        fake.make_target(p("/var/lib/kubelet/raw"), FileKind::File).unwrap();
        fake.bind(&device.path, p("/var/lib/kubelet/raw"), bind_read_only).unwrap();
        assert_eq!(fake.app_write_block("/var/lib/kubelet/raw", 7, "x").is_ok(), written);
    };
    check(LoopOptions::default(), false, true);
    check(LoopOptions::default(), true, true);
    check(LoopOptions { read_only: true, ..LoopOptions::default() }, true, false);
}

#[test]
fn mkfs_and_trim_give_away_the_space_of_a_thick_image_unless_told_not_to() {
    let check = |args: &[&str], thick: bool| {
        let fake = pool();
        fake.create_file(p("/pool/t"), GIB).unwrap();
        fake.allocate(p("/pool/t")).unwrap();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        fake.mkfs(p("/pool/t"), &MkfsSpec { fs: "ext4".into(), args }).unwrap();
        assert_eq!(fake.metadata(p("/pool/t")).unwrap().unwrap().allocated == GIB, thick);
    };
    check(&[], false);
    check(&["-E", "nodiscard"], true);
}
