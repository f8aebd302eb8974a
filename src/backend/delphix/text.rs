//! Texts that others wrote, made fit for a line of a log or an error.

/// At most `most` characters of `text` in one line.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        line.push_str(word);
        if words.peek().is_some() {
            line.push(' ');
        }
        if line.len() > most * 4 {
            break;
        }
    }
    let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if line.chars().count() <= most {
        return line;
    }
    let mut short: String = line.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn a_text_becomes_one_line_of_bounded_length() {
        fn check(text: &str, expect: &str) {
            assert_eq!(shorten(text, 10), expect);
        }
        check("short", "short");
        check(" two\n\tlines ", "two lines");
        check("0123456789a", "012345678…");
        check("a\u{7}b", "a\u{fffd}b");
        check(&"ä".repeat(100), &format!("{}…", "ä".repeat(9)));
    }
}
