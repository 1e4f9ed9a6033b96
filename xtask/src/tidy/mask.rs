//! Rust source with comments and literals blanked, so that a plain search finds only code.

/// Same length and line breaks as `source`; everything inside comments and literals is a space.
pub(super) fn code_only(source: &str) -> String {
    let mut masker = Masker {
        rest: source,
        out: String::with_capacity(source.len()),
        last: ' ',
    };
    while !masker.rest.is_empty() {
        let skipped = masker
            .comment()
            .or_else(|| masker.string())
            .or_else(|| masker.char());
        match skipped {
            Some(bytes) => masker.blank(bytes),
            None => masker.keep(),
        }
    }
    masker.out
}

struct Masker<'a> {
    rest: &'a str,
    out: String,
    /// The code character before `rest`: tells `r"…"` from a name that ends in r.
    last: char,
}

impl Masker<'_> {
    fn keep(&mut self) {
        if let Some(c) = self.rest.chars().next() {
            self.out.push(c);
            self.last = c;
            self.rest = &self.rest[c.len_utf8()..];
        }
    }

    fn blank(&mut self, bytes: usize) {
        let (literal, rest) = self.rest.split_at(bytes);
        for byte in literal.bytes() {
            self.out.push(if byte == b'\n' { '\n' } else { ' ' });
        }
        self.rest = rest;
        self.last = ' ';
    }

    fn comment(&self) -> Option<usize> {
        if self.rest.starts_with("//") {
            return Some(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
        if !self.rest.starts_with("/*") {
            return None;
        }
        let (mut at, mut depth) = (0, 0_u32);
        while let Some(offset) = self.rest[at..].find(['/', '*']) {
            at += offset;
            if self.rest[at..].starts_with("/*") {
                depth += 1;
                at += 2;
            } else if self.rest[at..].starts_with("*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            } else {
                at += 1;
            }
        }
        Some(self.rest.len())
    }

    fn string(&self) -> Option<usize> {
        if self.last.is_alphanumeric() || self.last == '_' {
            return None;
        }
        ["br", "cr", "r", "b", "c", ""].iter().find_map(|prefix| {
            let after = self.rest.strip_prefix(prefix)?;
            let raw = prefix.ends_with('r');
            let hashes = if raw {
                after.len() - after.trim_start_matches('#').len()
            } else {
                0
            };
            let body = after[hashes..].strip_prefix('"')?;
            let end = format!("\"{}", "#".repeat(hashes));
            let length = if raw {
                body.find(&end).map_or(body.len(), |at| at + end.len())
            } else {
                until_quote(body, b'"')
            };
            Some(prefix.len() + hashes + 1 + length)
        })
    }

    fn char(&self) -> Option<usize> {
        let after = self.rest.strip_prefix('\'')?;
        if after.starts_with('\\') {
            return Some(1 + until_quote(after, b'\''));
        }
        let first = after.chars().next()?;
        // Anything else that starts with a quote is a lifetime.
        after[first.len_utf8()..]
            .starts_with('\'')
            .then(|| first.len_utf8() + 2)
    }
}

/// Bytes up to and with the closing quote, escapes skipped.
fn until_quote(text: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
        } else if byte == b'\\' {
            escaped = true;
        } else if byte == quote {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::code_only;

    #[track_caller]
    fn check(source: &str, code: &str) {
        let masked = code_only(source);
        assert_eq!(masked.len(), source.len());
        assert_eq!(
            masked.split_whitespace().collect::<Vec<_>>().join(" "),
            code
        );
    }

    #[test]
    fn comments_and_literals_are_blanked_and_code_is_kept() {
        check("a // x {\nb", "a b");
        check("a /* x /* { */ y */ b", "a b");
        check(r#"f("}\"{"); g"#, "f( ); g");
        check(r###"f(r#"}"{"#); g(br"\"); h"###, "f( ); g( ); h");
        check(
            r"let c: &'a u8 = '{'; let d = '\''; e",
            "let c: &'a u8 = ; let d = ; e",
        );
        check("for r in r#type { b\"x\"; }", "for r in r#type { ; }");
        check("\"never closed {", "");
    }
}
