//! Sizes as people write them: `1Gi`, `1.5T`, `4096`; and shares: `5%`.
//!
//! Drivers before this one read `10%` as ten bytes, `1Gi` as one, or wrapped round on `9999999999Ti`. So the grammar
//! is small and closed: digits, at most one point, one known suffix. A number that is not a whole count of bytes, is
//! over the largest size that CSI can say, or has anything left over is an error that quotes the text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest size: CSI's own type is a signed 64-bit integer.
pub const MAX_BYTES: u64 = i64::MAX as u64;

/// The suffixes and what one of each is in bytes. Larger ones stand first, for [`Bytes`]' display.
const UNITS: [(&str, u64); 12] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

/// Why a text is not a size or a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// It does not follow the grammar.
    #[error(
        "`{0}` is not a size: give bytes or a number with Ki, Mi, Gi, Ti, Pi (1024) or k, M, G, T, P (1000), such as 10Gi"
    )]
    NotASize(String),
    /// A percentage where a size is needed.
    #[error("`{0}` is a share, but a size is needed, such as 10Gi")]
    Share(String),
    /// Half a byte.
    #[error("`{0}` is not a whole number of bytes")]
    Fraction(String),
    /// More than [`MAX_BYTES`].
    #[error("`{0}` is over the largest size, {MAX_BYTES} bytes")]
    TooLarge(String),
    /// Not a number from 0 to 100 before the percent sign.
    #[error("`{0}` is not a share: give 0% to 100%")]
    NotAShare(String),
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Reads a size such as `10Gi`, `1.5G` or `4096`.
///
/// # Errors
/// See [`BadQuantity`]; the text is quoted, cut to 40 characters.
pub fn parse(text: &str) -> Result<u64, BadQuantity> {
    let quoted = || quote(text);
    if text.ends_with('%') {
        return Err(BadQuantity::Share(quoted()));
    }
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "" => 1,
        // `K` is not Kubernetes' spelling, but it is what people write, and it can mean nothing else.
        "K" => 1_000,
        suffix => {
            let found = UNITS.iter().find(|(name, _)| *name == suffix);
            found.ok_or_else(|| BadQuantity::NotASize(quoted()))?.1
        }
    };
    let (value, denominator) = decimal(number).ok_or_else(|| BadQuantity::NotASize(quoted()))?;
    let (Some(value), Some(denominator)) = (value, denominator) else {
        return Err(BadQuantity::TooLarge(quoted()));
    };
    let total = value.checked_mul(u128::from(unit)).ok_or_else(|| BadQuantity::TooLarge(quoted()))?;
    if total % denominator != 0 {
        return Err(BadQuantity::Fraction(quoted()));
    }
    u64::try_from(total / denominator)
        .ok()
        .filter(|&n| n <= MAX_BYTES)
        .ok_or_else(|| BadQuantity::TooLarge(quoted()))
}

/// `1.50` as 150 and 100. The outer `None` is bad grammar, an inner one too many digits to count.
fn decimal(text: &str) -> Option<(Option<u128>, Option<u128>)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let denominator = u32::try_from(fraction.len()).ok().and_then(|n| 10u128.checked_pow(n));
    let value = whole
        .bytes()
        .chain(fraction.bytes())
        .try_fold(0u128, |sum, digit| sum.checked_mul(10)?.checked_add(u128::from(digit - b'0')));
    Some((value, denominator))
}

fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect();
    if short.len() < text.len() && text.chars().count() > 40 {
        short.push('…');
    }
    short
}

impl std::str::FromStr for Bytes {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        parse(text).map(Bytes)
    }
}

impl fmt::Display for Bytes {
    /// The shortest exact text: the largest 1024-unit that divides it, bytes otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS.iter().filter(|(name, _)| name.ends_with('i'));
        match binary.into_iter().find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A part of a pool: so many bytes, or so many of each thousand bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Share {
    /// A fixed number of bytes.
    Bytes(u64),
    /// Tenths of a percent of the whole, 0 to 1000.
    Permille(u16),
}

impl Share {
    /// What the share is of `whole` bytes, rounded up, never more than `whole`.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Share::Bytes(bytes) => bytes.min(whole),
            Share::Permille(permille) => {
                let part = (u128::from(whole) * u128::from(permille)).div_ceil(1000);
                u64::try_from(part).unwrap_or(whole).min(whole)
            }
        }
    }
}

