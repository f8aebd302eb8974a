//! Checks of the plain strings in requests, before anything is done with them.
//!
//! Volume handles with `../` in them made other drivers delete outside their share. Here no name or id is ever used as
//! a path (ids are parsed by [`super::id`]), and still a string that could be one is refused at the edge, with the name
//! of its field. The text itself is never repeated: a field may hold what its sender did not mean to show.

use super::error::{Error, Result};

/// CSI's limit for strings.
const MAX_STRING: usize = 128;
/// CSI's limit for node ids.
const MAX_NODE_ID: usize = 256;
/// Linux' limits for paths and their components.
const MAX_PATH: usize = 4096;
const MAX_COMPONENT: usize = 255;

/// Checks a name that a caller chose. Any text is a name; only the characters that CSI bans are refused, which leaves
/// tab and line breaks: whoever shows a name must escape it.
///
/// # Errors
/// [`super::Kind::Invalid`], naming `field`.
pub fn check_name(field: &str, value: &str) -> Result<()> {
    let banned = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    length(field, value, MAX_STRING)?;
    if value.chars().any(banned) {
        return Err(Error::invalid(field, "holds control characters"));
    }
    Ok(())
}

/// Checks the id of a volume, snapshot or group, ours or not. Whether it is known is another question.
///
/// # Errors
/// [`super::Kind::Invalid`], naming `field`, for an empty one and for whatever could be taken for a path.
pub fn check_id(field: &str, value: &str) -> Result<()> {
    id(field, value, MAX_STRING)
}

/// Checks the id of a node.
///
/// # Errors
/// As [`check_id`].
pub fn check_node_id(field: &str, value: &str) -> Result<()> {
    id(field, value, MAX_NODE_ID)
}

/// Checks the name of a pool: it is a value in StorageClasses, a label of metrics and a word on the command line.
///
/// # Errors
/// [`super::Kind::Invalid`], naming `field`, for anything but 1 to 63 letters, digits, `-`, `_` and `.` that begin and
/// end with a letter or digit.
pub fn check_pool_name(field: &str, value: &str) -> Result<()> {
    length(field, value, 63)?;
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = [value.bytes().next(), value.bytes().next_back()];
    if value.bytes().all(inside) && ends.iter().flatten().all(u8::is_ascii_alphanumeric) {
        return Ok(());
    }
    let why = "is not a name for a pool; give letters, digits, `-`, `_` or `.`, the first and last a letter or digit";
    Err(Error::invalid(field, why))
}

/// Checks a staging, target or volume path, and returns it without doubled and trailing slashes.
///
/// # Errors
/// [`super::Kind::Invalid`], naming `field`, for a path that is relative, too long, the root, or has `.` or `..` in it.
pub fn check_path(field: &str, value: &str) -> Result<String> {
    length(field, value, MAX_PATH)?;
    let bad = |why: &str| Err(Error::invalid(field, why));
    if value.chars().any(char::is_control) {
        return bad("holds control characters");
    }
    let Some(inner) = value.strip_prefix('/') else {
        return bad("is not an absolute path");
    };
    let mut path = String::with_capacity(value.len());
    for component in inner.split('/').filter(|component| !component.is_empty()) {
        if matches!(component, "." | "..") {
            return bad("has `.` or `..` in it; give the path without");
        }
        if component.len() > MAX_COMPONENT {
            return bad("has a component over 255 bytes");
        }
        path.push('/');
        path.push_str(component);
    }
    if path.is_empty() { bad("is the root directory") } else { Ok(path) }
}

fn length(field: &str, value: &str, most: usize) -> Result<()> {
    match value.len() {
        0 => Err(Error::invalid(field, "is missing")),
        len if len > most => {
            Err(Error::invalid(field, format!("is {len} bytes long; at most {most} are taken")))
        }
        _ => Ok(()),
    }
}

fn id(field: &str, value: &str, most: usize) -> Result<()> {
    length(field, value, most)?;
    if value.chars().any(char::is_control) {
        return Err(Error::invalid(field, "holds control characters"));
    }
    if value == "." || value.contains('/') || value.contains("..") {
        return Err(Error::invalid(field, "holds `/` or `..`, which no id does"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Kind;
    use proptest::prelude::*;

    #[track_caller]
    fn check<T: std::fmt::Debug>(result: Result<T>, good: bool) {
        match result {
            Ok(value) => assert!(good, "accepted: {value:?}"),
            Err(error) => {
                assert!(!good, "refused: {error}");
                assert_eq!(error.kind(), Kind::Invalid);
                assert!(error.to_string().starts_with("the_field: "), "{error}");
            }
        }
    }

    #[test]
    fn names_are_any_text_without_control_characters() {
        for name in ["pvc-1", "../../etc", "a/b", "-rf", "данные", "😀", "a b", "a\tb", &"x".repeat(128)]
        {
            check(check_name("the_field", name), true);
        }
        for name in ["", "a\0", "\u{7f}", "\u{85}", "\u{1b}[31m", &"x".repeat(129), &"é".repeat(65)] {
            check(check_name("the_field", name), false);
        }
    }

    #[test]
    fn ids_never_look_like_paths() {
        for id in ["v-abc", "csi-0123", "-v", "%2e%2e", "a.b", "．．"] {
            check(check_id("the_field", id), true);
        }
        for id in ["", ".", "..", "../x", "a/b", "/", "a\n", "a\0b", &"x".repeat(129)] {
            check(check_id("the_field", id), false);
        }
        check(check_node_id("the_field", &"n".repeat(256)), true);
        check(check_node_id("the_field", &"n".repeat(257)), false);
    }

    #[test]
    fn the_name_of_a_pool_is_a_plain_word() {
        for name in ["fast", "a", "Fast-1_b.c", &"x".repeat(63)] {
            check(check_pool_name("the_field", name), true);
        }
        for name in ["", "-a", "a.", ".", "a b", "a/b", "a=b", "ä", &"x".repeat(64)] {
            check(check_pool_name("the_field", name), false);
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(check_path("p", "//var//lib/kubelet/").unwrap(), "/var/lib/kubelet");
        assert_eq!(check_path("p", "/a/...").unwrap(), "/a/...");
        for path in [
            "",
            "var",
            "/",
            "//",
            "/a/../b",
            "/a/.",
            "/..",
            "/a\0",
            "/a\nb",
            &format!("/{}", "x".repeat(256)),
        ] {
            check(check_path("the_field", path), false);
        }
        check(check_path("the_field", &"/x".repeat(2049)), false);
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_below_the_root(text in "(/|\\.|\\.\\.|[a-z]{1,3}|\\PC){0,12}") {
            if let Ok(path) = check_path("p", &text) {
                prop_assert!(path.starts_with('/') && !path.ends_with('/') && !path.contains("//"));
                prop_assert!(path.split('/').all(|part| part != "." && part != ".."));
                prop_assert_eq!(check_path("p", &path).unwrap(), path);
            }
        }
    }
}
