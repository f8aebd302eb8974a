//! Names of pools, volumes, snapshots and groups.
//!
//! An id travels through sidecars, kubelet and static PVs that anyone may write, and it becomes a file name. So it has
//! one strict form, `KIND-POOL-UUID`, that cannot hold a slash, a dot or a leading dash. Whatever does not parse is
//! not ours: the caller treats it as unknown, never as a path. The pool stands in the id so that a router can find
//! the node that holds it without asking anyone.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::digest::digest;

/// The number of characters in a pool id.
pub const POOL_ID_LEN: usize = 8;

/// A pool's own name for itself: eight characters of `a-z0-9`, made at random when the pool is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId([u8; POOL_ID_LEN]);

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this driver")]
pub struct NotOurs;

impl PoolId {
    /// A new random pool id.
    pub fn random() -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let random = Uuid::new_v4().into_bytes();
        let mut id = [0; POOL_ID_LEN];
        for (to, from) in id.iter_mut().zip(random) {
            *to = ALPHABET[usize::from(from) % ALPHABET.len()];
        }
        PoolId(id)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in, through `random` and `from_str`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for PoolId {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let bytes: [u8; POOL_ID_LEN] = text.as_bytes().try_into().map_err(|_| NotOurs)?;
        let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if bytes.iter().all(allowed) { Ok(PoolId(bytes)) } else { Err(NotOurs) }
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            pool: PoolId,
            unique: Uuid,
        }

        impl $name {
            /// Sorts before every other id.
            pub const MIN: $name = $name { pool: PoolId([0; POOL_ID_LEN]), unique: Uuid::nil() };

            /// A new id in `pool`. Ids of one pool sort by the time they were made.
            pub fn new(pool: PoolId) -> Self {
                $name { pool, unique: Uuid::now_v7() }
            }

            /// The pool that holds the object.
            pub fn pool(&self) -> PoolId {
                self.pool
            }

            /// What tells it from others of its pool. Sorts by the time it was made, also among kinds and pools.
            pub fn unique(&self) -> Uuid {
                self.unique
            }
        }

        impl FromStr for $name {
            type Err = NotOurs;

            fn from_str(text: &str) -> Result<Self, NotOurs> {
                let (pool, unique) = parse($prefix, text)?;
                Ok($name { pool, unique })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}-{}-{}", $prefix, self.pool, self.unique.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

object_id!(
    /// The id of a volume: `v-POOL-UUID`.
    VolumeId,
    "v"
);
object_id!(
    /// The id of a snapshot: `s-POOL-UUID`.
    SnapshotId,
    "s"
);
object_id!(
    /// The id of a group snapshot: `g-POOL-UUID`. The pool is the one of the first member; members may be elsewhere.
    GroupId,
    "g"
);

impl GroupId {
    /// A new id in `pool` for a group of all of `members` (the ids of volumes, in any order), which says so: see
    /// [`GroupId::is_of`].
    pub fn of(pool: PoolId, members: &[String]) -> Self {
        let mut bytes = Uuid::now_v7().into_bytes();
        // What comes before is the time and a counter, which keep ids apart that are made at one moment.
        bytes[12..].copy_from_slice(&members_digest(members));
        GroupId { pool, unique: Uuid::from_bytes(bytes) }
    }

    /// Whether [`GroupId::of`] made this id for exactly these members. Parts of a group on several nodes know only
    /// their own members, and still it must be certain whose they are before any is removed.
    pub fn is_of(&self, members: &[String]) -> bool {
        self.unique.as_bytes().ends_with(&members_digest(members))
    }
}

fn members_digest(members: &[String]) -> [u8; 4] {
    let mut members: Vec<&str> = members.iter().map(String::as_str).collect();
    members.sort_unstable();
    let [a, b, c, d, ..] = digest(members).to_be_bytes();
    [a, b, c, d]
}

/// The id of anything that has a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectId {
    /// A volume.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotId),
    /// A group snapshot.
    Group(GroupId),
}

impl ObjectId {
    /// The pool that holds the object's record.
    pub fn pool(&self) -> PoolId {
        match self {
            ObjectId::Volume(id) => id.pool(),
            ObjectId::Snapshot(id) => id.pool(),
            ObjectId::Group(id) => id.pool(),
        }
    }

