//! Sizes in bytes, and the rules that turn a requested range into one size.

use super::error::{Error, Kind, Result};

/// One kibibyte.
pub const KIB: u64 = 1 << 10;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;

/// Every volume is a whole number of these: the page and block size of the filesystems below.
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

    /// The size to make: the required bytes (or `default`, kept under the limit), at least `min`, in whole granules.
    ///
    /// Fails with [`Kind::OutOfRange`] when no such size lies within the limit and `max`.
    pub fn pick(&self, default: u64, min: u64, max: u64) -> Result<u64> {
        let wanted = match (self.required, self.limit) {
            (0, 0) => default,
            (0, limit) => default.min(limit),
            (required, _) => required,
        };
        let wanted = wanted.max(min);
        let size = round_up(wanted).filter(|&size| size <= max);
        let out = |why: String| Error::new(Kind::OutOfRange, format!("capacity_range: {why}"));
        let size = size.ok_or_else(|| {
            out(format!("{wanted} bytes is over the largest volume of this pool, {max} bytes"))
        })?;
        // A limit that is not a whole granule may fall between two sizes.
        if self.limit != 0 && size > self.limit {
            let why = format!(
                "the smallest possible size is {size} bytes (whole {GRANULE}-byte blocks, at least {min}), over limit_bytes {}",
                self.limit
            );
            return Err(out(why));
        }
        Ok(size)
    }
}

/// The next whole granule, or `None` where that overflows an `i64`, the type CSI has for sizes.
pub fn round_up(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(GRANULE).filter(|&size| i64::try_from(size).is_ok())
}
