//! A short name for a longer text, the same on every machine and in every version.
//!
//! Where two processes that never speak must find the same name for the same thing (a snapshot that is cut for one
//! copy, the group that a request asked for), they derive it. The standard library's hashes may change between
//! releases, so this is FNV-1a in 128 bits, written out. It keeps accidents apart, and no adversary: nothing that must
//! not be guessed may hang on it.

const BASIS: u128 = 0x6c62272e07bb014262b821756295c58d;
const PRIME: u128 = 0x0000000001000000000000000000013b;

/// The digest of `parts`, in their order. The parts cannot run into each other.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> u128 {
    let mut hash = BASIS;
    for part in parts {
        // No text holds the byte 0xff, which is in no UTF-8.
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_function_and_keeps_parts_apart() {
        // FNV-1a, 128 bits, of nothing is its basis.
        assert_eq!(digest([]), BASIS);
        assert_eq!(digest([""]), (BASIS ^ 0xff).wrapping_mul(PRIME));
        let all =
            [digest(["ab"]), digest(["a", "b"]), digest(["b", "a"]), digest(["ab", ""]), digest(["", "ab"])];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }
}
