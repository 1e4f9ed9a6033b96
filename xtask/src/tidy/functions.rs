//! The length of functions, held by a ratchet: `xtask/ratchet.toml` names the longer ones and may only shrink.

use std::collections::BTreeMap;

use anyhow::Context;

use super::{Report, Source};

/// Lines, from `fn` to the closing brace.
const LIMIT: usize = 70;

/// Compares every function with the limit and the ratchet.
///
/// # Errors
/// The ratchet file cannot be read.
pub(super) fn check(sources: &[Source], report: &mut Report) -> anyhow::Result<()> {
    let text = std::fs::read_to_string("xtask/ratchet.toml").context("xtask/ratchet.toml")?;
    let allowed: BTreeMap<String, usize> = toml::from_str(&text).context("xtask/ratchet.toml")?;
    let mut long = BTreeMap::new();
    for source in sources {
        for (name, lines) in functions(&source.code) {
            if lines > LIMIT {
                let longest: &mut usize =
                    long.entry(format!("{}::{name}", source.path)).or_default();
                *longest = lines.max(*longest);
            }
        }
    }
    ratchet(&long, &allowed, report);
    Ok(())
}

fn ratchet(long: &BTreeMap<String, usize>, allowed: &BTreeMap<String, usize>, report: &mut Report) {
    for (name, lines) in long {
        let limit = allowed.get(name).copied().unwrap_or(LIMIT);
        if *lines > limit {
            report.error(
                "function-length",
                format!("{name} has {lines} lines, {limit} are allowed: split it"),
            );
        }
    }
    for (name, lines) in allowed {
        let now = long.get(name).copied().unwrap_or(0);
        if now < *lines {
            let new = if now == 0 {
                "remove its line".into()
            } else {
                format!("write {now}")
            };
            report.error(
                "function-length",
                format!("{name} is shorter than xtask/ratchet.toml says: {new}"),
            );
        }
    }
}

/// Name and length in lines of every function with a body, in masked source.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let begins_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name: String = code[at + 3..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if begins_word
            && !name.is_empty()
            && let Some(length) = body_end(&code[at..])
        {
            found.push((name, code[at..at + length].matches('\n').count() + 1));
        }
    }
    found
}

/// Bytes from `fn` to the brace that closes its body; `None` for a declaration without one.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0_u32, 0_i32);
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && brackets == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{LIMIT, functions, ratchet};
    use crate::tidy::{Report, mask};
    use std::collections::BTreeMap;

    #[test]
    fn measures_functions_whatever_their_shape() {
        let code = mask::code_only(
            "trait T { fn declared(&self, x: [u8; 3]) -> u8; }\n\
             const fn one() -> u8 { b'}' }\n\
             impl T for u8 {\n  pub(crate) async fn three<'a>(\n  ) where u8: Copy {\n  if x { fn_y(); } }\n}\n\
             type F = fn (u8);\n",
        );
        assert_eq!(functions(&code), [("one".into(), 1), ("three".into(), 3)]);
    }

    #[test]
    fn a_long_function_is_an_error_and_the_ratchet_only_shrinks() {
        let complaints = |lines: usize, allowed: Option<usize>| {
            let name = |lines| BTreeMap::from([("a.rs::f".to_owned(), lines)]);
            let long = if lines > LIMIT {
                name(lines)
            } else {
                BTreeMap::new()
            };
            let mut report = Report::default();
            ratchet(&long, &allowed.map(name).unwrap_or_default(), &mut report);
            report.errors.len()
        };
        assert_eq!(complaints(LIMIT, None), 0);
        assert_eq!(complaints(LIMIT + 1, None), 1);
        assert_eq!(complaints(LIMIT + 1, Some(LIMIT + 1)), 0);
        assert_eq!(complaints(LIMIT + 2, Some(LIMIT + 1)), 1);
        assert_eq!(complaints(LIMIT + 1, Some(LIMIT + 2)), 1);
        assert_eq!(complaints(10, Some(LIMIT + 2)), 1);
    }
}
