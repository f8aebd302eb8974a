//! The table of use cases that the sweeps go through.

use std::path::{Path, PathBuf};

use offshoot::host::Host;
use offshoot::service::api::{Inline, NodeVolume, Publish, RefreshFrom};
use offshoot::volume::params::MutablePatch;
use offshoot::volume::size::{GIB, Range};
use offshoot::volume::{AccessMode, AccessType, Capability, Kind, Provisioning};

use super::sweep::{Flow, How, Keep, Machine, Swept, sweep};
use super::{KUBELET, NODE, PoolFs, Rig, SIZE, as_image, as_thick, blank, copy_of, mounting};

/// Adds up sweeps.
#[derive(Default)]
pub struct Sum {
    pub cases: usize,
    pub points: usize,
    pub worlds: usize,
}

impl Sum {
    pub fn add(&mut self, swept: Swept) {
        self.cases += 1;
        self.points += swept.points;
        self.worlds += swept.worlds;
    }
}

fn keep(all: &[(&String, &str)]) -> Keep {
    all.iter().map(|(id, value)| ((*id).clone(), (*value).to_owned())).collect()
}

/// CreateVolume, in all its kinds.
pub async fn creating(how: How, fs: PoolFs) -> Sum {
    let mut sum = Sum::default();
    let plain = |name, request: fn() -> offshoot::service::api::CreateVolume| {
        Flow::new(
            name,
            Machine::Same,
            async |_: &mut Rig| ((), Keep::new()),
            async move |rig: &Rig, _: &()| rig.create(request()).await.map(drop),
            async move |rig: &Rig, _: &()| {
                let id = rig.create(request()).await.unwrap();
                assert_eq!(rig.volumes().await, std::slice::from_ref(&id));
                assert_eq!(rig.read(&id), None);
                assert_eq!(rig.service.get_volume(&id).await.unwrap().faults, []);
            },
        )
    };
    sum.add(sweep(how, fs, &plain("create", || blank("new"))).await);
    sum.add(sweep(how, fs, &plain("create an image", || as_image(blank("new")))).await);
    sum.add(sweep(how, fs, &plain("create thick", || as_image(as_thick(blank("new"))))).await);

    let restore = Flow::new(
        "restore",
        Machine::Same,
        async |rig: &mut Rig| {
            let source = rig.volume("source", "then").await;
            let snapshot = rig.snapshot("snapshot", &source).await.unwrap();
            rig.fill(&source, "now");
            let kept = keep(&[(&source, "now"), (&snapshot, "then")]);
            (snapshot, kept)
        },
        async |rig: &Rig, snapshot: &String| rig.create(copy_of("new", snapshot)).await.map(drop),
        async |rig: &Rig, snapshot: &String| {
            let id = rig.create(copy_of("new", snapshot)).await.unwrap();
            assert_eq!(rig.read(&id).as_deref(), Some("then"));
            assert_eq!(rig.volumes().await.len(), 2);
        },
    );
    sum.add(sweep(how, fs, &restore).await);

    let larger = |id: &str| {
        let mut request = as_thick(copy_of("new", id));
        request.range = Range { required: 2 * SIZE, limit: 0 };
        request
    };
    let restore_thick = Flow::new(
        "restore thick and larger",
        Machine::Same,
        async |rig: &mut Rig| {
            let source = rig.image("source", "then").await;
            let snapshot = rig.snapshot("snapshot", &source).await.unwrap();
            let kept = keep(&[(&source, "then"), (&snapshot, "then")]);
            (snapshot, kept)
        },
        async move |rig: &Rig, snapshot: &String| rig.create(larger(snapshot)).await.map(drop),
        async move |rig: &Rig, snapshot: &String| {
            let id = rig.create(larger(snapshot)).await.unwrap();
            assert_eq!(rig.read(&id).as_deref(), Some("then"));
            let volume = rig.service.get_volume(&id).await.unwrap().volume;
            assert_eq!(volume.size, 2 * SIZE);
        },
    );
    sum.add(sweep(how, fs, &restore_thick).await);

    let clone = Flow::new(
        "clone",
        Machine::Same,
        async |rig: &mut Rig| {
            let source = rig.volume("source", "then").await;
            let kept = keep(&[(&source, "then")]);
            (source, kept)
        },
        async |rig: &Rig, source: &String| rig.create(copy_of("new", source)).await.map(drop),
        async |rig: &Rig, source: &String| {
            let id = rig.create(copy_of("new", source)).await.unwrap();
            assert_eq!(rig.read(&id).as_deref(), Some("then"));
        },
    );
    sum.add(sweep(how, fs, &clone).await);

    if fs != PoolFs::Ext4 {
        let clone_mounted = Flow::new(
            "clone a mounted volume",
            Machine::Same,
            async |rig: &mut Rig| {
                let (source, kept) = mounted(rig, "source", "then").await;
                (source, kept)
            },
            async |rig: &Rig, source: &String| rig.create(copy_of("new", source)).await.map(drop),
            async |rig: &Rig, source: &String| {
                let id = rig.create(copy_of("new", source)).await.unwrap();
                assert_eq!(rig.read(&id).as_deref(), Some("then"));
            },
        );
        sum.add(sweep(how, fs, &clone_mounted).await);
    }
    sum
}

