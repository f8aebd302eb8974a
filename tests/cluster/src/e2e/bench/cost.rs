//! What the driver's processes cost: memory, processor time, requests to the API server.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use offshoot_cluster::{Layout, audit};

use crate::objects::{name, text};
use crate::setup::{Env, OFFSHOOT};

/// What some processes cost together.
#[derive(Clone, Copy, Default)]
pub(super) struct Share {
    /// Resident bytes, of which shared pages count to each process in part.
    pub(super) memory: u64,
    /// Milliseconds of processor time since their start.
    pub(super) processor: u64,
}

/// What volumes cost from the first `kubectl apply` to the last deletion.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    /// Our own processes: the controller and the agents.
    pub(super) driver: Share,
    /// The sidecars, which are Kubernetes' own.
    pub(super) sidecars: Share,
    /// Requests to the API server by the driver and its sidecars, for each volume.
    pub(super) requests: f64,
}

/// The beginning of a measurement.
pub(super) struct Meter {
    driver: Share,
    sidecars: Share,
    requests: u64,
}

impl Meter {
    pub(super) async fn start(env: &Env, layout: &Layout) -> Result<Self> {
        let (driver, sidecars) = shares(env).await?;
        Ok(Self { driver, sidecars, requests: requests(layout)? })
    }

    /// Memory is what it is at the end; time and requests are those since the beginning.
    pub(super) async fn stop(self, env: &Env, layout: &Layout, volumes: usize) -> Result<Cost> {
        let (driver, sidecars) = shares(env).await?;
        let since = |now: Share, then: Share| Share {
            memory: now.memory,
            processor: now.processor.saturating_sub(then.processor),
        };
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let requests = (requests(layout)? - self.requests) as f64 / volumes as f64;
        Ok(Cost { driver: since(driver, self.driver), sidecars: since(sidecars, self.sidecars), requests })
    }
}

/// Our own processes', and those of the sidecars.
async fn shares(env: &Env) -> Result<(Share, Share)> {
    let mut all = BTreeMap::new();
    for component in ["controller", "node"] {
        for pod in env.pods_of(component).await? {
            for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
                let id = text(status, "/containerID");
                let pids = audit::container_pids(id.trim_start_matches("containerd://"))?;
                let pid =
                    pids.first().with_context(|| format!("a container of {} does not run", name(&pod)))?;
                let own = text(status, "/name") == "offshoot";
                let share: &mut Share = all.entry(own).or_default();
                share.memory += proportional(*pid)?;
                share.processor += processor(*pid)?;
            }
        }
    }
    Ok((all.remove(&true).unwrap_or_default(), all.remove(&false).unwrap_or_default()))
}

/// The resident bytes of a process, where a page of three processes counts a third.
fn proportional(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("the kernel says no Pss")?;
    let kib: u64 =
        line.trim().trim_end_matches("kB").trim().parse().context("the kernel says another Pss")?;
    Ok(kib << 10)
}

/// Milliseconds of processor time of a process, in user and kernel.
fn processor(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name before it may hold spaces and brackets. After it the state is the first field, and user time the twelfth.
    let (_, rest) = text.rsplit_once(')').context("the kernel says another stat")?;
    let ticks = rest.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|one| one.parse::<u64>().unwrap_or_default()).sum();
    // The kernel counts in hundredths for every program, whatever its own clock.
    Ok(ticks * 10)
}

/// Requests that the driver and its sidecars have made so far. Reading their leases and watching are among them.
fn requests(layout: &Layout) -> Result<u64> {
    let own = format!("system:serviceaccount:{OFFSHOOT}:");
    let all = audit::requests(layout)?;
    Ok(all.iter().filter(|((user, _), _)| user.starts_with(&own)).map(|(_, count)| count).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_has_used_the_processor() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(proportional(pid).unwrap() > 100_000);
        let begun = std::time::Instant::now();
        while processor(pid).unwrap() == 0 {
            assert!(begun.elapsed().as_secs() < 60, "no time was ever counted");
        }
    }
}