    /// What tells the object from others of its pool. Sorts by the time it was made, also among kinds and pools.
    pub fn unique(&self) -> Uuid {
        match self {
            ObjectId::Volume(id) => id.unique(),
            ObjectId::Snapshot(id) => id.unique(),
            ObjectId::Group(id) => id.unique(),
        }
    }
}

impl From<VolumeId> for ObjectId {
    fn from(id: VolumeId) -> Self {
        ObjectId::Volume(id)
    }
}

impl From<SnapshotId> for ObjectId {
    fn from(id: SnapshotId) -> Self {
        ObjectId::Snapshot(id)
    }
}

impl From<GroupId> for ObjectId {
    fn from(id: GroupId) -> Self {
        ObjectId::Group(id)
    }
}

impl FromStr for ObjectId {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        match text.as_bytes().first() {
            Some(b'v') => text.parse().map(ObjectId::Volume),
            Some(b's') => text.parse().map(ObjectId::Snapshot),
            Some(b'g') => text.parse().map(ObjectId::Group),
            _ => Err(NotOurs),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectId::Volume(id) => id.fmt(f),
            ObjectId::Snapshot(id) => id.fmt(f),
            ObjectId::Group(id) => id.fmt(f),
        }
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse(prefix: &str, text: &str) -> Result<(PoolId, Uuid), NotOurs> {
    let mut parts = text.splitn(3, '-');
    let (Some(kind), Some(pool), Some(unique)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NotOurs);
    };
    // One spelling per id: the uuid crate would also take upper case, dashes and braces.
    let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if kind != prefix || unique.len() != 32 || !unique.bytes().all(plain) {
        return Err(NotOurs);
    }
    Ok((pool.parse()?, Uuid::try_parse(unique).map_err(|_| NotOurs)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_id_of_a_group_says_whose_it_is() {
        let pool = PoolId::random();
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let group = GroupId::of(pool, &ids(&["v-a", "v-b"]));
        let check =
            |members: &[&str], expect: bool| assert_eq!(group.is_of(&ids(members)), expect, "{members:?}");
        check(&["v-a", "v-b"], true);
        check(&["v-b", "v-a"], true);
        check(&["v-a"], false);
        check(&["v-a", "v-b", "v-c"], false);
        assert!(!GroupId::new(pool).is_of(&ids(&["v-a", "v-b"])));
        assert_eq!(group.unique().get_version_num(), 7);
        assert_eq!(group.unique().get_variant(), uuid::Variant::RFC4122);
        assert_eq!(group.to_string().parse(), Ok(group));
        assert_ne!(GroupId::of(pool, &ids(&["v-a", "v-b"])), group);
    }

    #[test]
    fn an_id_is_read_back_as_it_was_written() {
        let pool = PoolId::random();
        let volume = VolumeId::new(pool);
        assert_eq!(volume.to_string().parse(), Ok(volume));
        assert_eq!(volume.to_string().parse(), Ok(ObjectId::Volume(volume)));
        assert_eq!(volume.pool(), pool);
        assert_eq!(volume.to_string().parse::<SnapshotId>(), Err(NotOurs));
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        let pool = PoolId::random();
        let ids: Vec<_> = (0..100).map(|_| SnapshotId::new(pool)).collect();
        assert!(ids.is_sorted());
    }

    proptest! {
        #[test]
        fn whatever_parses_is_spelled_in_exactly_one_way(text in "\\PC{0,60}|[vsg]-[a-zA-Z0-9]{7,9}-[0-9a-fA-F-]{30,38}") {
            if let Ok(id) = text.parse::<ObjectId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