impl std::str::FromStr for Share {
    type Err = BadQuantity;

    /// Reads `5%`, `2.5%` or any size.
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let Some(number) = text.strip_suffix('%') else {
            return parse(text).map(Share::Bytes);
        };
        let bad = || BadQuantity::NotAShare(quote(text));
        let (Some(value), Some(denominator)) = decimal(number).ok_or_else(bad)? else {
            return Err(bad());
        };
        let tenths = value.checked_mul(10).ok_or_else(bad)?;
        if tenths % denominator != 0 || tenths / denominator > 1000 {
            return Err(bad());
        }
        u16::try_from(tenths / denominator).map(Share::Permille).map_err(|_| bad())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Bytes(bytes) => Bytes(*bytes).fmt(f),
            Share::Permille(n) if n % 10 == 0 => write!(f, "{}%", n / 10),
            Share::Permille(n) => write!(f, "{}.{}%", n / 10, n % 10),
        }
    }
}

impl TryFrom<String> for Share {
    type Error = BadQuantity;

    fn try_from(text: String) -> Result<Self, BadQuantity> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> String {
        share.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expect: Option<u64>) {
        assert_eq!(parse(text).ok(), expect, "{text}");
    }

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1Ki", 1024),
            ("1k", 1000),
            ("1K", 1000),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            ("1.50Gi", 3 << 29),
            ("2G", 2_000_000_000),
            ("0.001k", 1),
            ("007", 7),
            ("8191Pi", 8191 << 50),
            ("9223372036854775807", MAX_BYTES),
        ] {
            check(text, Some(bytes));
        }
    }

    #[test]
    fn whatever_is_not_wholly_a_size_is_refused() {
        for text in [
            "",
            " ",
            "10%",
            "-1",
            "+1",
            "1 Gi",
            "Gi",
            "1gi",
            "1GiB",
            "1GB",
            "1g",
            ".5Gi",
            "5.Gi",
            "1.2.3",
            "0x10",
            "1e9",
            "1.5",
            "0.3Ki",
            "8Ei",
            "9223372036854775808",
            "99999999999999999999999999999999999999999Pi",
            "1\u{0}",
            "１Gi",
            "∞",
            "1Gi\n",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn shares_are_percentages_or_sizes() {
        fn check(text: &str, expect: Option<Share>) {
            assert_eq!(text.parse::<Share>().ok(), expect, "{text}");
        }
        check("5%", Some(Share::Permille(50)));
        check("2.5%", Some(Share::Permille(25)));
        check("100%", Some(Share::Permille(1000)));
        check("64Mi", Some(Share::Bytes(64 << 20)));
        for text in ["101%", "-1%", "%", "5 %", "0.05%", "5%%", "1Gi%", "NaN%"] {
            check(text, None);
        }
        assert_eq!(Share::Permille(20).of(1000), 20);
        assert_eq!(Share::Permille(1).of(1), 1);
        assert_eq!(Share::Bytes(10).of(3), 3);
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer_and_not_a_panic(text in "\\PC{0,30}|[0-9.]{0,60}[KMGTPEikm%]{0,3}") {
            if let Ok(bytes) = parse(&text) {
                prop_assert!(bytes <= MAX_BYTES);
                prop_assert!(!text.contains('%'));
            }
            let _ = text.parse::<Share>();
        }

        #[test]
        fn a_size_is_read_back_as_it_was_shown(bytes in 0..=MAX_BYTES, shift in 0u32..60) {
            for bytes in [bytes, (bytes >> shift) << shift, bytes >> shift] {
                prop_assert_eq!(parse(&Bytes(bytes).to_string()), Ok(bytes));
            }
        }

        #[test]
        fn a_share_is_read_back_as_it_was_shown(permille in 0u16..=1000, whole in any::<u64>()) {
            let share = Share::Permille(permille);
            prop_assert_eq!(share.to_string().parse(), Ok(share));
            prop_assert!(share.of(whole) <= whole);
        }
    }
}
