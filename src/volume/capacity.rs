//! How much a pool can still take, and who is let in.
//!
//! The scheduler believes what GetCapacity says, so it must be the truth: a formula that a person can check with `df`.
//! A part of the pool is kept back. New volumes and snapshots stop at that floor, with an error that the scheduler acts
//! on, so that the volumes which are already there can go on writing:
//!
//! ```text
//! available = max(0, min(fs_available, size - allocated) - reserve)
//! ```
//!
//! Thick volumes have their blocks already, so they stand in `allocated`. With an over-commit limit, `available` is also
//! no more than what may still be promised.

use super::error::{Error, Kind, Result};
use super::quantity::{Bytes, Share};
use super::size::MIB;

/// What the administrator of a pool decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The part of the pool that new volumes and snapshots leave free.
    pub reserve: Share,
    /// At least this many bytes of it, so that a small pool has a floor too.
    pub reserve_min: u64,
    /// How much may be promised to volumes in all, in hundredths of the pool's size (150: half as much again).
    pub overcommit_percent: Option<u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { reserve: Share::Permille(20), reserve_min: 64 * MIB, overcommit_percent: None }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Size of the pool in bytes.
    pub size: u64,
    /// Bytes taken in it, by anything.
    pub allocated: u64,
    /// Bytes that its filesystem would still give to a new file.
    pub fs_available: u64,
    /// The sum of the sizes that volumes were promised.
    pub logical: u64,
}

/// What follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// What new volumes and snapshots may still take.
    pub available: u64,
    /// What may still be promised; `None` without an over-commit limit.
    pub promisable: Option<u64>,
    /// What is kept back.
    pub reserved: u64,
}

/// What a call is about to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes that are taken at once: all of a thick volume or of a copy without reflink, none of a thin one.
    pub bytes: u64,
    /// Bytes that are promised: the (further) size of a volume.
    pub logical: u64,
}

impl Policy {
    /// Applies the formula.
    pub fn room(&self, facts: &Facts) -> Room {
        let reserved = self.reserve.of(facts.size).max(self.reserve_min).min(facts.size);
        let free = facts.fs_available.min(facts.size.saturating_sub(facts.allocated));
        let promisable = self.overcommit_percent.map(|percent| {
            let most = u128::from(facts.size) * u128::from(percent) / 100;
            u64::try_from(most).unwrap_or(u64::MAX).saturating_sub(facts.logical)
        });
        let available = free.saturating_sub(reserved);
        Room { available: promisable.map_or(available, |most| available.min(most)), promisable, reserved }
    }
}

/// Lets a new volume or snapshot in, or says why not. `pool` is the pool's name, `what` stands in the message, such as
/// `a new volume`.
///
/// # Errors
/// [`Kind::Exhausted`], when the pool is at its floor (then even what takes nothing at once is refused: it would soon),
/// or when the need is over what there is.
pub fn admit(pool: &str, what: &str, need: &Need, room: &Room) -> Result<()> {
    let bytes = |n: u64| match Bytes(n).to_string() {
        short if short.len() <= 8 => short,
        _ => format!("{n} bytes"),
    };
    let full =
        |why: String, mend: &str| Err(Error::new(Kind::Exhausted, format!("pool {pool}: {why}; {mend}")));
    if let Some(promisable) = room.promisable.filter(|&most| need.logical > most) {
        let (need, have) = (bytes(need.logical), bytes(promisable));
        let why = format!("{what} is promised {need}, but only {have} may still be promised");
        return full(why, "delete volumes, raise the pool's over-commit limit, or add space");
    }
    let mend = "delete snapshots or volumes, add space, or lower the pool's reserve";
    let kept = bytes(room.reserved);
    if room.available == 0 {
        return full(format!("is down to its reserve of {kept}, so there is no room for {what}"), mend);
    }
    if need.bytes > room.available {
        let (need, have) = (bytes(need.bytes), bytes(room.available));
        return full(
            format!("{what} takes {need}, but {have} are available next to the reserve of {kept}"),
            mend,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::size::GIB;
    use proptest::prelude::*;

    #[track_caller]
    fn check(facts: Facts, policy: Policy, expect: Room) {
        assert_eq!(policy.room(&facts), expect);
    }

    #[test]
    fn the_formula_holds() {
        let facts = Facts { size: 100 * GIB, allocated: 40 * GIB, fs_available: 60 * GIB, logical: 90 * GIB };
        let normal = Policy::default();
        check(facts, normal, Room { available: 58 * GIB, promisable: None, reserved: 2 * GIB });
        let less = Facts { fs_available: 10 * GIB, ..facts };
        check(less, normal, Room { available: 8 * GIB, promisable: None, reserved: 2 * GIB });
        let over = Facts { allocated: 200 * GIB, ..facts };
        check(over, normal, Room { available: 0, promisable: None, reserved: 2 * GIB });
        let limited = Policy { overcommit_percent: Some(100), ..normal };
        check(facts, limited, Room { available: 10 * GIB, promisable: Some(10 * GIB), reserved: 2 * GIB });
        let tiny = Facts { size: MIB, allocated: 0, fs_available: MIB, logical: 0 };
        check(tiny, normal, Room { available: 0, promisable: None, reserved: MIB });
    }

    #[test]
    fn at_the_floor_nothing_new_is_let_in_and_the_message_says_what_to_do() {
        let room = Room { available: GIB, promisable: Some(10 * GIB), reserved: 2 * GIB };
        let fails = |need: Need, room: Room| admit("fast", "a new volume", &need, &room).unwrap_err();
        admit("fast", "a snapshot", &Need::default(), &room).unwrap();
        admit("fast", "a new volume", &Need { bytes: GIB, logical: 10 * GIB }, &room).unwrap();
        for error in [
            fails(Need { bytes: GIB + 1, logical: 0 }, room),
            fails(Need { bytes: 0, logical: 10 * GIB + 1 }, room),
            fails(Need::default(), Room { available: 0, ..room }),
        ] {
            assert_eq!(error.kind(), Kind::Exhausted);
            let text = error.to_string();
            assert!(
                text.contains("pool fast") && text.contains("a new volume") && text.contains("; delete"),
                "{text}"
            );
        }
        assert!(fails(Need { bytes: 3 * GIB, logical: 0 }, room).to_string().contains("takes 3Gi, but 1Gi"));
    }

    proptest! {
        #[test]
        fn what_is_let_in_leaves_the_reserve_untouched(
            size in any::<u64>(), allocated in any::<u64>(), fs_available in any::<u64>(), logical in any::<u64>(),
            bytes in any::<u64>(), permille in 0u16..=1000, overcommit in proptest::option::of(any::<u32>()),
        ) {
            let facts = Facts { size, allocated, fs_available, logical };
            let policy = Policy { reserve: Share::Permille(permille), overcommit_percent: overcommit, ..Policy::default() };
            let room = policy.room(&facts);
            if admit("p", "a volume", &Need { bytes, logical: bytes }, &room).is_ok() {
                prop_assert!(u128::from(bytes) + u128::from(room.reserved) <= u128::from(fs_available));
                prop_assert!(u128::from(bytes) + u128::from(room.reserved) + u128::from(allocated) <= u128::from(size));
            }
        }
    }
}
