//! The addresses of this machine.
//!
//! An NFS server lets clients in by address, so somebody has to know those of a node. The kernel is asked and not the
//! name service: a node's name may stand for an address of another interface, or for none.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::errno::fail;
use crate::host::HostResult;

/// See [`Host::addresses`](crate::host::Host::addresses).
pub(super) fn addresses() -> HostResult<Vec<IpAddr>> {
    let found = getifaddrs().map_err(|error| fail("addresses", Path::new("/"), error))?;
    let mut all: Vec<IpAddr> = Vec::new();
    for interface in found {
        if !interface.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
        all.extend(v4.or(v6).filter(reachable).filter(|address| !all.contains(address)));
    }
    let main = main_address();
    all.sort_by_key(|address| (Some(*address) != main, address.is_ipv6()));
    Ok(all)
}

/// The address that the default route takes. Connecting a datagram socket sends nothing; the network asked for is one that
/// exists in documents only (RFC 5737).
fn main_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|at| at.ip())
}

/// Whether another machine could use the address.
fn reachable(address: &IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_use_are_told() {
        for (address, expect) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
            ("10.0.0.1", true),
        ] {
            assert_eq!(reachable(&address.parse().unwrap()), expect, "{address}");
        }
        let all = addresses().unwrap();
        assert!(all.iter().all(reachable));
    }
}