/// A volume that is mounted, with durable content, on a server that knows of the mount.
async fn mounted(rig: &mut Rig, name: &str, value: &str) -> (String, Keep) {
    let id = rig.volume(name, value).await;
    rig.mount(&id);
    rig.restart().await;
    let kept = keep(&[(&id, value)]);
    (id, kept)
}

/// DeleteVolume, ExpandVolume, ModifyVolume, ControllerPublishVolume and its opposite.
pub async fn changing(how: How, fs: PoolFs) -> Sum {
    let mut sum = Sum::default();
    let delete = Flow::new(
        "delete a volume",
        Machine::Detaches,
        async |rig: &mut Rig| {
            let doomed = rig.volume("doomed", "old").await;
            let snapshot = rig.snapshot("snapshot", &doomed).await.unwrap();
            let copy = rig.create(copy_of("copy", &doomed)).await.unwrap();
            rig.mount(&doomed);
            rig.unmount(&doomed);
            let kept = keep(&[(&snapshot, "old"), (&copy, "old")]);
            (doomed, kept)
        },
        async |rig: &Rig, doomed: &String| rig.service.delete_volume(doomed).await,
        async |rig: &Rig, doomed: &String| {
            assert!(!rig.volumes().await.contains(doomed));
            assert!(rig.audit().loops.is_empty());
            assert_eq!(rig.service.get_volume(doomed).await.unwrap_err().kind(), Kind::NotFound);
        },
    );
    sum.add(sweep(how, fs, &delete).await);

    let range = Range { required: 3 * GIB, limit: 0 };
    for thick in [false, true] {
        if thick && fs == PoolFs::Btrfs {
            continue;
        }
        let expand = Flow::new(
            if thick { "expand a thick volume" } else { "expand" },
            Machine::Same,
            async move |rig: &mut Rig| {
                let request = if thick { as_thick(blank("small")) } else { blank("small") };
                let id = rig.create(request).await.unwrap();
                rig.fill(&id, "data");
                rig.mount(&id);
                rig.restart().await;
                let kept = keep(&[(&id, "data")]);
                (id, kept)
            },
            async move |rig: &Rig, id: &String| rig.service.expand_volume(id, range).await.map(drop),
            async move |rig: &Rig, id: &String| {
                let status = rig.service.get_volume(id).await.unwrap();
                assert_eq!((status.volume.size, status.faults), (3 * GIB, vec![]));
            },
        );
        sum.add(sweep(how, fs, &expand).await);
    }

    for provisioning in [Provisioning::Thick, Provisioning::Thin] {
        let patch = MutablePatch {
            provisioning: Some(provisioning),
            read_ahead_kib: Some(Some(512)),
            ..MutablePatch::default()
        };
        let modify = Flow::new(
            "modify",
            Machine::Same,
            async move |rig: &mut Rig| {
                let request = as_image(blank("volume"));
                let other = if provisioning == Provisioning::Thin { as_thick(request) } else { request };
                let id = rig.create(other).await.unwrap();
                rig.fill(&id, "data");
                let kept = keep(&[(&id, "data")]);
                (id, kept)
            },
            async move |rig: &Rig, id: &String| rig.service.modify_volume(id, patch).await,
            async move |rig: &Rig, id: &String| {
                let volume = rig.service.get_volume(id).await.unwrap().volume;
                assert_eq!(volume.mutable.provisioning, provisioning);
                assert_eq!(volume.mutable.read_ahead_kib, Some(512));
                let allocated = rig.allocated(id);
                match provisioning {
                    Provisioning::Thick => assert_eq!(allocated, SIZE),
                    Provisioning::Thin => assert!(allocated < SIZE, "{allocated} bytes are still taken"),
                }
            },
        );
        sum.add(sweep(how, fs, &modify).await);
    }

    let publish = Flow::new(
        "publish to a node",
        Machine::Same,
        async |rig: &mut Rig| {
            let id = rig.volume("volume", "data").await;
            let kept = keep(&[(&id, "data")]);
            (id, kept)
        },
        async |rig: &Rig, id: &String| rig.service.publish_to_node(id, NODE, &mounting(), false).await,
        async |rig: &Rig, id: &String| {
            assert_eq!(rig.service.get_volume(id).await.unwrap().nodes, [NODE]);
            assert_eq!(rig.service.delete_volume(id).await.unwrap_err().kind(), Kind::Precondition);
        },
    );
    sum.add(sweep(how, fs, &publish).await);
    let unpublish = Flow::new(
        "unpublish from a node",
        Machine::Same,
        async |rig: &mut Rig| {
            let id = rig.volume("volume", "data").await;
            rig.service.publish_to_node(&id, NODE, &mounting(), true).await.unwrap();
            let kept = keep(&[(&id, "data")]);
            (id, kept)
        },
        async |rig: &Rig, id: &String| rig.service.unpublish_from_node(id, NODE).await,
        async |rig: &Rig, id: &String| assert!(rig.service.get_volume(id).await.unwrap().nodes.is_empty()),
    );
    sum.add(sweep(how, fs, &unpublish).await);
    sum
}

