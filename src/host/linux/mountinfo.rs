//! The kernel's table of mounts, `/proc/self/mountinfo`, read by a pure function.
//!
//! Paths in it have spaces, tabs, newlines and backslashes as octal escapes; what a workload puts into a directory's
//! name must not become a field of its own here.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The mount's id; used again after the mount is gone.
    pub(super) id: u64,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) root: PathBuf,
    pub(super) target: PathBuf,
    /// Whether this mount refuses writes.
    pub(super) read_only: bool,
    pub(super) fs: String,
    /// What is mounted, as the filesystem names it: for one on a device, the device's node.
    pub(super) source: PathBuf,
    /// The options of the filesystem, which all its mounts share.
    pub(super) super_options: String,
}

impl Line {
    /// Whether the filesystem itself refuses writes.
    pub(super) fn filesystem_read_only(&self) -> bool {
        read_only_options(&self.super_options)
    }
}

/// Whether the options of a filesystem say that it refuses writes. ext4 no longer turns to `ro` after an error since
/// Linux 6.15: it stays `rw` and adds a word.
pub(super) fn read_only_options(options: &str) -> bool {
    options.split(',').any(|option| matches!(option, "ro" | "emergency_ro" | "shutdown"))
}

/// Reads the table. A line that does not have the form is an error with that line: an unknown table proves nothing.
pub(super) fn parse(table: &[u8]) -> Result<Vec<Line>, String> {
    table
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse_line(line).ok_or_else(|| format!("unreadable line {:?}", String::from_utf8_lossy(line)))
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    fields.next()?;
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let root = unescape(fields.next()?);
    let target = unescape(fields.next()?);
    let options = std::str::from_utf8(fields.next()?).ok()?;
    // Any number of optional fields, then a dash.
    fields.find(|field| *field == b"-")?;
    let fs = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let source = unescape(fields.next()?);
    Some(Line {
        id,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        root,
        target,
        read_only: options.split(',').any(|option| option == "ro"),
        fs,
        source,
        super_options: String::from_utf8_lossy(fields.next()?).into_owned(),
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the octal escapes of a path.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        match after.get(..3).and_then(octal) {
            Some(escaped) if *byte == b'\\' => {
                path.push(escaped);
                rest = &after[3..];
            }
            _ => {
                path.push(*byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(path).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0u8, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn one(line: &str) -> Line {
        let mut lines = parse(line.as_bytes()).unwrap();
        assert_eq!(lines.len(), 1);
        lines.remove(0)
    }

    #[test]
    fn a_line_gives_device_root_target_and_both_kinds_of_read_only() {
        fn check(line: &str, expect: (u32, u32, &str, &str, bool, &str, bool)) {
            let line = one(line);
            let seen = (
                line.major,
                line.minor,
                line.root.to_str().unwrap(),
                line.target.to_str().unwrap(),
                line.read_only,
                line.fs.as_str(),
                line.filesystem_read_only(),
            );
            assert_eq!(seen, expect);
        }
        check(
            "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n",
            (98, 0, "/mnt1", "/mnt2", false, "ext3", false),
        );
        check(
            "52 1 7:3 / /pods/x/mount ro,nosuid,nodev,relatime - xfs /dev/loop3 rw,nouuid",
            (7, 3, "/", "/pods/x/mount", true, "xfs", false),
        );
        check(
            "52 1 7:3 / /m rw shared:12 master:3 propagate_from:2 unbindable - ext4 /dev/loop3 rw,emergency_ro",
            (7, 3, "/", "/m", false, "ext4", true),
        );
        check("52 1 7:3 / /m rw - ext4 /dev/loop3 ro", (7, 3, "/", "/m", false, "ext4", true));
        check(
            "60 1 0:5 /loop3 /pods/dev rw,nosuid - devtmpfs devtmpfs rw,size=4k",
            (0, 5, "/loop3", "/pods/dev", false, "devtmpfs", false),
        );
    }

    #[test]
    fn escapes_in_paths_are_undone_and_nothing_else_is() {
        fn check(escaped: &str, expect: &str) {
            let line = one(&format!("1 2 7:0 / {escaped} rw - ext4 /dev/loop0 rw"));
            assert_eq!(line.target, PathBuf::from(expect));
        }
        check(r"/with\040space", "/with space");
        check(r"/tab\011newline\012backslash\134hash\043", "/tab\tnewline\nbackslash\\hash#");
        check(r"/literal\134040", r"/literal\040");
        check(r"/no\9escape", r"/no\9escape");
        check(r"/cut\04", r"/cut\04");
        check(r"/too\777large", r"/too\777large");
        check("/sn\u{f6}w", "/snöw");
    }

    #[test]
    fn a_line_of_another_form_makes_the_whole_table_unknown() {
        fn check(line: &str) {
            let table = format!("1 2 7:0 / /m rw - ext4 /dev/loop0 rw\n{line}\n");
            assert!(parse(table.as_bytes()).is_err(), "{line:?}");
        }
        check("nonsense");
        check("1 2 7-0 / /m rw - ext4 /dev/loop0 rw");
        check("1 2 7:0 / /m rw ext4 /dev/loop0 rw");
        check("1 2 7:0 / /m rw - ext4");
        check("x 2 7:0 / /m rw - ext4 /dev/loop0 rw");
    }

    #[test]
    fn the_table_of_this_machine_is_read_whole() {
        let table = std::fs::read("/proc/self/mountinfo").unwrap();
        let lines = parse(&table).unwrap();
        assert!(lines.iter().any(|line| line.target == Path::new("/")));
    }
}
