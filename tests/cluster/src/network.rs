//! The cluster's network: a bridge in the control plane's machine, a cable from it to each node and one to the host.
//!
//! Nodes have addresses that are not loopback (kubelet's streaming calls, exec and logs, need one) and no way out of the cluster.
//! Pods have addresses of their node's range; the ranges are joined by static routes. The host's firewall and routes are left alone,
//! but for the one interface through which tests reach the API server and the pods.

use anyhow::Result;

use crate::layout::Layout;
use crate::machine::{Machine, host};

/// The control plane's last octet.
pub const CONTROL: u8 = 1;
/// The host's last octet.
pub const HOST: u8 = 254;

/// The last octet of a node's address.
#[must_use]
pub fn octet(node: u8) -> u8 {
    10 + node
}

/// Makes the switch and the host's cable to it.
///
/// # Errors
/// If an interface cannot be made.
pub fn connect_control(layout: &Layout, control: &Machine) -> Result<()> {
    bridge(control, "br0", 0)?;
    ip(control, &["addr", "add", &format!("{}/24", layout.address(CONTROL)), "dev", "br0"])?;
    ip(control, &["link", "set", "br0", "up"])?;
    cable(layout, control, None, 0)?;
    let interface = layout.host_interface();
    host("ip", &["addr", "add", &format!("{}/24", layout.address(HOST)), "dev", &interface])?;
    host("ip", &["link", "set", &interface, "up"])?;
    Ok(())
}

/// Connects a node that has just been started, and tells all others the way to its pods.
///
/// # Errors
/// If an interface or a route cannot be made.
pub fn connect_node(
    layout: &Layout,
    control: &Machine,
    node: &Machine,
    number: u8,
    others: &[(Machine, u8)],
) -> Result<()> {
    cable(layout, control, Some(node), number)?;
    let address = layout.address(octet(number));
    ip(node, &["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
    ip(node, &["link", "set", "eth0", "up"])?;
    node.run("sh", &["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"], None)?;
    // The CNI plugin takes the bridge that is there.
    bridge(node, "cni0", number)?;
    // kube-proxy answers for services; a packet to one must have somewhere to go before it is rewritten.
    ip(node, &["route", "replace", &layout.service_range(), "via", &layout.address(CONTROL)])?;
    let way = |to: &str, via: &str| ["route", "replace", to, "via", via].map(str::to_owned);
    for (other, their) in others {
        let forth = way(&layout.pod_range(*their), &layout.address(octet(*their)));
        ip(node, &forth.each_ref().map(String::as_str))?;
        if other.init()?.is_some() {
            let back = way(&layout.pod_range(number), &address);
            ip(other, &back.each_ref().map(String::as_str))?;
        }
    }
    let back = way(&layout.pod_range(number), &address);
    ip(control, &back.each_ref().map(String::as_str))?;
    host("ip", &back.each_ref().map(String::as_str))?;
    Ok(())
}

/// Takes the host's cable away, if it is there. The other ends go with their machines.
///
/// # Errors
/// If the interface is there and cannot be removed.
pub fn disconnect_host(layout: &Layout) -> Result<()> {
    let interface = layout.host_interface();
    if std::path::Path::new("/sys/class/net").join(&interface).exists() {
        host("ip", &["link", "delete", &interface])?;
    }
    Ok(())
}

/// Makes a bridge with an address of its own. Else it has that of one of its ports, and when that port goes its neighbours send to nobody.
fn bridge(machine: &Machine, name: &str, number: u8) -> Result<()> {
    let address = format!("0a:00:00:00:00:{number:02x}");
    ip(machine, &["link", "add", name, "address", &address, "type", "bridge"]).map(|_| ())
}

/// Lays a cable from the switch to a node, or to the host.
fn cable(layout: &Layout, control: &Machine, node: Option<&Machine>, number: u8) -> Result<()> {
    let port = layout.port(number);
    // The kernel removes the cable of a machine that was switched off a moment later; this one is not waited for.
    let _ = ip(control, &["link", "delete", &port]);
    let Some(init) = control.init()? else { anyhow::bail!("the control plane's machine is off") };
    let (peer, space) = match node {
        Some(node) => {
            let Some(init) = node.init()? else { anyhow::bail!("machine {} is off", node.name()) };
            ("eth0".to_owned(), init.pid)
        }
        // This program is the host's.
        None => (layout.host_interface(), i32::try_from(std::process::id())?),
    };
    if node.is_none() {
        disconnect_host(layout)?;
    }
    let (control_space, space) = (init.pid.to_string(), space.to_string());
    host(
        "ip",
        &[
            "link",
            "add",
            &port,
            "netns",
            &control_space,
            "type",
            "veth",
            "peer",
            "name",
            &peer,
            "netns",
            &space,
        ],
    )?;
    ip(control, &["link", "set", &port, "master", "br0", "up"])?;
    Ok(())
}

fn ip(machine: &Machine, args: &[&str]) -> Result<String> {
    machine.run("ip", args, None)
}
