//! What stands in front of the XML parsers (attack rows E3, E4): `rss` and `atom_syndication` recurse on nested
//! extension elements and keep every item, so depth, elements and items are bounded before they see a byte.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::parse::FeedError;

/// Deepest nesting of elements.
pub const MAX_DEPTH: usize = 64;
/// Items looked at; the rest of the document is cut off.
pub const MAX_ITEMS: usize = 10_000;
/// Elements in the part looked at.
const MAX_ELEMENTS: usize = 400_000;
/// One tag with its attributes, in bytes.
const MAX_TAG: usize = 64 * 1024;

/// Checks a document, and cuts it after `MAX_ITEMS` items, with the open elements closed again.
pub(super) fn guard(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FeedError> {
    let mut reader = Reader::from_reader(bytes);
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    let (mut open, mut items, mut elements): (Vec<Vec<u8>>, usize, usize) = (Vec::new(), 0, 0);
    loop {
        match reader.read_event().map_err(|e| FeedError::Xml {
            reason: e.to_string(),
        })? {
            Event::Start(tag) => {
                elements += 1;
                check_tag(tag.len(), elements)?;
                if open.len() >= MAX_DEPTH {
                    return Err(FeedError::TooDeep);
                }
                open.push(tag.name().as_ref().to_vec());
            }
            Event::Empty(tag) => {
                elements += 1;
                check_tag(tag.len(), elements)?;
                items += usize::from(is_item(tag.name().as_ref()));
            }
            Event::End(tag) => {
                open.pop();
                items += usize::from(is_item(tag.name().as_ref()));
            }
            Event::DocType(_) => return Err(FeedError::DocType),
            Event::Eof => return Ok(Cow::Borrowed(bytes)),
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => {}
        }
        if items >= MAX_ITEMS {
            let end = usize::try_from(reader.buffer_position()).unwrap_or(bytes.len());
            return Ok(cut(bytes, end, &open));
        }
    }
}

fn check_tag(length: usize, elements: usize) -> Result<(), FeedError> {
    if length > MAX_TAG || elements > MAX_ELEMENTS {
        Err(FeedError::TooManyElements)
    } else {
        Ok(())
    }
}

fn is_item(name: &[u8]) -> bool {
    matches!(name, b"item" | b"entry")
}

fn cut<'a>(bytes: &'a [u8], end: usize, open: &[Vec<u8>]) -> Cow<'a, [u8]> {
    let mut out = bytes.get(..end).unwrap_or(bytes).to_vec();
    for name in open.iter().rev() {
        out.extend_from_slice(b"</");
        out.extend_from_slice(name);
        out.push(b'>');
    }
    Cow::Owned(out)
}
