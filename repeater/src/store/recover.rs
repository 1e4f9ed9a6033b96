//! Opening after whatever happened: which copy of the settings to believe, and what to put aside (attack row F1).

use super::disk::{Dir, Disk};
use super::error::{StoreError, StoreNote};
use super::index::{self, Held, Index, OpenError};
use super::journal::{self, End, Journal, Replay};

/// A file that is there from the time that damage is found, or the database given up, until the ledger has taken note of it
/// with a database at hand (`super::ledger`).
pub(super) const SUSPECT: &str = "ledger.suspect";

/// Everything opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) settings: journal::Settings,
    pub(super) journal: Journal,
    pub(super) index: Option<Index>,
    pub(super) notes: Vec<StoreNote>,
}

/// Opens journal and database and makes them agree.
pub(super) fn open(dir: &Dir, disk: &dyn Disk) -> Result<Opened, StoreError> {
    let mut notes = Vec::new();
    let bytes = dir
        .read(journal::NAME, journal::MAX_FILE)?
        .unwrap_or_default();
    let mut replay = journal::replay(&bytes)?;
    let (index, held) = open_index(dir, &mut notes)?;
    if index.is_some() && held.is_none() && replay.seq > 0 && notes.is_empty() {
        notes.push(StoreNote::DatabaseMissing);
    }
    let read = replay.seq;
    let restored = choose(&mut replay, held.as_ref(), &mut notes);
    note_journal(dir, disk, &bytes, &replay, &mut notes)?;
    if notes.iter().any(StoreNote::may_have_lost) {
        // Before the repair, after which nothing shows the damage: a crash in between must not make the ledger trusted.
        dir.replace(disk, SUSPECT, b"")?;
    }
    let torn_only = replay.end != End::Damaged && replay.complete;
    let journal = Journal::open(
        dir,
        disk,
        &replay,
        restored || !torn_only || read != replay.seq,
    )?;
    let index = agree(index, held.as_ref(), &replay, &mut notes);
    Ok(Opened {
        settings: replay.settings,
        journal,
        index,
        notes,
    })
}

/// Takes the database's copy where it is sound and the journal fell short. True if so.
fn choose(replay: &mut Replay, held: Option<&Held>, notes: &mut Vec<StoreNote>) -> bool {
    let Some(held) = held else {
        if !replay.complete {
            notes.push(StoreNote::ChangesLost { seq: replay.seq });
        }
        return false;
    };
    if replay.complete && replay.seq >= held.seq {
        if !is_explained(replay, held) {
            notes.push(StoreNote::DatabaseOlder {
                by: replay.seq - held.seq,
            });
        }
        return false;
    }
    if held.sound {
        replay.settings = held.settings.clone();
        replay.seq = replay.seq.max(held.seq);
        notes.push(StoreNote::RestoredFromDatabase { seq: replay.seq });
        return true;
    }
    notes.push(StoreNote::ChangesLost { seq: replay.seq });
    replay.seq = replay.seq.max(held.seq);
    true
}

/// Whether a crash alone leaves these two: each change is in the database before the next one is begun, so it lacks at most
/// the last whole one. Else the database is an older copy, and would not show it if the journal were cut.
fn is_explained(replay: &Replay, held: &Held) -> bool {
    let last = replay.end == End::Clean && held.seq.checked_add(1) == Some(replay.seq);
    held.sound && (held.seq == replay.seq || last)
}

/// Says what is wrong with the journal, and keeps a damaged one.
fn note_journal(
    dir: &Dir,
    disk: &dyn Disk,
    bytes: &[u8],
    replay: &Replay,
    notes: &mut Vec<StoreNote>,
) -> Result<(), StoreError> {
    match replay.end {
        End::Clean => {}
        End::Torn => notes.push(StoreNote::JournalTail {
            bytes: (bytes.len() as u64).saturating_sub(replay.good),
        }),
        End::Damaged => {
            let aside = dir.quarantine()?;
            // A copy, so that a crash right here still finds the journal in its place.
            aside.replace(disk, journal::NAME, bytes)?;
            notes.push(StoreNote::JournalDamaged {
                at: replay.good,
                moved_to: aside.path(journal::NAME),
            });
        }
    }
    Ok(())
}

fn open_index(
    dir: &Dir,
    notes: &mut Vec<StoreNote>,
) -> Result<(Option<Index>, Option<Held>), StoreError> {
    dir.refuse_symlink(index::NAME)?;
    let reason = match Index::open(dir) {
        Ok((index, held)) => return Ok((Some(index), held)),
        Err(OpenError::Environment(reason)) => {
            notes.push(StoreNote::DatabaseOff { reason });
            return Ok((None, None));
        }
        Err(OpenError::Torn(reason)) => reason,
    };
    let aside = dir.quarantine()?;
    dir.move_to(index::NAME, &aside)?;
    notes.push(StoreNote::DatabaseMoved {
        reason,
        moved_to: aside.path(index::NAME),
    });
    match Index::open(dir) {
        Ok((index, held)) => Ok((Some(index), held)),
        Err(OpenError::Torn(reason) | OpenError::Environment(reason)) => {
            notes.push(StoreNote::DatabaseOff { reason });
            Ok((None, None))
        }
    }
}

/// Brings the database up to the chosen settings; one that cannot be written is off for this run.
fn agree(
    index: Option<Index>,
    held: Option<&Held>,
    replay: &Replay,
    notes: &mut Vec<StoreNote>,
) -> Option<Index> {
    let index = index?;
    let agrees =
        held.is_some_and(|h| h.sound && h.seq == replay.seq && h.settings == replay.settings);
    let fresh = held.is_none() && replay.settings.is_empty() && replay.seq == 0;
    if agrees || fresh {
        return Some(index);
    }
    match index.correct(held, &replay.settings, replay.seq) {
        Ok(()) => {
            let said = |note: &StoreNote| matches!(note, StoreNote::DatabaseOlder { .. });
            if held.is_some() && !notes.iter().any(said) {
                notes.push(StoreNote::DatabaseCorrected);
            }
            Some(index)
        }
        Err(e) => {
            notes.push(StoreNote::DatabaseOff {
                reason: e.to_string(),
            });
            None
        }
    }
}
