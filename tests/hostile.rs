//! Bad values in every field of every request, over the machine in memory.
//!
//! A CSI driver runs as root and takes names, paths and numbers from whoever can write a PersistentVolume, a
//! StorageClass or a pod. For each of them: the code is one that its caller can act on, the text names the field, is
//! short and cannot forge a line of a log, a refusal leaves nothing behind, and nothing outside the pools ever changes
//! but the paths that were asked for.
//!
//! A run tries a quarter of the values, at least three of every field: `OFFSHOOT_HOSTILE=3` repeats the run that printed
//! so, four numbers in a row try everything between them, and `OFFSHOOT_HOSTILE=all` does at once.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "hostile/inputs.rs"]
mod inputs;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/verdict.rs"]
mod verdict;
#[path = "hostile/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use inputs::Case;
use offshoot::csi::rpc::Rpc;
use offshoot::host::fake::{Audit, TreeEntry};
use offshoot::proto;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use tonic::Code;
use world::{Answer, World};

/// The longest text that an error may have: it stands in events and logs.
const LONGEST: usize = 700;

fn descriptor(rpc: Rpc) -> MessageDescriptor {
    let pool = DescriptorPool::decode(proto::DESCRIPTOR).unwrap();
    let service = pool.get_service_by_name(rpc.service()).unwrap();
    service.methods().find(|method| method.name() == rpc.method()).unwrap().input()
}

type State = (BTreeMap<PathBuf, TreeEntry>, Audit);

fn state(world: &World) -> State {
    (world.tree(), world.audit())
}

/// The paths that an accepted request may have made or removed, beside those in the pools.
fn named_paths(message: &DynamicMessage) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (field, value) in message.fields() {
        match value {
            prost_reflect::Value::String(text) if field.name().contains("path") || field.name() == "file" => {
                paths.push(PathBuf::from(text));
            }
            prost_reflect::Value::Message(inner) => paths.extend(named_paths(inner)),
            _ => {}
        }
    }
    paths
}

/// What differs outside the pools and outside of what was named.
fn strays<'a>(before: &'a State, after: &'a State, named: &[PathBuf]) -> Vec<&'a PathBuf> {
    let all: BTreeSet<&PathBuf> = before.0.keys().chain(after.0.keys()).collect();
    let changed = all.into_iter().filter(|path| before.0.get(*path) != after.0.get(*path));
    let ours = ["/pool", "/second", "/state"];
    changed
        .filter(|path| {
            let below_named = named.iter().any(|named| path.starts_with(named) || named.starts_with(path));
            !(below_named || ours.iter().any(|ours| path.starts_with(ours)))
        })
        .collect()
}

/// Everything that is wrong with one answer.
fn faults(rpc: Rpc, case: &Case, answer: &Answer, before: &State, after: &State) -> Vec<String> {
    let mut faults = Vec::new();
    let context = case.message.get_field_by_name("volume_context");
    let inline = context.and_then(|context| {
        let key = prost_reflect::MapKey::String("csi.storage.k8s.io/ephemeral".to_owned());
        context.as_map()?.get(&key)?.as_str().map(|value| value == "true")
    });
    let allowed = verdict::allowed(rpc, &case.field, &case.input, inline == Some(true));
    if !allowed.contains(&answer.code) {
        faults.push(format!("the code is {:?}, not one of {allowed:?}", answer.code));
    }
    let text = &answer.message;
    if answer.code == Code::InvalidArgument && !verdict::names(text, &case.field) {
        faults.push("the text does not name the field".to_owned());
    }
    if text.len() > LONGEST {
        faults.push(format!("the text has {} bytes", text.len()));
    }
    if text.chars().any(char::is_control) {
        faults.push("the text has control characters".to_owned());
    }
    if text.contains("marker") {
        faults.push("the text has a secret".to_owned());
    }
    let named = named_paths(&case.message);
    let strays =
        if answer.code == Code::Ok { strays(before, after, &named) } else { strays(before, after, &[]) };
    if !strays.is_empty() {
        faults.push(format!("outside the pool these changed: {strays:?}"));
    }
    if answer.code != Code::Ok && before != after {
        let all: BTreeSet<&PathBuf> = before.0.keys().chain(after.0.keys()).collect();
        let changed: Vec<_> =
            all.into_iter().filter(|path| before.0.get(*path) != after.0.get(*path)).collect();
        let (was, is) = (&before.1, &after.1);
        faults.push(format!(
            "the refusal left something behind: {changed:?}, loops {} to {}, mounts {:?} to {:?}",
            was.loops.len(),
            is.loops.len(),
            was.mounts,
            is.mounts
        ));
    }
    if world::panics() > 0 {
        faults.push("a panic".to_owned());
    }
    faults
}

