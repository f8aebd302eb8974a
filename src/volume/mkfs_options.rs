//! The allow-list for the parameter `mkfsOptions`.
//!
//! The text comes from a StorageClass or, for inline volumes, from anybody who may make a pod; it ends in the argument
//! list of a program that runs as root. So nothing passes through: every option, key and value is matched against a
//! grammar per filesystem, and what is not named here is refused by name. Left out on purpose is everything that names a
//! device or file (an external journal or log, a populate directory), that forces, or that makes a filesystem which
//! cannot stand a crash (no journal).

use super::error::{Error, Result};
use super::spec::FsType;

/// What a value may be.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// A whole number in this range.
    Number(u64, u64),
    /// A power of two in this range.
    Power(u64, u64),
    /// A number with an optional `k`, `m` or `g`, in this range of bytes.
    Bytes(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
}

/// What follows an option's flag.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// One value.
    One(Value),
    /// `key=value` pairs with commas between.
    Pairs(&'static [(&'static str, Value)]),
    /// Features with commas between, each with an optional `^`; next to it the first kernel that can mount it.
    Features(&'static [(&'static str, (u32, u32))]),
}

use Shape::{Features, One, Pairs};
use Value::{Bytes, Number, Power, Word};

const BOOL: Value = Number(0, 1);

const EXT4: &[(&str, Shape)] = &[
    ("-i", One(Number(1024, 64 << 20))),
    ("-m", One(Number(0, 50))),
    ("-I", One(Power(256, 4096))),
    ("-b", One(Power(1024, 4096))),
    ("-J", Pairs(&[("size", Number(4, 10240))])),
    (
        "-E",
        Pairs(&[
            ("lazy_itable_init", BOOL),
            ("lazy_journal_init", BOOL),
            ("stride", Number(0, 1 << 20)),
            ("stripe_width", Number(0, 1 << 20)),
        ]),
    ),
    (
        "-O",
        Features(&[
            ("64bit", (2, 6)),
            ("dir_index", (2, 6)),
            ("flex_bg", (2, 6)),
            ("huge_file", (2, 6)),
            ("metadata_csum", (3, 18)),
            ("metadata_csum_seed", (4, 4)),
            ("inline_data", (3, 8)),
            ("large_dir", (4, 13)),
            ("ea_inode", (4, 13)),
            ("project", (4, 5)),
            ("quota", (3, 6)),
            ("verity", (5, 4)),
            ("fast_commit", (5, 10)),
            ("orphan_file", (5, 15)),
        ]),
    ),
];

const XFS: &[(&str, Shape)] = &[
    ("-i", Pairs(&[("size", Power(512, 2048)), ("maxpct", Number(0, 100))])),
    ("-b", Pairs(&[("size", Power(4096, 4096))])),
    ("-m", Pairs(&[("crc", Number(1, 1)), ("finobt", BOOL), ("reflink", BOOL), ("bigtime", BOOL)])),
    ("-l", Pairs(&[("size", Bytes(1 << 20, 2 << 30))])),
    ("-d", Pairs(&[("agcount", Number(1, 1 << 16)), ("su", Bytes(4096, 1 << 30)), ("sw", Number(1, 1024))])),
];

const BTRFS: &[(&str, Shape)] = &[
    ("-m", One(Word(&["single", "dup"]))),
    ("-d", One(Word(&["single", "dup"]))),
    ("-n", One(Bytes(4 << 10, 64 << 10))),
    ("--csum", One(Word(&["crc32c", "xxhash", "sha256", "blake2"]))),
];

/// One option that was allowed: `-E stride=4,stripe_width=8` is `-E` with two items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkfsOption {
    /// The flag, from the allow-list.
    pub flag: &'static str,
    /// The items after it; a plain value or feature has no second half.
    pub items: Vec<(String, Option<String>)>,
}

/// Splits the text of the parameter at white space.
pub fn split(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Checks words such as `["-i", "8192"]` against the allow-list of `fs`, and returns them in parts.
///
/// # Errors
/// [`super::Kind::Invalid`], naming the option that is not allowed, is malformed or stands there twice.
pub fn check(fs: FsType, words: &[String]) -> Result<Vec<MkfsOption>> {
    let table = table(fs);
    let bad = |why: String| Error::invalid("mkfsOptions", why);
    let mut options: Vec<MkfsOption> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some((flag, shape)) = table.iter().find(|(flag, _)| flag == word) else {
            let known: Vec<_> = table.iter().map(|(flag, _)| *flag).collect();
            let known = known.join(" ");
            return Err(bad(format!(
                "`{word}` is not an option that mkfs.{} may get; allowed are {known}",
                fs.as_str()
            )));
        };
        let value = words.next().ok_or_else(|| bad(format!("`{flag}` needs a value after a space")))?;
        let items = items(flag, *shape, value).map_err(bad)?;
        match options.iter_mut().find(|option| option.flag == *flag) {
            None => options.push(MkfsOption { flag, items }),
            Some(_) if matches!(shape, One(_)) => return Err(bad(format!("`{flag}` is there twice"))),
            Some(option) => {
                let twice = items.iter().find(|(key, _)| option.items.iter().any(|(k, _)| same_key(k, key)));
                if let Some((key, _)) = twice {
                    return Err(bad(format!("`{flag} {key}` is there twice")));
                }
                option.items.extend(items);
            }
        }
    }
    Ok(options)
}

