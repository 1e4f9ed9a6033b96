//! Typed reading of a message's fields, each with its range.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use bt_wire::address::{canonical, decode_compact_v4, decode_compact_v6, encode_compact};
use bt_wire::bencode::{Dict, Item, Node};

use super::{Fault, MessageError};

/// The fields of one message, whose type is already known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'d> {
    dict: Dict<'d>,
    message: &'static str,
}

impl<'d> Fields<'d> {
    pub(super) fn new(dict: Dict<'d>, message: &'static str) -> Self {
        Self { dict, message }
    }

    //= spec/friends.md#message-field
    pub(super) fn error(self, field: &'static str, fault: Fault) -> MessageError {
        MessageError::Field {
            message: self.message,
            field,
            fault,
        }
    }

    /// `None` when the field is absent; an error when it is there with another type or out of `range`.
    pub(super) fn maybe_int(
        self,
        field: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, MessageError> {
        let Some(node) = self.dict.get(field) else {
            return Ok(None);
        };
        let value = node
            .as_int()
            .ok_or_else(|| self.error(field, Fault::Type))?;
        u64::try_from(value)
            .ok()
            .filter(|value| range.contains(value))
            .map(Some)
            .ok_or_else(|| self.error(field, Fault::Range))
    }

    pub(super) fn int(
        self,
        field: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, MessageError> {
        self.maybe_int(field, range)?
            .ok_or_else(|| self.error(field, Fault::Missing))
    }

    /// An integer that fits 32 bits.
    pub(super) fn small(
        self,
        field: &'static str,
        range: RangeInclusive<u32>,
    ) -> Result<u32, MessageError> {
        let value = self.int(field, u64::from(*range.start())..=u64::from(*range.end()))?;
        u32::try_from(value).map_err(|_| self.error(field, Fault::Range))
    }

    /// An integer of one byte.
    pub(super) fn byte(self, field: &'static str) -> Result<u8, MessageError> {
        let value = self.int(field, 0..=255)?;
        u8::try_from(value).map_err(|_| self.error(field, Fault::Range))
    }

    /// `None` when the field is absent; an error when it is no byte string, or of another length.
    pub(super) fn maybe_bytes(
        self,
        field: &'static str,
        length: RangeInclusive<usize>,
    ) -> Result<Option<&'d [u8]>, MessageError> {
        let Some(node) = self.dict.get(field) else {
            return Ok(None);
        };
        let bytes = node
            .as_bytes()
            .ok_or_else(|| self.error(field, Fault::Type))?;
        if length.contains(&bytes.len()) {
            Ok(Some(bytes))
        } else {
            Err(self.error(field, Fault::Range))
        }
    }

    pub(super) fn bytes(
        self,
        field: &'static str,
        length: RangeInclusive<usize>,
    ) -> Result<&'d [u8], MessageError> {
        self.maybe_bytes(field, length)?
            .ok_or_else(|| self.error(field, Fault::Missing))
    }

    pub(super) fn array<const N: usize>(
        self,
        field: &'static str,
    ) -> Result<[u8; N], MessageError> {
        let bytes = self.bytes(field, N..=N)?;
        bytes
            .try_into()
            .map_err(|_| self.error(field, Fault::Range))
    }

    /// One endpoint in 6 or 18 bytes.
    pub(super) fn endpoint(self, field: &'static str) -> Result<SocketAddr, MessageError> {
        let bytes = self.bytes(field, 6..=18)?;
        endpoint(bytes).ok_or_else(|| self.error(field, Fault::Range))
    }

    /// A list of at most `most` endpoints; absent reads as empty.
    pub(super) fn endpoints(
        self,
        field: &'static str,
        most: usize,
    ) -> Result<Vec<SocketAddr>, MessageError> {
        self.list(field, most, endpoint)
    }

    /// A list of at most `most` byte strings, each as `read` takes it; absent reads as empty.
    pub(super) fn list<T>(
        self,
        field: &'static str,
        most: usize,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, MessageError> {
        let Some(node) = self.dict.get(field) else {
            return Ok(Vec::new());
        };
        let list = node
            .as_list()
            .ok_or_else(|| self.error(field, Fault::Type))?;
        let mut values = Vec::new();
        for entry in list.iter().map(Node::as_bytes) {
            let bytes = entry.ok_or_else(|| self.error(field, Fault::Type))?;
            if values.len() == most {
                return Err(self.error(field, Fault::Range));
            }
            values.push(read(bytes).ok_or_else(|| self.error(field, Fault::Range))?);
        }
        Ok(values)
    }
}

/// Reads 6 or 18 bytes; none for another length, port 0, or IPv4 written as IPv6.
fn endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let read = match bytes.len() {
        6 => decode_compact_v4(bytes).next(),
        18 => decode_compact_v6(bytes).next().filter(SocketAddr::is_ipv6),
        _ => None,
    };
    read.filter(|addr| addr.port() != 0)
}

pub(super) fn endpoint_item(addr: SocketAddr) -> Item {
    let mut bytes = Vec::with_capacity(18);
    encode_compact(canonical(addr), &mut bytes);
    Item::Bytes(bytes.into())
}

pub(super) fn endpoints_item(addrs: &[SocketAddr]) -> Item {
    Item::List(addrs.iter().copied().map(endpoint_item).collect())
}

/// A number of ours that the type keeps below 2⁶³.
pub(super) fn int_item(value: u64) -> Item {
    Item::Int(i64::try_from(value).unwrap_or(i64::MAX))
}