/// Three volumes, mounted where their pool can copy them then.
pub async fn members(rig: &mut Rig) -> (Vec<String>, Keep) {
    let mut ids = Vec::new();
    let mut kept = Keep::new();
    for name in ["a", "b", "c"] {
        let id = rig.volume(name, name).await;
        if rig.fs != PoolFs::Ext4 {
            rig.mount(&id);
        }
        kept.push((id.clone(), name.into()));
        ids.push(id);
    }
    rig.restart().await;
    (ids, kept)
}

/// Snapshots and groups of them.
pub async fn cutting(how: How, fs: PoolFs) -> Sum {
    let mut sum = Sum::default();
    for in_use in [false, true] {
        if in_use && fs == PoolFs::Ext4 {
            continue;
        }
        let cut = Flow::new(
            if in_use { "snapshot a mounted volume" } else { "snapshot" },
            Machine::Same,
            async move |rig: &mut Rig| match in_use {
                true => mounted(rig, "source", "then").await,
                false => {
                    let id = rig.volume("source", "then").await;
                    let kept = keep(&[(&id, "then")]);
                    (id, kept)
                }
            },
            async |rig: &Rig, source: &String| rig.snapshot("snapshot", source).await.map(drop),
            async |rig: &Rig, source: &String| {
                let id = rig.snapshot("snapshot", source).await.unwrap();
                assert_eq!(rig.snapshots().len(), 1);
                assert_eq!(rig.read(&id).as_deref(), Some("then"));
            },
        );
        sum.add(sweep(how, fs, &cut).await);
    }

    let delete = Flow::new(
        "delete a snapshot",
        Machine::Same,
        async |rig: &mut Rig| {
            let source = rig.volume("source", "then").await;
            let snapshot = rig.snapshot("snapshot", &source).await.unwrap();
            let other = rig.snapshot("other", &source).await.unwrap();
            let copy = rig.create(copy_of("copy", &snapshot)).await.unwrap();
            let kept = keep(&[(&source, "then"), (&copy, "then"), (&other, "then")]);
            (snapshot, kept)
        },
        async |rig: &Rig, snapshot: &String| rig.service.delete_snapshot(snapshot).await,
        async |rig: &Rig, snapshot: &String| {
            assert_eq!(rig.snapshots().len(), 1);
            assert_eq!(rig.service.get_snapshot(snapshot).unwrap_err().kind(), Kind::NotFound);
        },
    );
    sum.add(sweep(how, fs, &delete).await);

    let group = Flow::new(
        "snapshot a group",
        Machine::Same,
        async |rig: &mut Rig| members(rig).await,
        async |rig: &Rig, ids: &Vec<String>| {
            rig.service.create_group_snapshot("group", ids.clone()).await.map(drop)
        },
        async |rig: &Rig, ids: &Vec<String>| {
            let group = rig.service.create_group_snapshot("group", ids.clone()).await.unwrap();
            let values: Vec<_> =
                group.snapshots.iter().map(|s| rig.read(&s.id.to_string()).unwrap()).collect();
            assert_eq!(values, ["a", "b", "c"]);
            assert_eq!(rig.snapshots().len(), 3);
        },
    );
    sum.add(sweep(how, fs, &group).await);

    let delete_group = Flow::new(
        "delete a group",
        Machine::Same,
        async |rig: &mut Rig| {
            let (ids, mut kept) = members(rig).await;
            let group = rig.service.create_group_snapshot("group", ids.clone()).await.unwrap();
            let copy = rig.create(copy_of("copy", &group.snapshots[1].id.to_string())).await.unwrap();
            kept.push((copy, "b".into()));
            (group.id.to_string(), kept)
        },
        async |rig: &Rig, id: &String| rig.service.delete_group_snapshot(id, &[]).await,
        async |rig: &Rig, id: &String| {
            assert!(rig.snapshots().is_empty());
            assert_eq!(rig.service.get_group_snapshot(id, &[]).unwrap_err().kind(), Kind::NotFound);
        },
    );
    sum.add(sweep(how, fs, &delete_group).await);
    sum
}