/// The first feature in `options` that a kernel of this version cannot mount, with the version that can.
pub fn too_new(fs: FsType, options: &[MkfsOption], kernel: (u32, u32)) -> Option<(String, (u32, u32))> {
    let since = |flag: &str, name: &str, value: Option<&str>| match (fs, flag) {
        (FsType::Ext4, "-O") => feature(name),
        (FsType::Xfs, "-m") if name == "bigtime" && value == Some("1") => Some((5, 10)),
        (FsType::Xfs, "-m") if name == "reflink" && value == Some("1") => Some((4, 9)),
        (FsType::Btrfs, "--csum") if name != "crc32c" => Some((5, 5)),
        _ => None,
    };
    let items = options
        .iter()
        .flat_map(|o| o.items.iter().map(move |(name, value)| (o.flag, name, value.as_deref())));
    items.into_iter().find_map(|(flag, name, value)| {
        since(flag, name, value)
            .filter(|&since| since > kernel)
            .map(|since| (format!("{flag} {name}"), since))
    })
}

fn feature(name: &str) -> Option<(u32, u32)> {
    EXT4.iter().find_map(|(_, shape)| match shape {
        Features(known) => known.iter().find(|(known, _)| *known == name).map(|(_, since)| *since),
        _ => None,
    })
}

fn table(fs: FsType) -> &'static [(&'static str, Shape)] {
    match fs {
        FsType::Ext4 => EXT4,
        FsType::Xfs => XFS,
        FsType::Btrfs => BTRFS,
    }
}

fn same_key(a: &str, b: &str) -> bool {
    a.trim_start_matches('^') == b.trim_start_matches('^')
}

fn items(flag: &str, shape: Shape, text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let mut items: Vec<(String, Option<String>)> = Vec::new();
    match shape {
        One(value) => {
            allowed(value, text).map_err(|why| format!("`{flag} {text}`: {why}"))?;
            items.push((text.to_owned(), None));
        }
        Pairs(known) => {
            for pair in text.split(',') {
                let (key, value) =
                    pair.split_once('=').ok_or_else(|| format!("`{flag} {pair}`: give key=value"))?;
                let Some((_, grammar)) = known.iter().find(|(known, _)| *known == key) else {
                    let known: Vec<_> = known.iter().map(|(key, _)| *key).collect();
                    return Err(format!("`{flag} {key}` is not allowed; allowed are {}", known.join(" ")));
                };
                allowed(*grammar, value).map_err(|why| format!("`{flag} {pair}`: {why}"))?;
                items.push((key.to_owned(), Some(value.to_owned())));
            }
        }
        Features(known) => {
            for feature in text.split(',') {
                let name = feature.strip_prefix('^').unwrap_or(feature);
                if !known.iter().any(|(known, _)| *known == name) {
                    let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                    return Err(format!(
                        "`{flag} {feature}` is not allowed; allowed are {}",
                        known.join(" ")
                    ));
                }
                items.push((feature.to_owned(), None));
            }
        }
    }
    for (n, (key, _)) in items.iter().enumerate() {
        if items[..n].iter().any(|(before, _)| same_key(before, key)) {
            return Err(format!("`{flag} {key}` is there twice"));
        }
    }
    Ok(items)
}

