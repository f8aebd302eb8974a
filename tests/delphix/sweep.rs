//! One use case, stopped at every HTTP request that it makes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use offshoot::delphix::Driver;
use offshoot::volume::Result;
use offshoot_dct_sim::{Config, Fault, Rule};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::world::{World, lagging, tried};

/// Ids that the setup made.
pub type Ids = Arc<Vec<String>>;
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A use case: the world before, the call as the caller sends it again and again, and what is true after it.
#[derive(Clone, Copy)]
pub struct Flow {
    pub name: &'static str,
    pub setup: fn(Driver, Arc<World>) -> Later<Ids>,
    pub call: fn(Driver, Ids) -> Later<Result<()>>,
    pub check: fn(Arc<World>, Driver, Ids) -> Later<()>,
}

/// Where in a request it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The process dies before the request.
    Before,
    /// The process dies when the request is done, and before its answer.
    After,
    /// The answer is lost; the process lives.
    Lost,
}

/// A driver in a process that can be killed.
struct Process {
    runtime: Runtime,
    driver: Driver,
}

impl Process {
    fn start(world: &World) -> Process {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Process { driver: world.driver(), runtime }
    }

    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

/// Worlds at once.
const TOGETHER: usize = 6;

/// Runs a use case once for each request and end. The number of worlds.
pub async fn sweep(flow: Flow) -> usize {
    let requests = undisturbed(flow).await;
    assert!(requests > 0);
    let mut worlds = 1;
    let mut running = JoinSet::new();
    for n in 1..=requests {
        // To die before a request is to die after the one before it: the DCT cannot tell.
        let first = (n == 1).then_some(End::Before);
        for end in first.into_iter().chain([End::After, End::Lost]) {
            worlds += 1;
            if running.len() == TOGETHER {
                running.join_next().await.unwrap().unwrap();
            }
            running.spawn(disturbed(flow, n, end));
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    worlds
}

/// Says which point it was when a test fails there.
struct Here(String);

impl Drop for Here {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}", self.0);
        }
    }
}

async fn prepared(flow: Flow) -> (Arc<World>, Ids) {
    // That the answers are those of a DCT is checked by the other tests.
    let world = Arc::new(World::new(Config { check_answers: false, ..lagging() }).await);
    let ids = (flow.setup)(world.driver(), world.clone()).await;
    world.sim.clear_traffic();
    (world, ids)
}

async fn undisturbed(flow: Flow) -> usize {
    let _here = Here(format!("{}: undisturbed", flow.name));
    let (world, ids) = prepared(flow).await;
    let driver = world.driver();
    (flow.call)(driver.clone(), ids.clone()).await.unwrap();
    let requests = world.sim.traffic().log.len();
    ended(&world, flow, &driver, &ids).await;
    requests
}

async fn disturbed(flow: Flow, n: usize, end: End) {
    let (world, ids) = prepared(flow).await;
    let process = Process::start(&world);
    let nth = u32::try_from(n).unwrap();
    let dead = |from: u32| Rule::next("*", Fault::LoseRequest).nth(from).times(u32::MAX);
    match end {
        End::Before => world.sim.fault(dead(nth)),
        End::After => {
            world.sim.fault(Rule::next("*", Fault::LoseAnswer).nth(nth));
            world.sim.fault(dead(nth + 1));
        }
        End::Lost => world.sim.fault(Rule::next("*", Fault::LoseAnswer).nth(nth)),
    }
    let mut call = process.runtime.spawn((flow.call)(process.driver.clone(), ids.clone()));
    if end == End::Lost {
        let answer = call.await.unwrap();
        let log = world.sim.traffic().log;
        let _here = Here(format!("{}: {end:?} of request {n} ({:?}), {answer:?}", flow.name, log.get(n - 1)));
        if let Err(error) = &answer {
            assert!(!error.kind().is_final(), "{error:?}");
            let (driver, ids) = (process.driver.clone(), ids.clone());
            process
                .runtime
                .spawn(async move { tried!((flow.call)(driver.clone(), ids.clone())) })
                .await
                .unwrap()
                .unwrap();
        }
        world.sim.clear_faults();
        let driver = process.driver.clone();
        let (world, ids) = (world.clone(), ids.clone());
        process.runtime.spawn(async move { self::ended(&world, flow, &driver, &ids).await }).await.unwrap();
        process.kill();
        return;
    }
    // It may end before: polls are not always the same in number.
    while world.sim.traffic().log.len() < n && !call.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if end == End::After {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let log = world.sim.traffic().log;
    let _here = Here(format!("{}: {end:?} request {n} ({:?})", flow.name, log.get(n - 1)));
    call.abort();
    let _ = (&mut call).await;
    process.kill();
    world.sim.clear_faults();
    let driver = world.driver();
    tried!((flow.call)(driver.clone(), ids.clone())).unwrap();
    ended(&world, flow, &driver, &ids).await;
}

/// What is true in the end; and then nothing is left of it.
async fn ended(world: &Arc<World>, flow: Flow, driver: &Driver, ids: &Ids) {
    (flow.check)(world.clone(), driver.clone(), ids.clone()).await;
    world.delete_everything(driver).await;
    world.is_empty();
}