/// Rewind and refresh.
pub async fn replacing(how: How, fs: PoolFs) -> Sum {
    let mut sum = Sum::default();
    // A caller whose answer got lost asks again, and that is another rewind: the content is right and every state
    // from before is kept, so there may be more undo snapshots than one. Never fewer, and never a temporary one.
    fn undone(rig: &Rig, old: &str, new: &str) {
        let undo: Vec<_> = rig.snapshots().into_iter().filter(|snapshot| snapshot.undo).collect();
        let values: Vec<_> =
            undo.iter().map(|snapshot| rig.read(&snapshot.id.to_string()).unwrap()).collect();
        assert!(values.contains(&old.to_owned()), "{values:?}");
        assert!(values.iter().all(|value| value == old || value == new), "{values:?}");
        let temporary = rig.snapshots().into_iter().find(|snapshot| snapshot.name.starts_with("refresh-"));
        assert_eq!(temporary, None);
    }
    let rewind = Flow::new(
        "rewind",
        Machine::Detaches,
        async |rig: &mut Rig| {
            let id = rig.volume("volume", "then").await;
            let snapshot = rig.snapshot("snapshot", &id).await.unwrap();
            rig.fill(&id, "now");
            let kept = keep(&[(&snapshot, "then")]);
            ((id, snapshot), kept)
        },
        async |rig: &Rig, (id, snapshot): &(String, String)| {
            rig.service.rewind_volume(id, snapshot).await.map(drop)
        },
        async |rig: &Rig, (id, _): &(String, String)| {
            assert_eq!(rig.read(id).as_deref(), Some("then"));
            undone(rig, "now", "then");
        },
    );
    sum.add(sweep(how, fs, &rewind).await);

    let refresh = Flow::new(
        "refresh from a snapshot",
        Machine::Detaches,
        async |rig: &mut Rig| {
            let source = rig.volume("source", "monday").await;
            let copy = rig.create(copy_of("copy", &source)).await.unwrap();
            rig.fill(&copy, "mine");
            rig.fill(&source, "tuesday");
            let snapshot = rig.snapshot("snapshot", &source).await.unwrap();
            let kept = keep(&[(&snapshot, "tuesday"), (&source, "tuesday")]);
            ((copy, snapshot), kept)
        },
        async |rig: &Rig, (id, snapshot): &(String, String)| {
            let from = RefreshFrom::Snapshot(snapshot.clone());
            rig.service.refresh_volume(id, from).await.map(drop)
        },
        async |rig: &Rig, (id, _): &(String, String)| {
            assert_eq!(rig.read(id).as_deref(), Some("tuesday"));
            undone(rig, "mine", "tuesday");
        },
    );
    sum.add(sweep(how, fs, &refresh).await);

    let refresh_now = Flow::new(
        "refresh from the source now",
        Machine::Detaches,
        async |rig: &mut Rig| {
            let source = rig.volume("source", "monday").await;
            let copy = rig.create(copy_of("copy", &source)).await.unwrap();
            rig.fill(&copy, "mine");
            rig.fill(&source, "tuesday");
            if rig.fs != PoolFs::Ext4 {
                rig.mount(&source);
                rig.restart().await;
            }
            let kept = keep(&[(&source, "tuesday")]);
            (copy, kept)
        },
        async |rig: &Rig, id: &String| rig.service.refresh_volume(id, RefreshFrom::SourceNow).await.map(drop),
        async |rig: &Rig, id: &String| {
            assert_eq!(rig.read(id).as_deref(), Some("tuesday"));
            undone(rig, "mine", "tuesday");
        },
    );
    sum.add(sweep(how, fs, &refresh_now).await);
    sum
}