fn allowed(grammar: Value, text: &str) -> Result<(), String> {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    match grammar {
        Number(low, high) => match number(text) {
            Some(n) if (low..=high).contains(&n) => Ok(()),
            _ => Err(format!("give a whole number from {low} to {high}")),
        },
        Power(low, high) => match number(text) {
            Some(n) if (low..=high).contains(&n) && n.is_power_of_two() => Ok(()),
            _ => Err(format!("give a power of two from {low} to {high}")),
        },
        Bytes(low, high) => {
            let (digits, unit) = match text.as_bytes().last() {
                Some(b'k') => (&text[..text.len() - 1], 1 << 10),
                Some(b'm') => (&text[..text.len() - 1], 1 << 20),
                Some(b'g') => (&text[..text.len() - 1], 1 << 30),
                _ => (text, 1),
            };
            match number(digits).and_then(|n| n.checked_mul(unit)) {
                Some(n) if (low..=high).contains(&n) => Ok(()),
                _ => Err(format!("give a number from {low} to {high}, or one with k, m or g")),
            }
        }
        Word(words) if words.contains(&text) => Ok(()),
        Word(words) => Err(format!("give one of {}", words.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(fs: FsType, text: &str, named: Option<&str>) {
        let found = super::check(fs, &split(text)).map_err(|e| e.to_string());
        match (named, found) {
            (None, found) => assert!(found.is_ok(), "{text}: {found:?}"),
            (Some(_), Ok(found)) => panic!("{text} was allowed as {found:?}"),
            (Some(named), Err(message)) => assert!(message.contains(named), "{text}: {message}"),
        }
    }

    #[test]
    fn listed_options_are_allowed() {
        check(FsType::Ext4, "", None);
        check(FsType::Ext4, "-i 8192 -m 0 -I 512 -b 4096 -J size=64", None);
        check(FsType::Ext4, "-E stride=4,stripe_width=16 -E lazy_itable_init=0 -O ^64bit,quota", None);
        check(
            FsType::Xfs,
            "-i size=1024 -b size=4096 -m reflink=1,bigtime=0 -l size=64m -d agcount=8,su=64k,sw=4",
            None,
        );
        check(FsType::Btrfs, "-m dup -d single -n 16k --csum xxhash", None);
        check(FsType::Btrfs, "-n 16384", None);
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        check(FsType::Ext4, "-d /etc", Some("-d"));
        check(FsType::Ext4, "-J device=/dev/sda", Some("-J device"));
        check(FsType::Ext4, "-O ^has_journal", Some("^has_journal"));
        check(FsType::Ext4, "-F", Some("-F"));
        check(FsType::Ext4, "/dev/sda", Some("/dev/sda"));
        check(FsType::Ext4, "-i", Some("-i"));
        check(FsType::Ext4, "-i8192", Some("-i8192"));
        check(FsType::Ext4, "-i -F", Some("-i -F"));
        check(FsType::Ext4, "-i 4096 -i 8192", Some("twice"));
        check(FsType::Ext4, "-O quota,^quota", Some("twice"));
        check(FsType::Ext4, "-E stride=4 -E stride=8", Some("twice"));
        check(FsType::Ext4, "-b 3000", Some("-b 3000"));
        check(FsType::Ext4, "-b 99999999999999999999", Some("-b"));
        check(FsType::Ext4, "-E root_owner=0:0", Some("root_owner"));
        check(FsType::Ext4, "-E stride=4,,", Some("-E"));
        check(FsType::Xfs, "-l logdev=/dev/sda", Some("logdev"));
        check(FsType::Xfs, "-d file=1,name=/etc/passwd", Some("-d file"));
        check(FsType::Xfs, "-m crc=0", Some("crc=0"));
        check(FsType::Xfs, "-p proto", Some("-p"));
        check(FsType::Btrfs, "-d raid0", Some("raid0"));
        check(FsType::Btrfs, "--rootdir /etc", Some("--rootdir"));
    }

    #[test]
    fn a_feature_that_the_kernel_lacks_is_found() {
        let kernel = (5, 4);
        let options = super::check(FsType::Ext4, &split("-O quota,fast_commit")).unwrap();
        assert_eq!(too_new(FsType::Ext4, &options, kernel), Some(("-O fast_commit".into(), (5, 10))));
        let options = super::check(FsType::Ext4, &split("-O quota,^fast_commit")).unwrap();
        assert_eq!(too_new(FsType::Ext4, &options, kernel), None);
        let options = super::check(FsType::Xfs, &split("-m bigtime=1")).unwrap();
        assert_eq!(too_new(FsType::Xfs, &options, kernel), Some(("-m bigtime".into(), (5, 10))));
    }

    proptest! {
        #[test]
        fn what_is_allowed_holds_no_path_and_no_strange_flag(
            text in "(-[a-zA-Z]|--csum|[a-z_]{1,8}(=[0-9a-z/]{1,4})?|[0-9]{1,6}|\\PC{0,5}| ){0,8}",
        ) {
            for fs in FsType::ALL {
                for option in super::check(fs, &split(&text)).into_iter().flatten() {
                    prop_assert!(table(fs).iter().any(|(flag, _)| *flag == option.flag));
                    for (key, value) in option.items {
                        let all = format!("{key}{}", value.unwrap_or_default());
                        prop_assert!(all.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'^'), "{}", all);
                    }
                }
            }
        }
    }
}
