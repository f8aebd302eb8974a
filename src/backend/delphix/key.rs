//! The API key: who the Data Control Tower takes us for. Never shown.

use std::fmt;

use reqwest::header::HeaderValue;

/// Longest key, bytes. Far above those that are known.
const LONGEST: usize = 4096;

/// A key as it goes over the wire.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    text: String,
    header: HeaderValue,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Key {
    /// The key that a file holds, with or without the word `apk`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Key, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not text".to_owned())?.trim();
        let text = match text.strip_prefix("apk") {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => rest.trim(),
            _ => text,
        };
        if text.is_empty() {
            return Err("holds no key; write the API key of the DCT into it".to_owned());
        }
        if text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("does not hold a key: a key is one word of letters, digits and marks".to_owned());
        }
        let mut header =
            HeaderValue::from_str(&format!("apk {text}")).map_err(|_| "does not hold a key".to_owned())?;
        header.set_sensitive(true);
        Ok(Key { text: text.to_owned(), header })
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The same text without this key, should a server repeat it.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&self.text, "<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word_and_is_not_shown() {
        fn check(file: &str, expect: Result<&str, &str>) {
            match (Key::parse(file.as_bytes()), expect) {
                (Ok(key), Ok(header)) => {
                    assert_eq!(key.header().as_bytes(), header.as_bytes());
                    assert_eq!(format!("{key:?} {:?}", key.header()), "<redacted> Sensitive");
                }
                (Err(why), Err(expect)) => assert!(why.contains(expect), "{why}"),
                (got, _) => panic!("{file:?}: {got:?}"),
            }
        }
        check("1.abc\n", Ok("apk 1.abc"));
        check(" apk 1.abc ", Ok("apk 1.abc"));
        check("\n", Err("holds no key"));
        check("apk \n", Err("holds no key"));
        check("apkeeper", Ok("apk apkeeper"));
        check("two words", Err("does not hold"));
        check("k\u{e4}y", Err("does not hold"));
        assert_eq!(Key::parse(b"1.abc").unwrap().redact("bad 1.abc!"), "bad <redacted>!");
    }
}