/// A request to use a volume at its staging path.
fn node_volume(id: &str, capability: Capability) -> NodeVolume {
    NodeVolume { volume: id.into(), capability, staging: staging(id) }
}

fn staging(id: &str) -> PathBuf {
    Path::new(KUBELET).join(format!("stage-{id}"))
}

/// A request to show a staged volume to a pod.
fn publishing(id: &str, capability: Capability, read_only: bool) -> Publish {
    Publish { node: node_volume(id, capability), target: target(id), read_only, inline: None }
}

fn target(id: &str) -> PathBuf {
    Path::new(KUBELET).join(format!("pod-{id}"))
}

fn raw() -> Capability {
    Capability { access: AccessType::Block, mode: AccessMode::SingleNodeWriter }
}

fn inline(handle: &str) -> Publish {
    let inline = Inline { params: Default::default(), size: SIZE };
    let node = NodeVolume { volume: handle.into(), capability: mounting(), staging: PathBuf::new() };
    Publish { node, target: target(handle), read_only: false, inline: Some(inline) }
}

/// The target paths of mounts, and the files behind loop devices.
fn machine(rig: &Rig) -> (usize, usize) {
    let audit = rig.audit();
    (audit.mounts.len(), audit.loops.len())
}

/// How many loop devices one attached volume takes.
fn devices(rig: &Rig, id: &str) -> usize {
    usize::from(rig.bytes(id).extension().is_some_and(|ext| ext == "img"))
}

