//! Which answers are right for which kind of bad value.
//!
//! Not which answer exactly: a size of 1 is too small for a new volume and fine for a listing. But each kind of field
//! has a small set of codes that make sense to whoever acts on them, and everything else is a finding.

#![allow(unreachable_pub, reason = "a module of several test binaries")]

use offshoot::csi::rpc::Rpc;
use tonic::Code;

use super::inputs::Input;
use super::world::{LINK, POOL};

/// What a field is for, read from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Never looked at: credentials, and what Kubernetes passes on for others.
    Unread,
    Id,
    Name,
    Path,
    Token,
    /// Keys and values that the driver defines.
    Parameters,
    Flags,
    Topology,
    Number,
    Other,
}

pub fn role(rpc: Rpc, field: &str) -> Role {
    let mut parts = field.split('.');
    let first = parts.next().unwrap_or_default();
    let bare = |part: &str| part.split('[').next().unwrap_or_default().to_owned();
    let leaf = bare(field.rsplit('.').next().unwrap_or_default());
    match bare(first).as_str() {
        "secrets" | "publish_context" => return Role::Unread,
        "volume_context" if rpc != Rpc::NodePublishVolume => return Role::Unread,
        "volume_context" | "parameters" | "mutable_parameters" => return Role::Parameters,
        "accessibility_requirements" | "accessible_topology" => return Role::Topology,
        _ => {}
    }
    match leaf.as_str() {
        "name" => Role::Name,
        "name_or_id" | "id" | "ids" => Role::Id,
        "mount_flags" => Role::Flags,
        "path" | "file" => Role::Path,
        "starting_token" => Role::Token,
        "required_bytes" | "limit_bytes" | "size_bytes" | "starting_offset" | "max_entries"
        | "max_results" => Role::Number,
        leaf if leaf.ends_with("_id") || leaf.ends_with("_ids") => Role::Id,
        leaf if leaf.ends_with("_path") => Role::Path,
        _ => Role::Other,
    }
}

/// What makes a text wrong wherever it names something.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// The codes that may be answered.
pub fn allowed(rpc: Rpc, field: &str, input: &Input, inline: bool) -> Vec<Code> {
    use Code::*;
    let role = role(rpc, field);
    let mut codes = vec![InvalidArgument];
    match (role, input) {
        // The request is as good as it was; only its size can be refused.
        (Role::Unread, _) => return vec![Ok, InvalidArgument],
        (_, Input::Unknown(_)) => return codes,
        (Role::Token, Input::Text("empty", _) | Input::Missing) => return vec![Ok],
        (Role::Token, _) => return vec![Aborted, InvalidArgument],
        (Role::Id, Input::Text(_, text)) => {
            codes.push(NotFound);
            let removes = rpc.method().contains("Delete") || rpc.method().contains("Un");
            let filters = matches!(rpc, Rpc::ListSnapshots | Rpc::ReapOrphans);
            // An inline volume's id is kubelet's to choose.
            let inline = rpc == Rpc::NodePublishVolume && inline;
            if filters || (removes && !has_control(text)) || (inline && !has_control(text)) {
                codes.push(Ok);
            }
            if field.starts_with("volume_content_source") {
                codes.push(ResourceExhausted);
            }
            if text.is_empty() {
                codes.push(Ok);
            }
            // It names another object, or one without what is asked for.
            if matches!(rpc, Rpc::DeletePool | Rpc::NodeUnpublishVolume | Rpc::NodeUnstageVolume) {
                codes.push(FailedPrecondition);
            }
        }
        (Role::Name, Input::Text(_, text)) => {
            // CSI lets a name have tabs and line breaks.
            if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\r') && text.len() <= 128 {
                codes.extend([Ok, AlreadyExists]);
            }
        }
        (Role::Path, Input::Text(_, text)) => {
            codes.extend([NotFound, FailedPrecondition]);
            let reads = rpc.method().contains("Get") || rpc == Rpc::NodeExpandVolume;
            // A pool that is there is found, and nothing is at a path that is none.
            if rpc == Rpc::CreatePool && text == POOL {
                codes.push(AlreadyExists);
            }
            // Nothing is mounted over what is only looked at, and an inline volume is never staged.
            let unused = reads || (inline && field == "staging_target_path");
            let covers = !unused && (text == "/" || text.starts_with(POOL) || text.starts_with(LINK));
            if !has_control(text) && !text.contains("/..") && !covers {
                codes.extend([Ok, AlreadyExists]);
            }
        }
        (Role::Parameters | Role::Flags | Role::Topology, _) => {
            codes.extend([Ok, OutOfRange, ResourceExhausted, AlreadyExists, FailedPrecondition, NotFound]);
        }
        (Role::Number, _) => {
            codes.extend([Ok, OutOfRange, ResourceExhausted, FailedPrecondition, AlreadyExists])
        }
        (_, Input::Missing | Input::Hollow) => codes.extend([Ok, NotFound, FailedPrecondition]),
        _ => codes.extend([Ok, NotFound, OutOfRange, AlreadyExists, FailedPrecondition, ResourceExhausted]),
    }
    codes
}

/// Whether a message names the field, or what contains it.
pub fn names(message: &str, field: &str) -> bool {
    let plain = |part: &str| part.split('[').next().unwrap_or_default().to_owned();
    let oneof = match field.split('.').next().unwrap_or_default() {
        "source_now" => "from",
        "snapshot_id" if message.starts_with("from") => "from",
        "path" | "file" => "kind",
        _ => "access_type",
    };
    field.split('.').map(plain).any(|part| !part.is_empty() && message.contains(&part))
        || message.contains(oneof)
}
