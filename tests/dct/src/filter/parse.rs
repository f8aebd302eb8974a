//! From words to an expression: `OR` binds least, then `AND`, then `NOT`.

use std::collections::BTreeSet;

use super::lex::Token;
use super::{Compare, Filter, IDENTIFIERS, LIST, Literal, Test};

/// How deep parentheses may nest: a text of the allowed length must not end the process.
const DEPTH: usize = 64;

pub(super) fn parse(
    tokens: Vec<(usize, Token)>,
    known: &dyn Fn(Option<&str>, &str) -> bool,
) -> Result<Filter, String> {
    let mut parser = Parser { tokens, at: 0, known, inside: None, names: BTreeSet::new(), depth: 0 };
    let filter = parser.or()?;
    match parser.tokens.get(parser.at) {
        Some((at, token)) => Err(format!("{} at {at} is too much", show(token))),
        None if parser.names.len() > IDENTIFIERS => {
            Err(format!("{} different identifiers are used, {IDENTIFIERS} are allowed", parser.names.len()))
        }
        None => Ok(filter),
    }
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    at: usize,
    known: &'a dyn Fn(Option<&str>, &str) -> bool,
    /// The field whose nested object is being described.
    inside: Option<String>,
    names: BTreeSet<String>,
    depth: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("the expression nests deeper than {DEPTH}"));
        }
        let mut left = self.and()?;
        while self.keyword("or") {
            left = Filter::Or(Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Filter, String> {
        let mut left = self.not()?;
        while self.keyword("and") {
            left = Filter::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Filter, String> {
        let mut times = 0;
        while self.keyword("not") {
            times += 1;
        }
        let inner = self.term()?;
        Ok(if times % 2 == 1 { Filter::Not(Box::new(inner)) } else { inner })
    }

    fn term(&mut self) -> Result<Filter, String> {
        if self.mark('(') {
            let inner = self.or()?;
            self.want(')')?;
            return Ok(inner);
        }
        if self.keyword("search") {
            return match self.literal()? {
                Literal::Text(text) => Ok(Filter::Search(text)),
                other => Err(format!("SEARCH wants a text, not {other:?}")),
            };
        }
        let name = self.identifier()?;
        let Some((at, Token::Word(word))) = self.next() else {
            return Err(format!("{name} is not compared to anything"));
        };
        let compare = match word.to_ascii_lowercase().as_str() {
            "eq" => Compare::Eq,
            "ne" => Compare::Ne,
            "lt" => Compare::Lt,
            "le" => Compare::Le,
            "gt" => Compare::Gt,
            "ge" => Compare::Ge,
            "contains" => return self.contains(name),
            "in" => {
                return match self.literal()? {
                    Literal::List(items) => Ok(Filter::Compare(name, Test::In(items))),
                    _ => Err(format!("IN at {at} wants a list in brackets")),
                };
            }
            _ => return Err(format!("{word:?} at {at} is not an operator")),
        };
        let literal = self.literal()?;
        let ordered = !matches!(compare, Compare::Eq | Compare::Ne);
        if ordered && matches!(literal, Literal::Nil | Literal::Bool(_) | Literal::List(_)) {
            return Err(format!("{word} at {at} wants a number, a text or a time"));
        }
        Ok(Filter::Compare(name, Test::Is(compare, literal)))
    }

    fn contains(&mut self, name: String) -> Result<Filter, String> {
        if !self.mark('{') {
            let literal = self.literal()?;
            return Ok(Filter::Compare(name, Test::Contains(literal)));
        }
        if self.inside.is_some() {
            return Err(format!("{name} is nested twice"));
        }
        self.inside = Some(name.clone());
        let inner = self.or();
        self.inside = None;
        let inner = inner?;
        self.want('}')?;
        Ok(Filter::Nested(name, Box::new(inner)))
    }

    fn identifier(&mut self) -> Result<String, String> {
        match self.next() {
            Some((at, Token::Word(word))) => {
                if !(self.known)(self.inside.as_deref(), &word) {
                    return Err(format!("{word:?} at {at} is not a field to filter by"));
                }
                self.names.insert(word.clone());
                Ok(word)
            }
            Some((at, token)) => Err(format!("{} at {at} stands where a field belongs", show(&token))),
            None => Err("the expression ends where a field belongs".to_owned()),
        }
    }

    fn literal(&mut self) -> Result<Literal, String> {
        match self.next() {
            Some((_, Token::Literal(literal))) => Ok(literal),
            Some((at, Token::Word(word))) => match word.to_ascii_lowercase().as_str() {
                "nil" => Ok(Literal::Nil),
                "true" => Ok(Literal::Bool(true)),
                "false" => Ok(Literal::Bool(false)),
                _ => Err(format!("{word:?} at {at} is not a literal; put texts in quotes")),
            },
            Some((_, Token::Mark('['))) => self.list(),
            Some((at, token)) => Err(format!("{} at {at} stands where a literal belongs", show(&token))),
            None => Err("the expression ends where a literal belongs".to_owned()),
        }
    }

    fn list(&mut self) -> Result<Literal, String> {
        let mut items = Vec::new();
        if self.mark(']') {
            return Ok(Literal::List(items));
        }
        loop {
            match self.literal()? {
                Literal::List(_) => return Err("a list holds a list".to_owned()),
                item => items.push(item),
            }
            if items.len() > LIST {
                return Err(format!("a list has more than {LIST} literals"));
            }
            if self.mark(']') {
                return Ok(Literal::List(items));
            }
            self.want(',')?;
        }
    }

    fn next(&mut self) -> Option<(usize, Token)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn keyword(&mut self, word: &str) -> bool {
        let found =
            matches!(self.tokens.get(self.at), Some((_, Token::Word(w))) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn mark(&mut self, mark: char) -> bool {
        let found = matches!(self.tokens.get(self.at), Some((_, Token::Mark(m))) if *m == mark);
        self.at += usize::from(found);
        found
    }

    fn want(&mut self, mark: char) -> Result<(), String> {
        if self.mark(mark) { Ok(()) } else { Err(format!("{mark:?} is missing")) }
    }
}

fn show(token: &Token) -> String {
    match token {
        Token::Word(word) => format!("{word:?}"),
        Token::Literal(literal) => format!("{literal:?}"),
        Token::Mark(mark) => format!("{mark:?}"),
    }
}
