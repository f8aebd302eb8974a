//! A database goes on while everything around it is killed.
//!
//! A client beside the server inserts one number after the other and writes down, on another disk, each whose commit was acknowledged. pgbench
//! keeps the server busy. The agent, the controller and kubelet are killed with SIGKILL in turn. No call of the server may fail, and every
//! number that was acknowledged is in the table: in the running server, after a move to a new pod, and those before a snapshot in its copy.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::objects::{POD, text};
use crate::setup::Env;
use crate::space::{Claim, LIMIT, Pod, Space, until};

const KILLS: usize = 10;

/// What a server says of a disk that fails it.
const FAILURES: [&str; 8] = [
    "PANIC",
    "Input/output error",
    "Read-only file system",
    "could not write",
    "could not fsync",
    "could not read block",
    "could not extend",
    "could not open file",
];

const SERVER: &str = "export PGDATA=/data/pg
if [ ! -f $PGDATA/PG_VERSION ]; then initdb --data-checksums --username=postgres --auth=trust --no-instructions >/dev/null; fi
exec postgres -c listen_addresses= -c shared_buffers=32MB -c max_wal_size=64MB -c checkpoint_timeout=30s -c logging_collector=off";

const CLIENT: &str = "export PGUSER=postgres PGHOST=/run/postgresql
until pg_isready -q; do sleep 0.2; done
psql -qc 'create table ledger (n bigint primary key)'
pgbench -q -i -s 2 2>/dev/null
(pgbench -n -c 2 -T 100000 >/ack/pgbench 2>&1; echo ended >>/ack/failed) &
n=0
while [ ! -e /ack/stop ]; do
    n=$((n + 1))
    if psql -qc \"insert into ledger values ($n)\" 2>>/ack/failed; then echo $n >>/ack/acked; else echo \"failed $n\" >>/ack/failed; fi
    sleep 0.05
done
touch /ack/stopped
trap 'exit 0' TERM
while :; do sleep 60 & wait $!; done";

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let [node, _] = Env::nodes();
    space.claim(Claim::new("data", "e2e", "1Gi")).await?;
    space.start(server("db", "data", true).on(node)).await?;
    acknowledged(&space, 20).await?;
    let mut snapshot_at = 0;
    for round in 0..KILLS {
        for victim in ["agent", "controller", "kubelet"] {
            let before = acks(&space).await?.len();
            kill_one(&space, node, victim).await?;
            acknowledged(&space, before + 3).await?;
        }
        if round == KILLS / 2 {
            snapshot_at = acks(&space).await?.len();
            space.snapshot("amid", "data").await?;
        }
    }
    let pod = space.get(POD, "db").await?;
    let restarts = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| one["restartCount"].as_u64());
    ensure!(
        restarts.clone().all(|count| count == Some(0)),
        "a container of the database was started again: {:?}",
        restarts.collect::<Vec<_>>()
    );

    client(&space, "touch /ack/stop; until [ -e /ack/stopped ]; do sleep 0.1; done").await?;
    let failed =
        client(&space, "cat /ack/failed 2>/dev/null; grep -iE 'error|fatal|abort' /ack/pgbench || true")
            .await?;
    ensure!(failed.is_empty(), "the client has seen: {failed}");
    let acked = acks(&space).await?;
    holds_all(&space, "db", &acked).await?;
    let log = space.kubectl(&["logs", "db", "--container=main"]).await?;
    let bad: Vec<_> = log.lines().filter(|line| FAILURES.iter().any(|word| line.contains(word))).collect();
    ensure!(bad.is_empty(), "the server has said: {}", bad.join("\n"));

    space.remove(POD, "db").await?;
    space.start(server("moved", "data", false)).await?;
    holds_all(&space, "moved", &acked).await?;
    space.claim(Claim::new("copy", "e2e", "1Gi").of_snapshot("amid")).await?;
    space.start(server("copy", "copy", false)).await?;
    let earlier = acked.iter().copied().take(snapshot_at).collect();
    holds_all(&space, "copy", &earlier).await?;
    // Every page has the checksum that it was written with.
    for pod in ["moved", "copy"] {
        space.remove(POD, pod).await?;
    }
    for claim in ["data", "copy"] {
        let check = Pod::new(&format!("check-{claim}"))
            .script("pg_checksums --check -D /data/pg")
            .claim(claim, "/data");
        space.once(as_postgres(check)).await?;
    }
    Ok(())
}