/// The node's calls. After a restart kubelet goes on where it was, or tears down.
pub async fn using(how: How, fs: PoolFs) -> Sum {
    let mut sum = Sum::default();
    for blank_one in [true, false] {
        let stage = Flow::new(
            if blank_one { "stage a blank volume" } else { "stage" },
            Machine::Checked,
            async move |rig: &mut Rig| {
                let id = rig.create(blank("volume")).await.unwrap();
                let mut kept = Keep::new();
                if !blank_one {
                    rig.fill(&id, "data");
                    kept = keep(&[(&id, "data")]);
                }
                rig.fake.mkdirs(staging(&id)).unwrap();
                (id, kept)
            },
            async |rig: &Rig, id: &String| rig.service.stage_volume(node_volume(id, mounting())).await,
            async |rig: &Rig, id: &String| {
                rig.service.stage_volume(node_volume(id, mounting())).await.unwrap();
                assert_eq!(machine(rig), (1, devices(rig, id)));
                rig.fake.app_write(staging(id), "other", "written").unwrap();
            },
        );
        sum.add(sweep(how, fs, &stage).await);
    }

    for read_only in [false, true] {
        let publish = Flow::new(
            if read_only { "publish for reading" } else { "publish" },
            Machine::Checked,
            async move |rig: &mut Rig| {
                let id = rig.volume("volume", "data").await;
                rig.fake.mkdirs(staging(&id)).unwrap();
                rig.service.stage_volume(node_volume(&id, mounting())).await.unwrap();
                let kept = keep(&[(&id, "data")]);
                (id, kept)
            },
            async move |rig: &Rig, id: &String| {
                // After a power cut kubelet stages again first.
                rig.service.stage_volume(node_volume(id, mounting())).await?;
                rig.service.publish_volume(publishing(id, mounting(), read_only)).await
            },
            async move |rig: &Rig, id: &String| {
                rig.service.stage_volume(node_volume(id, mounting())).await.unwrap();
                rig.service.publish_volume(publishing(id, mounting(), read_only)).await.unwrap();
                assert_eq!(machine(rig), (2, devices(rig, id)));
                assert_eq!(rig.fake.app_read(target(id), "data").unwrap().as_deref(), Some("data"));
                assert_eq!(rig.fake.app_write(target(id), "other", "written").is_err(), read_only);
            },
        );
        sum.add(sweep(how, fs, &publish).await);
        let publish_raw = Flow::new(
            if read_only { "publish a raw device for reading" } else { "publish a raw device" },
            Machine::Checked,
            async move |rig: &mut Rig| {
                let mut request = blank("volume");
                request.capabilities = vec![raw()];
                let id = rig.create(request).await.unwrap();
                rig.fake.mkdirs(staging(&id)).unwrap();
                (id, Keep::new())
            },
            async move |rig: &Rig, id: &String| {
                rig.service.stage_volume(node_volume(id, raw())).await?;
                rig.service.publish_volume(publishing(id, raw(), read_only)).await
            },
            async move |rig: &Rig, id: &String| {
                rig.service.stage_volume(node_volume(id, raw())).await.unwrap();
                rig.service.publish_volume(publishing(id, raw(), read_only)).await.unwrap();
                assert_eq!(rig.audit().mounts.len(), 1);
                assert_eq!(rig.fake.app_write_block(target(id), 7, "x").is_err(), read_only);
                let volume = rig.service.get_volume(id).await.unwrap().volume;
                assert!(read_only || volume.raw_written);
            },
        );
        sum.add(sweep(how, fs, &publish_raw).await);
    }

    async fn in_use(rig: &mut Rig) -> (String, Keep) {
        let id = rig.volume("volume", "data").await;
        rig.fake.mkdirs(staging(&id)).unwrap();
        rig.service.stage_volume(node_volume(&id, mounting())).await.unwrap();
        rig.service.publish_volume(publishing(&id, mounting(), false)).await.unwrap();
        let kept = keep(&[(&id, "data")]);
        (id, kept)
    }
    let teardown = Flow::new(
        "unpublish and unstage",
        Machine::Checked,
        async |rig: &mut Rig| in_use(rig).await,
        async |rig: &Rig, id: &String| {
            rig.service.unpublish_volume(id, &target(id)).await?;
            rig.service.unstage_volume(id, &staging(id)).await
        },
        async |rig: &Rig, id: &String| {
            assert_eq!(machine(rig), (0, 0));
            assert_eq!(rig.fake.target_kind(&target(id)).unwrap(), None);
        },
    );
    sum.add(sweep(how, fs, &teardown).await);

    let expand = Flow::new(
        "expand on the node",
        Machine::Checked,
        async |rig: &mut Rig| in_use(rig).await,
        async |rig: &Rig, id: &String| {
            let range = Range { required: 2 * SIZE, limit: 0 };
            rig.service.stage_volume(node_volume(id, mounting())).await?;
            rig.service.publish_volume(publishing(id, mounting(), false)).await?;
            rig.service.expand_volume(id, range).await?;
            rig.service.node_expand(id, &target(id), range).await.map(drop)
        },
        async |rig: &Rig, id: &String| {
            assert_eq!(rig.service.get_volume(id).await.unwrap().volume.size, 2 * SIZE);
            if devices(rig, id) == 1 && !rig.audit().mounts.is_empty() {
                assert!(rig.fake.usage(&target(id)).unwrap().bytes > SIZE);
            }
        },
    );
    sum.add(sweep(how, fs, &expand).await);

    let ephemeral = Flow::new(
        "publish an inline volume",
        Machine::Checked,
        async |_: &mut Rig| ((), Keep::new()),
        async |rig: &Rig, _: &()| rig.service.publish_volume(inline("csi-pod")).await,
        async |rig: &Rig, _: &()| {
            // After a power cut kubelet asks again.
            rig.service.publish_volume(inline("csi-pod")).await.unwrap();
            assert_eq!(rig.audit().mounts.len(), 1);
            rig.fake.app_write(target("csi-pod"), "data", "scratch").unwrap();
            assert_eq!(rig.volumes().await.len(), 1);
        },
    );
    sum.add(sweep(how, fs, &ephemeral).await);

    let end = Flow::new(
        "unpublish an inline volume",
        Machine::Checked,
        async |rig: &mut Rig| {
            rig.service.publish_volume(inline("csi-pod")).await.unwrap();
            ((), Keep::new())
        },
        async |rig: &Rig, _: &()| rig.service.unpublish_volume("csi-pod", &target("csi-pod")).await,
        async |rig: &Rig, _: &()| {
            assert_eq!(machine(rig), (0, 0));
            assert_eq!(rig.volumes().await, Vec::<String>::new());
        },
    );
    sum.add(sweep(how, fs, &end).await);
    sum
}
