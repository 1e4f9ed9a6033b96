//! Waiting for what can only be asked, not awaited: another program's state.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`. Errors are taken as "not yet"; the last one is told when time is up.
///
/// # Errors
/// `limit` passed without an answer.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask();
        if let Ok(Some(value)) = answer {
            return Ok(value);
        }
        if Instant::now() >= end {
            let what = format!("{what}: not within {} s", limit.as_secs());
            return match answer {
                Err(e) => Err(e).context(what),
                Ok(_) => bail!(what),
            };
        }
        thread::sleep(PAUSE);
    }
}
