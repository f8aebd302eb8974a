//! What a person asks for: to adopt a VDB that is there, and to hear what is wrong.

use offshoot::backend::delphix::{Provision, ProvisionFrom};
use offshoot::delphix::api::CheckStatus;
use offshoot::volume::Kind;
use offshoot_dct_sim::{Admin, Config, Kind as Of};

use super::world::{World, demo, lagging, published, refused};

#[tokio::test]
async fn a_vdb_that_others_made_is_adopted_as_it_is() {
    let world = World::new(lagging()).await;
    let driver = world.driver();
    let theirs = world.theirs("orders").await;
    let id = format!("sim:{theirs}");
    refused(driver.delete_volume(&id).await, Kind::Precondition, &["not tagged as ours", "import"]);
    refused(driver.import("sim", "nothing").await, Kind::Invalid, &["vdb", "nothing"]);
    let adopted = driver.import("", "orders").await.unwrap();
    assert_eq!((adopted.id.to_string(), adopted.name.as_str()), (id.clone(), "orders"));
    assert_eq!(driver.import("sim", &theirs).await.unwrap().id, adopted.id);
    // It was enabled, and stays so until a node had it.
    assert_eq!(world.vdb(&id)["enabled"], true);
    let context = published(&driver, &id, "n1@10.0.0.1").await.unwrap();
    assert_eq!(context.server, "engine.example");
    driver.unpublish(&id, None).await.unwrap();
    assert_eq!(world.vdb(&id)["enabled"], false);
    refused(demo(&driver, "orders").await, Kind::AlreadyExists, &["adopted"]);
    driver.delete_volume(&id).await.unwrap();
    world.is_empty();
}

#[tokio::test]
async fn the_doctor_names_what_nobody_will_come_back_for() {
    let world = World::new(Config::default()).await;
    let driver = world.driver();
    let db = demo(&driver, "db").await.unwrap();
    let found = async || {
        let checks = driver.diagnose().await;
        assert!(checks.iter().all(|check| check.name.starts_with("dct sim: ")), "{checks:?}");
        assert!(checks.iter().all(|check| check.status == CheckStatus::Ok || !check.mend.is_empty()));
        let left = checks.into_iter().filter(|check| check.name.ends_with("leftovers"));
        left.map(|check| check.detail).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(found().await, "everything of ours is what it should be");
    world.sim.admin(Admin::Enable { kind: Of::Vdb, id: db.id.vdb.clone() }).unwrap();
    assert!(found().await.contains("is enabled, though no node has it"));
    published(&driver, &db.id.to_string(), "n1@10.0.0.1").await.unwrap();
    world.sim.admin(Admin::Disable { kind: Of::Vdb, id: db.id.vdb.clone() }).unwrap();
    assert!(found().await.contains("is disabled, though a node has it"));
    // A DCT that does not answer is said to be away, and nothing else of it.
    std::fs::write(world.path().join("key"), "1.wrong").unwrap();
    let checks = world.driver().diagnose().await;
    assert!(checks.iter().any(|check| check.status == CheckStatus::Fail), "{checks:?}");
}

impl World {
    /// A VDB without any tags of ours, enabled.
    pub async fn theirs(&self, name: &str) -> String {
        let dcts = offshoot::backend::delphix::Dcts::open(self.settings()).unwrap();
        let dct = dcts.only().unwrap();
        let from = ProvisionFrom::Snapshot { id: None, source: Some(self.seeded.dsource.clone()) };
        let environment_id = Some(self.seeded.environment.clone());
        let started =
            dct.provision(&Provision { environment_id, ..Provision::new(name, from) }).await.unwrap();
        dct.finish(&started.job.unwrap()).await.unwrap();
        let id = started.object.unwrap();
        dct.until_vdb(&id, "to show", |vdb| vdb.is_some()).await.unwrap();
        id
    }
}
