//! Sizes in bytes, and the rules that turn a requested range into one size.

use super::error::{Error, Kind, Result};

/// One kibibyte.
pub const KIB: u64 = 1 << 10;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;

/// The bytes of every volume are kept in a whole number of these: the page and block size of the filesystems below.
/// Callers are told the size that they asked for; what is kept is the next whole granule.
pub const GRANULE: u64 = 4 * KIB;

/// What a volume gets when the request names no size.
pub const DEFAULT_SIZE: u64 = GIB;

/// A requested range in bytes; zero means "not said", as in CSI.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// At least this much.
    pub required: u64,
    /// At most this much.
    pub limit: u64,
}

impl Range {
    /// Reads the two signed numbers of a request. `field` names the message in the error.
    pub fn new(field: &str, required: i64, limit: i64) -> Result<Self> {
        let read = |name: &str, n: i64| {
            u64::try_from(n).map_err(|_| {
                Error::new(Kind::OutOfRange, format!("{field}.{name}: is {n}, but a size cannot be negative"))
            })
        };
        let range = Range { required: read("required_bytes", required)?, limit: read("limit_bytes", limit)? };
        if range.limit != 0 && range.required > range.limit {
            let why = format!("required_bytes {required} is larger than limit_bytes {limit}");
            return Err(Error::invalid(field, why));
        }
        Ok(range)
    }

    /// Whether a volume of `size` bytes satisfies the request.
    pub fn holds(&self, size: u64) -> bool {
        size >= self.required && (self.limit == 0 || size <= self.limit)
    }

    /// The size to make: the required bytes (or `default`, kept under the limit), at least `min`.
    ///
    /// Fails with [`Kind::OutOfRange`] when no such size lies within the limit and `max`.
    pub fn pick(&self, default: u64, min: u64, max: u64) -> Result<u64> {
        let wanted = match (self.required, self.limit) {
            (0, 0) => default,
            (0, limit) => default.min(limit),
            (required, _) => required,
        };
        let size = wanted.max(min);
        let out = |why: String| Error::new(Kind::OutOfRange, format!("capacity_range: {why}"));
        if round_up(size).is_none_or(|kept| kept > max) {
            return Err(out(format!("{size} bytes is over the largest volume of this pool, {max} bytes")));
        }
        if self.limit != 0 && size > self.limit {
            let why =
                format!("the smallest volume of this kind has {min} bytes, over limit_bytes {}", self.limit);
            return Err(out(why));
        }
        Ok(size)
    }
}

/// The next whole granule, or `None` where that overflows an `i64`, the type CSI has for sizes.
pub fn round_up(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(GRANULE).filter(|&size| i64::try_from(size).is_ok())
}

/// The bytes that are kept for a volume of which `size` bytes were asked for: whole granules.
pub fn kept(size: u64) -> u64 {
    round_up(size).unwrap_or(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(required: i64, limit: i64, expect: Result<u64, Kind>) {
        let picked = Range::new("capacity_range", required, limit)
            .and_then(|range| range.pick(DEFAULT_SIZE, 16 * MIB, 64 * GIB));
        assert_eq!(picked.map_err(|error| error.kind()), expect, "{required} to {limit}");
    }

    #[test]
    fn a_size_is_the_one_that_was_asked_for_where_that_can_be_had() {
        let mib = 1 << 20;
        check(0, 0, Ok(DEFAULT_SIZE));
        check(100 * mib, 0, Ok(100 << 20));
        check(100 * mib + 1, 0, Ok((100 << 20) + 1));
        check(100 * mib + 1, 100 * mib + 1, Ok((100 << 20) + 1));
        check(0, 100 * mib, Ok(100 << 20));
        check(1, 0, Ok(16 * MIB));
        check(1, mib, Err(Kind::OutOfRange));
        check(-1, 0, Err(Kind::OutOfRange));
        check(0, -1, Err(Kind::OutOfRange));
        check(2, 1, Err(Kind::Invalid));
        check(i64::MAX, 0, Err(Kind::OutOfRange));
        check((64 << 30) + 1, 0, Err(Kind::OutOfRange));
    }

    proptest! {
        #[test]
        fn a_picked_size_satisfies_the_request_and_fits_into_what_is_kept(required in 0..i64::MAX, limit in 0..i64::MAX) {
            if let Ok(range) = Range::new("range", required, limit)
                && let Ok(size) = range.pick(DEFAULT_SIZE, MIB, u64::MAX)
            {
                prop_assert!(range.holds(size));
                prop_assert!(kept(size) >= size && kept(size) - size < GRANULE);
            }
        }
    }
}
