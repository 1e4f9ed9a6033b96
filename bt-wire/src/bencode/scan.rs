//! One pass over the bytes that checks everything and leaves a flat list of tokens.

use super::{Error, ErrorKind, KeyOrder, Limits};

/// A value's place. Its kind is the byte at `start`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    /// First byte of the value.
    pub(super) start: u32,
    /// One past its last byte.
    pub(super) end: u32,
    /// Index of the token after this value and all it contains.
    pub(super) next: u32,
}

/// An open list or dictionary.
struct Open {
    token: u32,
    dict: bool,
    /// In a dictionary: a key was read and its value has not come yet.
    key_read: bool,
    /// Token of the last key.
    last_key: Option<u32>,
    /// Every key so far was above the one before.
    sorted: bool,
}

struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
    limits: &'a Limits,
    tokens: Vec<Token>,
    open: Vec<Open>,
}

/// Reads one value from the front of `input`: its tokens, and the bytes it took.
pub(super) fn scan(input: &[u8], limits: &Limits) -> Result<(Vec<Token>, usize), Error> {
    if u32::try_from(input.len()).is_err() {
        return Err(Error {
            kind: ErrorKind::InputTooLong,
            at: 0,
        });
    }
    let mut scanner = Scanner {
        input,
        at: 0,
        limits,
        tokens: Vec::new(),
        open: Vec::new(),
    };
    loop {
        scanner.step()?;
        if scanner.open.is_empty() {
            return Ok((scanner.tokens, scanner.at));
        }
    }
}

/// The content of the string whose first byte (of its length) is at `start`, in checked input.
pub(super) fn string_at(input: &[u8], start: u32, end: u32) -> &[u8] {
    let whole = &input[start as usize..end as usize];
    let colon = whole
        .iter()
        .position(|&byte| byte == b':')
        .map_or(whole.len(), |colon| colon + 1);
    &whole[colon..]
}

