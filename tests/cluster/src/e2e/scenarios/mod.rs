//! The list of scenarios, in the order in which they start.

mod access;
mod attributes;
mod capacity;
mod changed;
mod chart;
mod churn;
mod copies;
mod ends;
mod ephemeral;
mod expansion;
mod faults;
mod group;
mod lost;
mod placement;
mod plugin;
mod postgres;
mod provision;
mod reboot;
mod remote;
mod rotation;
mod silent;
mod upgrade;

use crate::run::Scenario;

macro_rules! scenarios {
    ($($name:literal $mode:ident $function:path: $about:literal;)*) => {
        vec![$(Scenario { name: $name, about: $about, alone: scenarios!(@$mode), run: |space| Box::pin($function(space)) }),*]
    };
    (@together) => { false };
    (@alone) => { true };
}

/// All of them. The long ones of those that run side by side come first.
pub(crate) fn all() -> Vec<Scenario> {
    scenarios! {
        "placement" together placement::run: "a restored volume is where its snapshot is, and so is its pod, 50 of 50 times";
        "rotation" together rotation::run: "certificates are exchanged under load, and no call fails";
        "group" together group::run: "a group snapshot over two nodes is consistent while its volumes are written to";
        "copies" together copies::filesystem: "snapshot, restore, restore to larger, clone";
        "copies-block" together copies::block: "a device restored from a snapshot, and cloned, has its bytes";
        "changed-blocks" together changed::run: "a device built from allocated and changed blocks equals the snapshot";
        "remote" together remote::run: "a copy on another node on request, and an explanation without";
        "provision-ext4" together provision::ext4: "a claim is provisioned where its pod runs, and outlives the pod";
        "provision-xfs" together provision::xfs: "the same on XFS";
        "provision-immediate" together provision::immediate: "a claim that waits for nobody is bound, and its pod follows it";
        "provision-block" together provision::block: "a raw device keeps its bytes";
        "access" together access::run: "ReadWriteOncePod, readOnly and fsGroup do what they say";
        "expand-online" together expansion::online: "a mounted XFS volume grows";
        "expand-offline" together expansion::offline: "an ext4 volume grows at its next mount";
        "inline" together ephemeral::inline: "an inline volume lives and dies with its pod";
        "ephemeral" together ephemeral::generic: "a generic ephemeral volume lives and dies with its pod";
        "capacity" together capacity::run: "a claim that no node has room for is not put anywhere, and says so";
        "attributes" together attributes::run: "a volume takes the attributes of its class, and of another";
        "force" together ends::force: "a pod that is deleted by force leaves nothing behind";
        "namespace" together ends::namespace: "a namespace goes with everything in it";
        "plugin" together plugin::run: "kubectl offshoot draws the tree, lists pools, finds nothing wrong, and takes a claim back";
        "faults" together faults::run: "what cannot be is said at the claim, and nothing is half made";
        "capacity-objects" alone capacity::objects: "what Kubernetes is told about free space is what the formula gives";
        "postgres" alone postgres::run: "a database goes on while agent, controller and kubelet are killed ten times each";
        "silent" alone silent::run: "calls for the volumes of an agent that is stopped fail at once, and no others";
        "reboot" alone reboot::run: "a node comes back, its pods run again, and nothing durable is lost";
        "lost" alone lost::run: "a node is gone for good, is forgotten, and the others never noticed";
        "upgrade" alone upgrade::run: "an upgrade while volumes are written and made";
        "churn" alone churn::run: "two hundred volumes come and go, and nobody has grown";
        "chart" alone chart::run: "applied twice nothing changes; no right too many; no uninstall under volumes";
    }
}