/// Which values a run tries.
#[derive(Debug, Clone, Copy)]
enum Share {
    All,
    /// Every fourth one, from here on.
    Quarter(usize),
}

impl Share {
    fn of_this_run() -> Share {
        let share = match std::env::var("OFFSHOOT_HOSTILE").as_deref() {
            Ok("all") => Share::All,
            Ok(number) => Share::Quarter(number.parse().unwrap()),
            Err(_) => {
                let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                Share::Quarter(usize::try_from(clock.subsec_millis() % 4).unwrap())
            }
        };
        println!("OFFSHOOT_HOSTILE={share}");
        share
    }

    /// For each case whether it is tried. `fields` are those of the cases, in order.
    fn choose(self, fields: &[String]) -> Vec<bool> {
        let Share::Quarter(start) = self else { return vec![true; fields.len()] };
        let mut of_field: BTreeMap<&str, usize> = BTreeMap::new();
        fields.iter().for_each(|field| *of_field.entry(field).or_default() += 1);
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let chosen = fields.iter().map(|field| {
            let at = seen.entry(field).or_insert(start);
            *at += 1;
            (*at - 1).is_multiple_of((of_field[field.as_str()] / 3).clamp(1, 4))
        });
        chosen.collect()
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Share::All => f.write_str("all"),
            Share::Quarter(start) => write!(f, "{start}"),
        }
    }
}

/// How a sweep went.
struct Tally {
    share: Share,
    fields: BTreeSet<String>,
    codes: BTreeMap<&'static str, usize>,
    findings: Vec<String>,
    cases: usize,
}

impl Tally {
    fn new() -> Tally {
        let (fields, codes) = Default::default();
        Tally { share: Share::of_this_run(), fields, codes, findings: Vec::new(), cases: 0 }
    }

    async fn sweep(&mut self, rpc: Rpc, good: impl Fn(&World) -> Vec<u8>) {
        let mut world = World::furnished().await;
        let descriptor = descriptor(rpc);
        let decode = |bytes: &[u8]| DynamicMessage::decode(descriptor.clone(), bytes).unwrap();
        // The request that everything else differs from is good; else every refusal could be for its sake.
        let answer = world.call(rpc.path(), &good(&world)).await;
        assert_eq!(answer.code, Code::Ok, "{rpc}: {}", answer.message);
        if descriptor.fields().len() == 0 {
            self.count(rpc, "", answer.code);
            return;
        }
        world = World::furnished().await;
        let mut before = state(&world);
        let all = inputs::cases(&decode(&good(&world)));
        let fields: Vec<_> = all.iter().map(|case| case.field.clone()).collect();
        let chosen = self.share.choose(&fields);
        let mut cases = all.into_iter().enumerate();
        while let Some((index, case)) = cases.next() {
            if !chosen[index] {
                continue;
            }
            let answer = world.call(rpc.path(), &case.message.encode_to_vec()).await;
            let after = state(&world);
            for fault in faults(rpc, &case, &answer, &before, &after) {
                let text: String = answer.message.chars().take(300).collect();
                let input = format!("{:?}", case.input).chars().take(80).collect::<String>();
                self.findings.push(format!(
                    "{} {} {input}: {fault} -- {:?} {text:?}",
                    rpc.method(),
                    case.field,
                    answer.code
                ));
            }
            self.count(rpc, &case.field, answer.code);
            // What was accepted changed the world, and the next case wants the one that the good request is for.
            if before != after {
                world = World::furnished().await;
                before = state(&world);
                cases = inputs::cases(&decode(&good(&world))).into_iter().enumerate();
                cases.by_ref().take(index + 1).for_each(drop);
            }
        }
    }