fn as_postgres(pod: Pod) -> Pod {
    pod.container("image", json!("localhost/offshoot-test/postgres:1")).with(
        "securityContext",
        json!({"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999, "fsGroupChangePolicy": "OnRootMismatch"}),
    )
}

/// A server, with or without a client beside it.
fn server(name: &str, claim: &str, with_client: bool) -> Pod {
    let memory = || json!({"emptyDir": {"medium": "Memory"}});
    let pod = as_postgres(Pod::new(name))
        .claim(claim, "/data")
        .volume(memory(), "/run/postgresql")
        .volume(memory(), "/ack");
    // It ends well on SIGINT; a volume is not let go of before.
    let pod = pod
        .container("command", json!(["sh", "-ec", SERVER]))
        .with("terminationGracePeriodSeconds", json!(30));
    let pod = pod.container(
        "lifecycle",
        json!({"preStop": {"exec": {"command": ["sh", "-c", "pg_ctl -D /data/pg -m fast stop || true"]}}}),
    );
    let pod = pod.container("readinessProbe", json!({"exec": {"command": ["pg_isready", "-q", "-h", "/run/postgresql", "-U", "postgres"]}, "periodSeconds": 1, "timeoutSeconds": 20}));
    if !with_client {
        return pod;
    }
    let mut object = pod.object();
    let mut client = object["spec"]["containers"][0].clone();
    client["name"] = json!("client");
    client["command"] = json!(["sh", "-c", CLIENT]);
    for field in ["lifecycle", "readinessProbe"] {
        client[field] = Value::Null;
    }
    if let Some(containers) = object["spec"]["containers"].as_array_mut() {
        containers.push(client);
    }
    Pod::of(object)
}

async fn kill_one(space: &Space, node: &str, victim: &str) -> Result<()> {
    let env = &space.env;
    if victim == "kubelet" {
        let cluster = env.cluster.borrow();
        cluster.kill(node, "kubelet")?;
        return cluster.start(node, "kubelet");
    }
    let on = if victim == "agent" { node } else { "" };
    let pid = env.driver_pid(on).await?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    env.kills.set(env.kills.get() + 1);
    until(&format!("the {victim} runs again"), LIMIT, async || {
        Ok((env.driver_pid(on).await? != pid).then_some(()))
    })
    .await
}

async fn client(space: &Space, script: &str) -> Result<String> {
    Ok(space
        .kubectl(&["exec", "db", "--container=client", "--", "sh", "-c", script])
        .await?
        .trim_end()
        .to_owned())
}

/// The numbers whose commit was acknowledged.
async fn acks(space: &Space) -> Result<BTreeSet<u64>> {
    // kubelet may have just been killed.
    let text =
        until("the ledger can be read", LIMIT, async || Ok(client(space, "cat /ack/acked").await.ok()))
            .await?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

async fn acknowledged(space: &Space, count: usize) -> Result<()> {
    until(&format!("{count} commits are acknowledged"), LIMIT, async || {
        Ok((acks(space).await?.len() >= count).then_some(()))
    })
    .await
}

async fn holds_all(space: &Space, pod: &str, acked: &BTreeSet<u64>) -> Result<()> {
    let query = "psql -h /run/postgresql -U postgres -Atc 'select n from ledger'";
    let said = space.kubectl(&["exec", pod, "--container=main", "--", "sh", "-c", query]).await?;
    let there: BTreeSet<u64> = said.lines().filter_map(|line| line.parse().ok()).collect();
    let lost: Vec<_> = acked.difference(&there).collect();
    ensure!(
        lost.is_empty() && !acked.is_empty(),
        "{pod} has lost {} of {} commits: {lost:?}",
        lost.len(),
        acked.len()
    );
    ensure!(text(&space.get(POD, pod).await?, "/status/phase") == "Running", "{pod} does not run");
    Ok(())
}
