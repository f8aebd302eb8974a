//! Everything that can be asked of a DCT is asked as its interface wants it: the simulator refuses what is not.

use offshoot_dct_sim::{Admin, Fault as Wrong, Kind, Rule};

use super::*;

async fn done(dct: &Dct, started: Result<Started>) -> Started {
    let started = started.unwrap();
    dct.finish(started.job.as_deref().unwrap()).await.unwrap();
    started
}

#[tokio::test]
async fn a_vdb_lives_from_its_making_to_its_end() {
    let world = World::new().await;
    let dct = world.dct();
    let mut what = world.provision("one");
    what.container_mode = Some(true);
    what.masked = Some(false);
    let hook = Hook {
        name: Some("h".to_owned()),
        command: Some("true".to_owned()),
        shell: Some("bash".to_owned()),
        hook_template_id: None,
    };
    what.hooks.insert("pre_refresh".to_owned(), vec![hook]);
    let started = dct.provision(&what).await;
    let id = done(&dct, started).await.object.unwrap();
    let vdb = dct.vdb(&id).await.unwrap().unwrap();
    assert_eq!(vdb.tag("offshoot-name"), Some("one"));
    done(&dct, dct.disable(&id, Some(true)).await).await;
    let off =
        dct.until_vdb(&id, "to be disabled", |vdb| vdb.is_some_and(|vdb| vdb.enabled == Some(false))).await;
    assert_eq!(off.unwrap().unwrap().containerization_state, Some(Containerization::ReadyForContainer));

    let addresses = ["10.0.0.7".to_owned()];
    done(&dct, dct.set_nfs_addresses(&world.seeded.environment, &world.seeded.host, &addresses).await).await;
    let environment = dct.environment(&world.seeded.environment).await.unwrap().unwrap();
    assert_eq!(environment.hosts[0].nfs_addresses.as_deref(), Some(&addresses[..]));

    let how = Enable { container_mode: Some(true), ownership_spec: Some("1000:1000".to_owned()) };
    done(&dct, dct.enable(&id, &how).await).await;
    let on = dct.vdb(&id).await.unwrap().unwrap();
    assert_eq!(
        (on.enabled, on.containerization_state),
        (Some(true), Some(Containerization::RunningInContainer))
    );
    assert_eq!(on.nfs_version, Some(4));
    let path = on.exported_data_directory.unwrap();

    done(&dct, dct.take_snapshot(&id).await).await;
    let newest = Filter::eq("dataset_id", &id);
    let snapshot = dct.first::<Snapshot>(newest, Sort::Down("timestamp"), 1).await.unwrap().remove(0);
    done(&dct, dct.keep_snapshot(&snapshot.id).await).await;
    dct.tag_snapshot(&snapshot.id, &[Tag::new("a", "b")]).await.unwrap();
    let kept = dct.snapshot(&snapshot.id).await.unwrap().unwrap();
    assert_eq!((kept.retain_forever, kept.tags), (Some(true), vec![Tag::new("a", "b")]));

    for to in [
        Point::Latest,
        Point::Snapshot(world.seeded.snapshot.clone()),
        Point::Timestamp(jiff::Timestamp::now()),
    ] {
        done(&dct, dct.refresh(&id, &to).await).await;
    }
    done(&dct, dct.undo_refresh(&id).await).await;
    done(&dct, dct.rollback(&id, &Point::Snapshot(snapshot.id.clone())).await).await;
    let now = dct.vdb(&id).await.unwrap().unwrap();
    assert_ne!(now.exported_data_directory, Some(path), "another timeflow is another path");
    done(&dct, dct.switch_timeflow(&id, &now.previous_timeflow_id.unwrap()).await).await;

    done(&dct, dct.disable(&id, None).await).await;
    done(&dct, dct.delete_vdb(&id).await).await;
    assert_eq!(dct.until_vdb(&id, "to be gone", |vdb| vdb.is_none()).await.unwrap(), None);
    assert!(dct.delete_vdb(&id).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn vdbs_are_made_from_points_of_every_kind() {
    let world = World::new().await;
    let dct = world.dct();
    let first = world.vdb(&dct, "first").await;
    let (marked, bookmark) = dct
        .create_bookmark(&NewBookmark {
            name: "snap-1".to_owned(),
            of: BookmarkOf::Vdb(first.id.clone()),
            tags: vec![Tag::new("offshoot-name", "snap-1")],
        })
        .await
        .unwrap();
    let bookmark = bookmark.unwrap();
    assert_eq!(marked.object.as_ref(), Some(&bookmark.id));
    dct.finish(&marked.job.unwrap()).await.unwrap();
    let active = |bookmark: Option<&Bookmark>| {
        bookmark.is_some_and(|bookmark| bookmark.bookmark_status.as_deref() == Some("ACTIVE"))
    };
    let bookmark = dct.until::<Bookmark>(&bookmark.id, "to be ACTIVE", active).await.unwrap().unwrap();
    assert_eq!(bookmark.tag("offshoot-name"), Some("snap-1"));
    assert_eq!((&bookmark.vdb_ids, &bookmark.expiration), (&vec![first.id.clone()], &None));
    let snapshot = bookmark.vdbs[0].snapshot_id.clone().unwrap();
    let source = world.seeded.dsource.clone();
    let froms = [
        ProvisionFrom::Snapshot { id: Some(snapshot.clone()), source: None },
        ProvisionFrom::Timestamp { source, at: jiff::Timestamp::now() },
        ProvisionFrom::Bookmark(bookmark.id.clone()),
        ProvisionFrom::Empty,
    ];
    for (n, from) in froms.into_iter().enumerate() {
        let engine_id = Some(world.seeded.engine.clone());
        let what = Provision { from, engine_id, ..world.provision(&format!("vdb-{n}")) };
        let started = dct.provision(&what).await;
        done(&dct, started).await;
    }
    assert_eq!(dct.vdbs(Filter::all()).await.unwrap().len(), 5);
    let of = BookmarkOf::Snapshot(snapshot.clone());
    let again = NewBookmark { name: "again".to_owned(), of, tags: Vec::new() };
    let started = dct.create_bookmark(&again).await.unwrap().0;
    done(&dct, Ok(started)).await;

    let children = dct.vdb_dependencies(&first.id).await.unwrap();
    assert_eq!(children.len(), 2, "{children:?}");
    assert!(children.iter().all(|child| child.dataset_id.is_some() && child.dataset_name.is_some()));
    assert!(!dct.snapshot_dependencies(&snapshot).await.unwrap().is_empty());
    let refused = dct.delete_vdb(&first.id).await.unwrap();
    let failure = dct.finish(&refused.job.unwrap()).await.unwrap_err();
    assert!(matches!(failure.fault(), Fault::JobFailed { status: JobStatus::Failed, .. }), "{failure}");
    done(&dct, dct.delete_bookmark(&bookmark.id).await).await;
    assert_eq!(dct.bookmark(&bookmark.id).await.unwrap(), None);
}

#[tokio::test]
async fn addresses_are_replaced_as_a_whole_and_those_of_others_are_seen() {
    let world = World::new().await;
    let dct = world.dct();
    let (environment, host) = (&world.seeded.environment, &world.seeded.host);
    let addresses =
        async || dct.environment(environment).await.unwrap().unwrap().hosts[0].nfs_addresses.clone();
    let ours = vec!["10.0.0.7".to_owned()];
    let op = "PATCH /environments/{environmentId}/hosts/{hostId}";
    world.sim.fault(Rule::next(op, Wrong::RivalAddress { address: "10.9.9.9".to_owned() }));
    done(&dct, dct.set_nfs_addresses(environment, host, &ours).await).await;
    assert_eq!(addresses().await, Some(ours.clone()), "who came between is lost, and has to be looked for");
    let both = vec!["10.0.0.7".to_owned(), "10.9.9.9".to_owned()];
    let somebody = Admin::Addresses { environment: environment.clone(), addresses: both.clone() };
    world.sim.admin(somebody).unwrap();
    assert_eq!(addresses().await, Some(both));
}

#[tokio::test]
async fn what_the_dct_refuses_is_refused_with_its_words() {
    let world = World::new().await;
    let dct = world.dct();
    let vdb = world.vdb(&dct, "one").await;
    world.sim.admin(Admin::Lock { vdb: vdb.id.clone(), locked: true }).unwrap();
    let failure = dct.enable(&vdb.id, &Enable::default()).await.unwrap_err();
    let Fault::Refused { status: 400, text } = failure.fault() else { panic!("{failure:?}") };
    assert!(text.contains("is locked"), "{text}");
    let mut what = world.provision("two");
    what.mount_point = Some("relative".to_owned());
    let failure = dct.provision(&what).await.unwrap_err();
    assert_eq!(failure.kind(), crate::volume::Kind::Invalid);
    assert!(failure.to_string().contains("mount_point is not absolute"), "{failure}");
    assert_eq!(world.sim.objects(Kind::Vdb).len(), 1);
}
