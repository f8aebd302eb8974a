//! Which release of DCT is played, and what releases before it did not have.
//!
//! A driver must find out what a DCT can do rather than assume it. The dates below come from the vendor's published packages
//! (first release in which a field is seen), so a simulator told to be older refuses the newer fields and does not answer with
//! them. Fields of the table that nobody dated are taken to have been there always.

use std::fmt;
use std::str::FromStr;

/// A release of DCT: `14.0.0` of the numbered ones or `2025.6.0` of the dated ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(u32, u32, u32);

/// Fields by name with the release that first had them, wherever they appear.
const FIELDS: &[(&str, Release)] = &[
    ("exported_data_directory", Release(21, 0, 0)),
    ("vcdb_exported_data_directory", Release(21, 0, 0)),
    ("container_mode", Release(2025, 1, 0)),
    ("containerization_state", Release(2025, 1, 0)),
    ("ownership_spec", Release(2025, 2, 0)),
    ("nfs_version", Release(2025, 6, 0)),
    ("nfs_version_reason", Release(2025, 6, 0)),
    ("nfs_encryption_enabled", Release(2025, 6, 0)),
    ("recycle_bin", Release(2026, 3, 0)),
    ("recycle_bin_account_id", Release(2026, 3, 0)),
    ("recycle_bin_date", Release(2026, 3, 0)),
    ("recycle_days", Release(2026, 3, 0)),
];

/// Paths with the release that first had them.
const PATHS: &[(&str, Release)] =
    &[("/vdbs/{vdbId}/undo_refresh", Release(24, 0, 0)), ("/vdbs/empty_vdb", Release(2025, 6, 0))];

impl Release {
    /// The release the interface table was made from.
    pub const LATEST: Release = Release(2026, 5, 0);

    /// The first release that is named after a year.
    pub const DATED: Release = Release(2025, 1, 0);

    /// Whether this release has a field of this name.
    pub fn has(self, field: &str) -> bool {
        FIELDS.iter().find(|(name, _)| *name == field).is_none_or(|(_, since)| self >= *since)
    }

    /// Whether this release has an operation, by its path template.
    pub fn has_path(self, path: &str) -> bool {
        PATHS.iter().find(|(name, _)| *name == path).is_none_or(|(_, since)| self >= *since)
    }

    /// The version of the API as the served specification gives it. Known for two releases; between them it is a number
    /// that sorts right and means nothing.
    pub fn api(self) -> String {
        match self {
            Release(14, ..) => "3.5.0".to_owned(),
            r if r >= Release::LATEST => "3.30.0".to_owned(),
            Release(2025 | 2026, minor, _) => format!("3.{}.0", 16 + minor),
            Release(major, ..) if major < 14 => format!("3.{}.0", major.saturating_sub(9)),
            Release(major, ..) => format!("3.{}.0", (major.saturating_sub(9)).min(16)),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Release, String> {
        let mut parts = [0; 3];
        for (n, part) in text.split('.').enumerate() {
            let slot =
                parts.get_mut(n).ok_or_else(|| format!("release {text:?} has more than three numbers"))?;
            *slot = part.parse().map_err(|_| format!("release {text:?} is not like 2025.6.0 or 21.0.0"))?;
        }
        if parts[0] < 9 {
            // "3.30.0" numbers the interface, not the product; taken as a release it would switch every feature off.
            return Err(format!(
                "release {text:?} is a version of the API; give the release of DCT, such as 2025.6.0"
            ));
        }
        Ok(Release(parts[0], parts[1], parts[2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_there_from_the_release_that_brought_it() {
        fn check(release: &str, field: &str, expect: bool) {
            let release: Release = release.parse().unwrap();
            assert_eq!(release.has(field), expect, "{release} {field}");
        }
        check("20.0.0", "exported_data_directory", false);
        check("21", "exported_data_directory", true);
        check("24.0.0", "container_mode", false);
        check("2025.1.0", "container_mode", true);
        check("2025.1.0", "ownership_spec", false);
        check("2025.2.0", "ownership_spec", true);
        check("2025.3.0", "nfs_version", false);
        check("2026.5.0", "nfs_version", true);
        check("14", "enabled", true);
    }

    #[test]
    fn a_release_that_is_not_one_is_refused_with_an_example() {
        fn check(text: &str, expect: &str) {
            assert!(text.parse::<Release>().unwrap_err().contains(expect), "{text}");
        }
        check("3.30.0", "give the release of DCT");
        check("new", "2025.6.0");
        check("2025.1.0.1", "more than three");
    }
}
