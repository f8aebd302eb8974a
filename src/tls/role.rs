//! Which role a certificate proves.
//!
//! The one name in a certificate is the role: `controller.offshoot`, or `NODE.node.offshoot`. A certificate with two names
//! would prove two roles to two readers, so it proves none. DNS names have no case, so a node whose name differs from
//! another's by case alone could pose as it: names with capitals are refused, as Kubernetes refuses them.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::keys::Refused;

/// The name of the router.
pub const CONTROLLER: &str = "controller.offshoot";

/// What follows a node's name.
const OF_NODE: &str = ".node.offshoot";

/// What a certificate lets its holder be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// The router.
    Controller,
    /// The agent of the node of that name.
    Node(String),
}

impl Role {
    /// The role of the agent of `node`.
    ///
    /// Refuses a name that is no DNS name in small letters, as Kubernetes wants of a node's name, or is too long to stand in one with our ending.
    pub fn node(node: &str) -> Result<Role, Refused> {
        let plain = |label: &str| {
            let bytes = label.as_bytes();
            let ends = [bytes.first(), bytes.last()];
            (1..=63).contains(&bytes.len())
                && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
                && ends.iter().all(|end| end.is_some_and(|b| *b != b'-'))
        };
        if node.len() + OF_NODE.len() <= 253 && node.split('.').all(plain) {
            return Ok(Role::Node(node.to_owned()));
        }
        Err(Refused::new(format!(
            "`{}` cannot be the name of a node in a certificate; give small letters, digits, `-` and `.`, as Kubernetes does",
            node.escape_debug()
        )))
    }

    /// The name in the certificate.
    pub fn name(&self) -> String {
        match self {
            Role::Controller => CONTROLLER.to_owned(),
            Role::Node(node) => format!("{node}{OF_NODE}"),
        }
    }

    /// The role's kind: what a metric may have as a label.
    pub fn kind(&self) -> &'static str {
        match self {
            Role::Controller => "controller",
            Role::Node(_) => "node",
        }
    }

    /// The role with that name.
    fn of_name(name: &str) -> Result<Role, Refused> {
        match name.strip_suffix(OF_NODE) {
            Some(node) => Role::node(node),
            None if name == CONTROLLER => Ok(Role::Controller),
            None => Err(Refused::new(format!(
                "the certificate's name `{}` is no role; it has to be {CONTROLLER} or NODE{OF_NODE}",
                name.escape_debug()
            ))),
        }
    }

    /// The role that a certificate (DER) proves. Whether to believe the certificate is decided elsewhere.
    pub fn of_certificate(der: &[u8]) -> Result<Role, Refused> {
        let unreadable = || Refused::new("the certificate cannot be read".to_owned());
        let (_, certificate) = parse_x509_certificate(der).map_err(|_| unreadable())?;
        let names = certificate.subject_alternative_name().map_err(|_| unreadable())?;
        match names.map(|names| names.value.general_names.as_slice()) {
            Some([GeneralName::DNSName(name)]) => Role::of_name(name),
            names => Err(Refused::new(format!(
                "the certificate has {} names; it has to have one, the DNS name of its role",
                names.map_or(0, <[_]>::len)
            ))),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_role_and_a_strange_one_is_none() {
        fn check(name: &str, expect: Option<Role>) {
            assert_eq!(Role::of_name(name).ok(), expect, "{name}");
            if let Some(role) = expect {
                assert_eq!(role.name(), name);
            }
        }
        let node = |name: &str| Some(Role::Node(name.to_owned()));
        check("controller.offshoot", Some(Role::Controller));
        check("a.node.offshoot", node("a"));
        check("ip-10-0-0-1.eu.internal.node.offshoot", node("ip-10-0-0-1.eu.internal"));
        // A node of that name is a node.
        check("controller.node.offshoot", node("controller"));
        check("controller.offshoot.node.offshoot", node("controller.offshoot"));
        check("a.node.offshoot.node.offshoot", node("a.node.offshoot"));
        check("Controller.offshoot", None);
        check("controller.offshoot.", None);
        check("a.controller.offshoot", None);
        check("node.offshoot", None);
        check(".node.offshoot", None);
        check("A.node.offshoot", None);
        check("a..b.node.offshoot", None);
        check("*.node.offshoot", None);
        check("-a.node.offshoot", None);
        check("a_b.node.offshoot", None);
        check(&format!("{}.node.offshoot", ["a"; 121].join(".")), None);
        check("", None);
    }
}