    fn count(&mut self, rpc: Rpc, field: &str, code: Code) {
        self.cases += 1;
        self.fields.insert(format!("{}.{field}", rpc.method()));
        *self.codes.entry(offshoot::csi::status::code_name(code)).or_default() += 1;
    }

    #[track_caller]
    fn end(self) {
        println!("{} fields, {} cases: {:?}", self.fields.len(), self.cases, self.codes);
        let shown: Vec<_> = self.findings.iter().take(200).map(String::as_str).collect();
        let (share, found) = (self.share, self.findings.len());
        assert!(shown.is_empty(), "OFFSHOOT_HOSTILE={share}: {found} findings:\n{}", shown.join("\n"));
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn sweep_service(service: &str) {
    // The largest request by far has a test of its own, so that it runs beside the others.
    sweep(|rpc| rpc.service() == service && rpc != Rpc::CreateVolume);
}

fn sweep(wanted: impl Fn(Rpc) -> bool) {
    run(async {
        let mut tally = Tally::new();
        for rpc in Rpc::public().filter(|&rpc| wanted(rpc)) {
            tally.sweep(rpc, |world| requests::good(rpc, &world.ids)).await;
        }
        tally.end();
    });
}

#[test]
fn no_field_of_the_identity_service_can_be_abused() {
    sweep_service("csi.v1.Identity");
}

#[test]
fn no_field_of_the_controller_service_can_be_abused() {
    sweep_service("csi.v1.Controller");
}

#[test]
fn no_field_of_create_volume_can_be_abused() {
    sweep(|rpc| rpc == Rpc::CreateVolume);
}

#[test]
fn no_field_of_the_group_controller_service_can_be_abused() {
    sweep_service("csi.v1.GroupController");
}

#[test]
fn no_field_of_the_snapshot_metadata_service_can_be_abused() {
    sweep_service("csi.v1.SnapshotMetadata");
}

#[test]
fn no_field_of_the_node_service_can_be_abused() {
    sweep_service("csi.v1.Node");
}

#[test]
fn no_field_of_our_own_service_can_be_abused() {
    // Nothing can be imported into this driver, whatever is asked: no request for that is good.
    sweep(|rpc| rpc.service() == "offshoot.v1.DataCopies" && rpc != Rpc::ImportVolume);
}

#[test]
fn no_attribute_of_an_inline_volume_can_be_abused() {
    run(async {
        let mut tally = Tally::new();
        tally.sweep(Rpc::NodePublishVolume, |_| requests::inline()).await;
        tally.end();
    });
}

#[test]
fn no_field_of_a_pool_in_a_file_can_be_abused() {
    run(async {
        let mut tally = Tally::new();
        tally.sweep(Rpc::CreatePool, |_| requests::file_pool()).await;
        tally.end();
    });
}

#[test]
fn four_runs_in_a_row_try_every_value_and_each_tries_some_of_every_field() {
    let lengths = [("one", 1), ("two", 2), ("six", 6), ("eleven", 11), ("sixty", 60)];
    let fields: Vec<String> =
        lengths.iter().flat_map(|&(name, count)| std::iter::repeat_n(name.to_owned(), count)).collect();
    let runs: Vec<_> = (5..9).map(|start| Share::Quarter(start).choose(&fields)).collect();
    for n in 0..fields.len() {
        assert!(runs.iter().any(|chosen| chosen[n]), "{} at {n} is never tried", fields[n]);
    }
    for (name, count) in lengths {
        for chosen in &runs {
            let tried =
                fields.iter().zip(chosen).filter(|(field, chosen)| *field == name && **chosen).count();
            assert!(tried >= count.min(3), "{tried} of {name} are tried");
        }
    }
    assert!(Share::All.choose(&fields).iter().all(|chosen| *chosen));
}