impl Scanner<'_> {
    fn step(&mut self) -> Result<(), Error> {
        let byte = self.peek()?;
        let wants_key = self
            .open
            .last()
            .is_some_and(|open| open.dict && !open.key_read);
        match byte {
            b'e' if !self.open.is_empty() => self.close(),
            b'0'..=b'9' if wants_key => self.key(),
            b'0'..=b'9' => {
                let token = self.push_token()?;
                self.string()?;
                self.finish(token);
                Ok(())
            }
            _ if wants_key => Err(self.error(ErrorKind::KeyNotString)),
            b'i' => {
                let token = self.push_token()?;
                self.integer()?;
                self.finish(token);
                Ok(())
            }
            b'l' | b'd' => self.open(byte == b'd'),
            _ => Err(self.error(ErrorKind::UnexpectedByte)),
        }
    }

    fn open(&mut self, dict: bool) -> Result<(), Error> {
        if self.open.len() >= self.limits.depth as usize {
            return Err(self.error(ErrorKind::TooDeep));
        }
        let token = self.push_token()?;
        self.at += 1;
        self.open.push(Open {
            token,
            dict,
            key_read: false,
            last_key: None,
            sorted: true,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.pop() else {
            return Err(self.error(ErrorKind::UnexpectedByte));
        };
        if open.key_read {
            return Err(self.error(ErrorKind::UnexpectedByte));
        }
        if !open.sorted {
            self.refuse_duplicates(open.token)?;
        }
        self.at += 1;
        self.finish(open.token);
        Ok(())
    }

    fn key(&mut self) -> Result<(), Error> {
        let start = self.at;
        let token = self.push_token()?;
        self.string()?;
        self.seal(token);
        let key = self.string_of(token);
        let Some(open) = self.open.last() else {
            return Ok(());
        };
        let order = open.last_key.map(|last| self.string_of(last).cmp(key));
        let kind = match order {
            Some(std::cmp::Ordering::Equal) => Some(ErrorKind::DuplicateKey),
            Some(std::cmp::Ordering::Greater) if self.limits.keys == KeyOrder::Sorted => {
                Some(ErrorKind::UnsortedKeys)
            }
            Some(_) | None => None,
        };
        if let Some(kind) = kind {
            return Err(Error { kind, at: start });
        }
        if let Some(open) = self.open.last_mut() {
            open.sorted &= order != Some(std::cmp::Ordering::Greater);
            open.last_key = Some(token);
            open.key_read = true;
        }
        Ok(())
    }

    /// For the rare dictionary that is out of order: sorts its keys aside and compares neighbours.
    fn refuse_duplicates(&self, dict: u32) -> Result<(), Error> {
        let mut keys = Vec::new();
        let mut index = dict + 1;
        while (index as usize) < self.tokens.len() {
            keys.push(index);
            index = self.tokens[index as usize + 1].next;
        }
        keys.sort_unstable_by(|&a, &b| self.string_of(a).cmp(self.string_of(b)));
        for pair in keys.windows(2) {
            if self.string_of(pair[0]) == self.string_of(pair[1]) {
                let at = self.tokens[pair[1] as usize].start as usize;
                return Err(Error {
                    kind: ErrorKind::DuplicateKey,
                    at,
                });
            }
        }
        Ok(())
    }

    fn string_of(&self, token: u32) -> &[u8] {
        let token = self.tokens[token as usize];
        string_at(self.input, token.start, token.end)
    }

    fn string(&mut self) -> Result<(), Error> {
        let start = self.at;
        let length = self.digits(b':')?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.limits.string as usize {
            return Err(Error {
                kind: ErrorKind::StringTooLong,
                at: start,
            });
        }
        if length > self.input.len() - self.at {
            return Err(Error {
                kind: ErrorKind::UnexpectedEnd,
                at: start,
            });
        }
        self.at += length;
        Ok(())
    }

    fn integer(&mut self) -> Result<(), Error> {
        self.at += 1;
        let start = self.at;
        let negative = self.peek()? == b'-';
        if negative {
            self.at += 1;
        }
        let magnitude = self.digits(b'e')?;
        if negative && magnitude == 0 {
            return Err(Error {
                kind: ErrorKind::NumberSpelling,
                at: start,
            });
        }
        let most = i64::MAX.unsigned_abs() + u64::from(negative);
        if magnitude > most {
            Err(Error {
                kind: ErrorKind::NumberOverflow,
                at: start,
            })
        } else {
            Ok(())
        }
    }

    /// Decimal digits up to and including `stop`.
    fn digits(&mut self, stop: u8) -> Result<u64, Error> {
        let start = self.at;
        let mut value: u64 = 0;
        loop {
            let byte = self.peek()?;
            if byte == stop && self.at > start {
                break;
            }
            if !byte.is_ascii_digit() {
                return Err(self.error(ErrorKind::UnexpectedByte));
            }
            if self.at > start && value == 0 {
                return Err(Error {
                    kind: ErrorKind::NumberSpelling,
                    at: start,
                });
            }
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(byte - b'0')))
                .ok_or(Error {
                    kind: ErrorKind::NumberOverflow,
                    at: start,
                })?;
            self.at += 1;
        }
        self.at += 1;
        Ok(value)
    }

    fn push_token(&mut self) -> Result<u32, Error> {
        let index = self.tokens.len();
        if index >= self.limits.tokens as usize {
            return Err(self.error(ErrorKind::TooManyTokens));
        }
        self.tokens.push(Token {
            start: position(self.at),
            end: 0,
            next: 0,
        });
        Ok(position(index))
    }

    /// A value is complete: its place is known, and its dictionary waits for a key again.
    fn finish(&mut self, token: u32) {
        self.seal(token);
        if let Some(open) = self.open.last_mut() {
            open.key_read = false;
        }
    }

    fn seal(&mut self, token: u32) {
        let next = position(self.tokens.len());
        let token = &mut self.tokens[token as usize];
        token.end = position(self.at);
        token.next = next;
    }

    fn peek(&self) -> Result<u8, Error> {
        self.input
            .get(self.at)
            .copied()
            .ok_or(self.error(ErrorKind::UnexpectedEnd))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { kind, at: self.at }
    }
}

/// Positions fit: `scan` refuses input of 4 GiB, and there are no more tokens than bytes.
#[allow(
    clippy::cast_possible_truncation,
    reason = "checked at the entrance of scan"
)]
fn position(at: usize) -> u32 {
    at as u32
}
