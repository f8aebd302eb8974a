//! Certificates: the authority that makes them, the role that one proves, and what is trusted now.
//!
//! The node agents do what they are told as root, so everything between them and the router is TLS 1.3 with a
//! certificate on both sides, from an authority of our own; the authorities of the world are not trusted. A certificate has
//! one name and the name is the role. Keys and trust are looked up anew for each handshake and no session is resumed,
//! so a certificate can be exchanged while calls run, and one that has expired opens no new connection.
//!
//! Nothing here knows Kubernetes or gRPC: where keys come from is [`directory`]'s business, or that of whoever calls
//! [`Keys::replace`].

mod authority;
pub mod directory;
mod keys;
mod role;
pub mod vault;

pub use authority::{Authority, Lifetime, SigningKey};
pub use keys::{Bundle, Keys, Refused, SecretText, client_trusting};
pub use role::{CONTROLLER, Role};

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Makes ring the one provider of cryptography of this process. Called once, before anything makes or checks a
/// certificate; called again it changes nothing.
pub fn install_provider() {
    // The error says that there is one already: it can only be ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Seconds since 1970 as certificates count them.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
