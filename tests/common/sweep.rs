//! One use case, stopped at every call that it makes to the machine.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;

use offshoot::host::Cause;
use offshoot::host::fake::{Audit, Moment};
use offshoot::volume::Result;

use super::{PoolFs, Rig};

/// Ids, and what each of them holds whatever happens.
pub type Keep = Vec<(String, String)>;

/// A use case of the table: the world before the call, the call as the caller sends it again and again, and what is
/// true once it has answered OK.
pub struct Flow<S, P, A, C> {
    name: &'static str,
    machine: Machine,
    setup: P,
    call: A,
    check: C,
    state: PhantomData<S>,
}

impl<S, P, A, C> Flow<S, P, A, C>
where
    P: AsyncFn(&mut Rig) -> (S, Keep),
    A: AsyncFn(&Rig, &S) -> Result<()>,
    C: AsyncFn(&Rig, &S),
{
    pub fn new(name: &'static str, machine: Machine, setup: P, call: A, check: C) -> Self {
        Flow { name, machine, setup, call, check, state: PhantomData }
    }
}

/// What a call does to loop devices and mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// Nothing.
    Same,
    /// It may detach loop devices that nobody uses.
    Detaches,
    /// The case looks itself.
    Checked,
}

/// How the server goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// The process dies and the machine goes on.
    Crash,
    /// The power fails.
    Power,
}

/// What a sweep did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Swept {
    pub points: usize,
    pub worlds: usize,
}

/// The calls that can be left half done. To die in the middle of another is to die before it.
const HALVES: [&str; 10] = [
    "write_file",
    "write_at",
    "create_file",
    "clone_file",
    "copy_sparse",
    "subvolume_create",
    "subvolume_snapshot",
    "loop_detach",
    "mkfs",
    "make_target",
];

/// Where in a call the process dies, and whether the caller retries.
fn ends(call: &str) -> impl Iterator<Item = (Moment, bool)> {
    let name = call.split(' ').next().unwrap_or_default();
    let during = HALVES.contains(&name).then_some(Moment::During);
    let moments = [Some(Moment::Before), during, Some(Moment::After)];
    moments.into_iter().flatten().flat_map(|moment| [(moment, true), (moment, false)])
}

/// How a sweep disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The server goes down at every call.
    Down(Down),
    /// Every call fails once.
    Failures,
}

struct World<'a, S, P, A, C> {
    flow: &'a Flow<S, P, A, C>,
    rig: Rig,
    state: S,
    keep: Keep,
    /// The machine with an empty pool.
    empty: Audit,
    /// The machine before the call.
    before: Audit,
    /// Mutating calls that were made before the call.
    calls: usize,
}

impl<'a, S, P, A, C> World<'a, S, P, A, C>
where
    P: AsyncFn(&mut Rig) -> (S, Keep),
    A: AsyncFn(&Rig, &S) -> Result<()>,
    C: AsyncFn(&Rig, &S),
{
    async fn new(fs: PoolFs, flow: &'a Flow<S, P, A, C>) -> Self {
        let mut rig = Rig::new(fs).await;
        let empty = rig.audit();
        let (state, keep) = (flow.setup)(&mut rig).await;
        let (before, calls) = (rig.audit(), rig.fake.counted());
        World { flow, rig, state, keep, empty, before, calls }
    }

    fn kept(&self) {
        for (id, value) in &self.keep {
            assert_eq!(self.rig.read(id).as_ref(), Some(value), "the content of {id}");
        }
    }

    async fn call(&self) -> Result<()> {
        (self.flow.call)(&self.rig, &self.state).await
    }

    async fn down(&mut self, how: Down) {
        match how {
            Down::Crash => self.rig.restart().await,
            Down::Power => self.rig.power_cut().await,
        }
        let audit = self.rig.audit();
        assert_eq!(audit.frozen, Vec::<PathBuf>::new());
        assert_eq!(self.rig.service.unopened_pools(), []);
        self.kept();
    }

    /// The caller asks until the answer is OK. What a restart left is never the end of it.
    async fn retry(&self) {
        let mut errors = Vec::new();
        for _ in 0..4 {
            match self.call().await {
                Ok(()) => return,
                Err(error) => {
                    assert!(!error.kind().is_final(), "{error:?} after {errors:?}");
                    errors.push(error);
                }
            }
        }
        panic!("never OK: {errors:?}");
    }

    async fn right(&self, how: Down) {
        (self.flow.check)(&self.rig, &self.state).await;
        self.kept();
        self.rig.reap().await;
        let audit = self.rig.audit();
        assert_eq!(audit.frozen, Vec::<PathBuf>::new());
        if how == Down::Power {
            return;
        }
        let (now, before) = (paths(&audit), paths(&self.before));
        match self.flow.machine {
            Machine::Same => assert_eq!(now, before),
            Machine::Detaches => {
                assert!(now.0.iter().all(|file| before.0.contains(file)) && now.1 == before.1)
            }
            Machine::Checked => {}
        }
    }

    async fn gone(&mut self) {
        self.rig.delete_everything().await;
        self.rig.reap().await;
        assert_eq!(self.rig.audit(), self.empty);
    }
}

/// Files behind loop devices, and mounts, without the numbers of devices.
fn paths(audit: &Audit) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut loops: Vec<_> = audit.loops.iter().map(|device| device.backing.clone()).collect();
    loops.sort();
    (loops, audit.mounts.clone())
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

