//! Words of a filter expression.

use super::Literal;
use crate::clock;

/// A word with the place it starts at.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// An identifier or a keyword.
    Word(String),
    /// A literal that is not a word.
    Literal(Literal),
    /// One of `( ) [ ] { } ,`.
    Mark(char),
}

pub(super) fn lex(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let start = at;
        if c.is_whitespace() {
            at += 1;
        } else if "()[]{},".contains(c) {
            tokens.push((start, Token::Mark(c)));
            at += 1;
        } else if c == '\'' || c == '"' {
            let body: String = chars.iter().skip(at + 1).take_while(|&&x| x != c).collect();
            at += body.chars().count() + 2;
            if at > chars.len() {
                return Err(format!("the text that begins at {start} has no end"));
            }
            if body.contains('\\') {
                return Err(format!(
                    "the text that begins at {start} has a backslash, whose meaning is not published"
                ));
            }
            tokens.push((start, Token::Literal(Literal::Text(body))));
        } else {
            let word: String = chars.iter().skip(at).take_while(|&&x| part_of_word(x)).collect();
            if word.is_empty() {
                return Err(format!("{c:?} at {start} has no meaning"));
            }
            at += word.chars().count();
            tokens.push((start, bare(&word).ok_or_else(|| format!("{word:?} at {start} has no meaning"))?));
        }
    }
    Ok(tokens)
}

fn part_of_word(c: char) -> bool {
    c.is_alphanumeric() || "_-+:.".contains(c)
}

/// A word without quotes: a name, a number, a time.
fn bare(word: &str) -> Option<Token> {
    if word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        let name = word.chars().all(|c| c.is_alphanumeric() || c == '_');
        return name.then(|| Token::Word(word.to_owned()));
    }
    if let Some(at) = clock::parse(word) {
        return Some(Token::Literal(Literal::Time(at)));
    }
    word.parse().ok().filter(|n: &f64| n.is_finite()).map(|n| Token::Literal(Literal::Number(n)))
}
