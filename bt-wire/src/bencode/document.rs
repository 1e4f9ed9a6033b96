//! A checked document and the views into it.

use super::scan::{Token, scan, string_at};
use super::{Error, ErrorKind, Limits};

/// A bencoded value that passed all checks. Views into it are free to make.
pub struct Document<'a> {
    input: &'a [u8],
    tokens: Vec<Token>,
}

/// One value of a document.
#[derive(Clone, Copy)]
pub struct Node<'d> {
    input: &'d [u8],
    tokens: &'d [Token],
    index: u32,
}

/// What a node is.
#[derive(Debug, Clone, Copy)]
pub enum Value<'d> {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(&'d [u8]),
    /// A list.
    List(List<'d>),
    /// A dictionary.
    Dict(Dict<'d>),
}

/// A list's view.
#[derive(Clone, Copy)]
pub struct List<'d>(Node<'d>);

/// A dictionary's view, in the order it was written in.
#[derive(Clone, Copy)]
pub struct Dict<'d>(Node<'d>);

impl<'a> Document<'a> {
    /// Reads `input`, which must be one value and nothing after it.
    ///
    /// # Errors
    /// Bytes that are not bencode, or more than `limits` allow.
    pub fn parse(input: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        let (document, rest) = Self::parse_prefix(input, limits)?;
        if rest.is_empty() {
            Ok(document)
        } else {
            Err(Error {
                kind: ErrorKind::TrailingBytes,
                at: input.len() - rest.len(),
            })
        }
    }

    /// Reads one value from the front of `input` and returns what follows it (`ut_metadata` puts bytes there, BEP 9).
    ///
    /// # Errors
    /// As [`Document::parse`], trailing bytes excepted.
    pub fn parse_prefix(input: &'a [u8], limits: &Limits) -> Result<(Self, &'a [u8]), Error> {
        let (tokens, used) = scan(input, limits)?;
        let (input, rest) = input.split_at(used);
        Ok((Self { input, tokens }, rest))
    }

    /// The document's one value.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node {
            input: self.input,
            tokens: &self.tokens,
            index: 0,
        }
    }
}

impl<'d> Node<'d> {
    /// What it is.
    #[must_use]
    pub fn value(self) -> Value<'d> {
        match self.raw().first() {
            Some(b'i') => Value::Int(parse_int(self.raw())),
            Some(b'l') => Value::List(List(self)),
            Some(b'd') => Value::Dict(Dict(self)),
            Some(_) | None => Value::Bytes(self.string()),
        }
    }

    /// The exact bytes it was written with.
    #[must_use]
    pub fn raw(self) -> &'d [u8] {
        let token = self.token();
        &self.input[token.start as usize..token.end as usize]
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(self) -> Option<i64> {
        if let Value::Int(value) = self.value() {
            Some(value)
        } else {
            None
        }
    }

    /// The integer, if it is one and not negative.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        self.as_int().and_then(|value| u64::try_from(value).ok())
    }

    /// The byte string, if it is one.
    #[must_use]
    pub fn as_bytes(self) -> Option<&'d [u8]> {
        if let Value::Bytes(bytes) = self.value() {
            Some(bytes)
        } else {
            None
        }
    }

    /// The byte string as text, if it is one and valid UTF-8.
    #[must_use]
    pub fn as_str(self) -> Option<&'d str> {
        self.as_bytes()
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The list, if it is one.
    #[must_use]
    pub fn as_list(self) -> Option<List<'d>> {
        if let Value::List(list) = self.value() {
            Some(list)
        } else {
            None
        }
    }

    /// The dictionary, if it is one.
    #[must_use]
    pub fn as_dict(self) -> Option<Dict<'d>> {
        if let Value::Dict(dict) = self.value() {
            Some(dict)
        } else {
            None
        }
    }

    fn token(self) -> Token {
        self.tokens[self.index as usize]
    }

    fn string(self) -> &'d [u8] {
        let token = self.token();
        string_at(self.input, token.start, token.end)
    }

    fn at(self, index: u32) -> Self {
        Self { index, ..self }
    }
}

impl<'d> List<'d> {
    /// The elements, in order.
    pub fn iter(self) -> impl Iterator<Item = Node<'d>> {
        let end = self.0.token().next;
        let mut index = self.0.index + 1;
        std::iter::from_fn(move || {
            let node = (index < end).then(|| self.0.at(index))?;
            index = node.token().next;
            Some(node)
        })
    }
}

impl<'d> Dict<'d> {
    /// The entries, in the order they were written in. No key comes twice.
    pub fn iter(self) -> impl Iterator<Item = (&'d [u8], Node<'d>)> {
        let end = self.0.token().next;
        let mut index = self.0.index + 1;
        std::iter::from_fn(move || {
            let key = (index < end).then(|| self.0.at(index))?;
            let value = self.0.at(index + 1);
            index = value.token().next;
            Some((key.string(), value))
        })
    }

    /// The value of `key`. Looks at the entries one by one.
    #[must_use]
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Node<'d>> {
        let key = key.as_ref();
        self.iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// The integer under `key`, if there is one.
    #[must_use]
    pub fn int(self, key: impl AsRef<[u8]>) -> Option<i64> {
        self.get(key).and_then(Node::as_int)
    }

    /// The byte string under `key`, if there is one.
    #[must_use]
    pub fn bytes(self, key: impl AsRef<[u8]>) -> Option<&'d [u8]> {
        self.get(key).and_then(Node::as_bytes)
    }

    /// The exact bytes the dictionary was written with.
    #[must_use]
    pub fn raw(self) -> &'d [u8] {
        self.0.raw()
    }
}

/// Reads `i…e`, whose digits were checked.
fn parse_int(raw: &[u8]) -> i64 {
    let digits = raw
        .strip_prefix(b"i")
        .and_then(|raw| raw.strip_suffix(b"e"))
        .unwrap_or_default();
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default()
}

impl std::fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Document({} bytes, {} tokens)",
            self.input.len(),
            self.tokens.len()
        )
    }
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let raw = self.raw();
        let shown = &raw[..raw.len().min(64)];
        write!(f, "Node({})", shown.escape_ascii())
    }
}

impl std::fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