/// Runs a use case once for every way in which it can be disturbed.
pub async fn sweep<S, P, A, C>(how: How, fs: PoolFs, flow: &Flow<S, P, A, C>) -> Swept
where
    P: AsyncFn(&mut Rig) -> (S, Keep),
    A: AsyncFn(&Rig, &S) -> Result<()>,
    C: AsyncFn(&Rig, &S),
{
    let calls = undisturbed(fs, flow).await;
    let mut swept = Swept { points: calls.len(), worlds: 1 };
    for (n, call) in calls.iter().enumerate() {
        match how {
            How::Down(down) => {
                for (moment, retries) in ends(call) {
                    let end = if retries { "retries" } else { "gives up" };
                    let n = n + 1;
                    let text = format!(
                        "{} on {fs:?}: {down:?} {moment:?} call {n} ({call}), the caller {end}",
                        flow.name
                    );
                    let _here = Here(text);
                    let world = World::new(fs, flow).await;
                    goes_down(world, down, (n, moment), retries).await;
                    swept.worlds += 1;
                }
            }
            How::Failures => {
                for cause in [Cause::NoSpace, Cause::Other] {
                    let _here =
                        Here(format!("{} on {fs:?}: {cause:?} at call {} ({call})", flow.name, n + 1));
                    let world = World::new(fs, flow).await;
                    fails(world, n + 1, cause).await;
                    swept.worlds += 1;
                }
            }
        }
    }
    swept
}

/// Nothing happens. The calls that change the machine, for counting.
async fn undisturbed<S, P, A, C>(fs: PoolFs, flow: &Flow<S, P, A, C>) -> Vec<String>
where
    P: AsyncFn(&mut Rig) -> (S, Keep),
    A: AsyncFn(&Rig, &S) -> Result<()>,
    C: AsyncFn(&Rig, &S),
{
    let _here = Here(format!("{} on {fs:?}: undisturbed", flow.name));
    let mut world = World::new(fs, flow).await;
    let seen = world.rig.fake.calls().len();
    world.call().await.unwrap();
    let calls = world.rig.fake.calls();
    let calls = calls[seen..].iter().filter(|call| call.mutating);
    let calls = calls.map(|call| format!("{} {}", call.name, call.path.display())).collect();
    world.right(Down::Crash).await;
    // Asked again, it is OK again.
    world.call().await.unwrap();
    world.right(Down::Crash).await;
    world.gone().await;
    calls
}

/// The server dies at one call and starts again; the caller retries, or gives up.
async fn goes_down<S, P, A, C>(
    mut world: World<'_, S, P, A, C>,
    down: Down,
    at: (usize, Moment),
    retries: bool,
) where
    P: AsyncFn(&mut Rig) -> (S, Keep),
    A: AsyncFn(&Rig, &S) -> Result<()>,
    C: AsyncFn(&Rig, &S),
{
    world.rig.fake.crash(world.calls + at.0, at.1);
    // Nobody hears the answer.
    let _ = world.call().await;
    assert!(world.rig.fake.crashed(), "the use case makes fewer calls than before");
    world.down(down).await;
    if retries {
        world.retry().await;
        world.right(down).await;
        if down == Down::Power {
            // What was answered OK is durable.
            world.down(down).await;
            world.right(down).await;
        }
    }
    world.gone().await;
}

/// One call fails. A final answer leaves nothing behind; any other is continued by asking again.
async fn fails<S, P, A, C>(mut world: World<'_, S, P, A, C>, at: usize, cause: Cause)
where
    P: AsyncFn(&mut Rig) -> (S, Keep),
    A: AsyncFn(&Rig, &S) -> Result<()>,
    C: AsyncFn(&Rig, &S),
{
    let before = world.rig.fake.snapshot_tree("/nowhere");
    world.rig.fake.fail_at(world.calls + at, cause);
    let answer = world.call().await;
    world.rig.fake.heal();
    world.kept();
    if let Err(error) = answer {
        // A case of several calls may end in the middle with some of them done.
        if error.kind().is_final() && world.flow.machine != Machine::Checked {
            let changed = difference(&before, &world.rig.fake.snapshot_tree("/nowhere"));
            assert_eq!(changed, Vec::<PathBuf>::new(), "left behind after {error:?}");
            if world.flow.machine == Machine::Same {
                assert_eq!(paths(&world.rig.audit()), paths(&world.before), "after {error:?}");
            }
        }
        // What the server thinks is what its records say.
        let thought = view(&world.rig).await;
        if error.kind().is_final() && world.flow.machine != Machine::Checked {
            world.rig.restart().await;
            assert_eq!(view(&world.rig).await, thought, "after {error:?}");
        }
        world.retry().await;
    }
    world.right(Down::Crash).await;
    let thought = view(&world.rig).await;
    world.rig.restart().await;
    assert_eq!(view(&world.rig).await, thought);
    world.gone().await;
}

/// Everything that a caller can see.
async fn view(rig: &Rig) -> Vec<String> {
    let volumes = rig.service.list_volumes("", 0, false).await.unwrap().entries;
    let volumes = volumes.iter().map(|status| format!("{status:?}"));
    volumes.chain(rig.snapshots().iter().map(|snapshot| format!("{snapshot:?}"))).collect()
}

/// The names that are in one tree only. What a pool keeps for good does not count.
fn difference<T>(a: &BTreeMap<PathBuf, T>, b: &BTreeMap<PathBuf, T>) -> Vec<PathBuf> {
    let only = |x: &BTreeMap<PathBuf, T>, y: &BTreeMap<PathBuf, T>| {
        let missing = x.keys().filter(|path| !y.contains_key(*path) && !super::is_template(path));
        missing.cloned().collect::<Vec<_>>()
    };
    [only(a, b), only(b, a)].concat()
}
