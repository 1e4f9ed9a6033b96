//! Foreign names on their way to a terminal, a log or a page (row A3).

use std::fmt::Write as _;

/// Whether `c` could steer a terminal or turn text around: control characters (C0, DEL, C1), line and paragraph
/// separators, bidirectional marks, embeddings, overrides and isolates, zero-width and tag characters, the byte order mark.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// `text` with every unsafe character as `\u{…}`.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_no_control_or_bidi_character_survives() {
        let evil = "a\u{1b}]0;owned\u{7}\u{202e}gnp.exe\r\n\u{9b}31m\u{7f}\u{200b}";
        let shown = printable(evil);
        assert!(!shown.chars().any(is_unsafe), "{shown:?}");
        assert!(shown.starts_with("a\\u{1b}]0;owned\\u{7}\\u{202e}gnp"));
        assert_eq!(printable("Größe 中文 🦀.iso"), "Größe 中文 🦀.iso");
    }
}
