//! What can go wrong with saved state, split by what the caller must do.

use std::io;
use std::path::PathBuf;

/// An error of the store. Every text names the thing, the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon holds the directory (attack row F4). Exit.
    #[error(
        "{dir}: another btslave{} is using this data directory; stop it, or start this one with another --data-dir",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// Saved by a newer BTSlave. Exit; nothing was changed.
    #[error(
        "{what}: written in format {found}, this btslave reads up to {supported}; install the newer version again or choose another --data-dir"
    )]
    Newer {
        /// Which record or file.
        what: &'static str,
        /// The format found.
        found: u8,
        /// The newest format this program reads.
        supported: u8,
    },
    /// Saved by a BTSlave older than the one before this. Exit; nothing was changed.
    #[error(
        "{what}: written in format {found}, this btslave reads {oldest} and newer; start the version in between once"
    )]
    TooOld {
        /// Which record or file.
        what: &'static str,
        /// The format found.
        found: u8,
        /// The oldest format this program reads.
        oldest: u8,
    },
    /// One saved value cannot be read. Go on without it.
    #[error("{what} {key}: damaged ({reason}); remove it and add it again")]
    Damaged {
        /// Which kind of record.
        what: &'static str,
        /// Its key, for a person.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is over what one record may hold. Refuse the request.
    #[error("{what}: {bytes} bytes to save, at most {limit} fit in one record; shorten it")]
    TooLarge {
        /// Which kind of record.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A name in the data directory is a symbolic link (attack row F5). Nothing was touched.
    #[error(
        "{path}: is a symbolic link, and btslave writes through none inside its data directory; remove the link"
    )]
    Symlink {
        /// The offending name.
        path: PathBuf,
    },
    /// The file system has no room (attack row F2). The old state stands; try again later.
    #[error(
        "{path}: the disk is full; nothing was changed, free some space and repeat the command"
    )]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// The secret key is unusable; no other is made in its place. Exit.
    #[error("{path}: {why}; {hint}")]
    Identity {
        /// The key's file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// The next step.
        hint: &'static str,
    },
    /// Any other failure of the file system. The old state stands.
    #[error(
        "{path}: {doing}: {source}; nothing was changed, check the directory's owner, permissions and disk"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// The database that holds the statistics is out of order until the next start. Go on without.
    #[error(
        "statistics database: {reason}; settings are safe in the journal, restart btslave to have it rebuilt"
    )]
    Index {
        /// What the database said.
        reason: String,
    },
}

impl StoreError {
    /// Sorts an I/O error into the case the caller acts on.
    pub(super) fn io(path: impl Into<PathBuf>, doing: &'static str, source: io::Error) -> Self {
        let path = path.into();
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        if full {
            Self::Full { path }
        } else if source.raw_os_error() == Some(libc::ELOOP) {
            Self::Symlink { path }
        } else {
            Self::Io {
                path,
                doing,
                source,
            }
        }
    }
}

/// Something `Store::open` repaired or could not; to be shown to the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreNote {
    /// The journal ended in the middle of a record, as after a power cut; that record was never acknowledged
    /// or is held by the database.
    #[error(
        "settings journal: the last record was incomplete ({bytes} bytes cut off), as after a power cut"
    )]
    JournalTail {
        /// Bytes cut off.
        bytes: u64,
    },
    /// The journal was damaged; its bytes are kept in `moved_to`.
    #[error("settings journal: damaged at byte {at}; the damaged file is kept as {}", moved_to.display())]
    JournalDamaged {
        /// Offset of the first bad byte's record.
        at: u64,
        /// Where the damaged file was copied.
        moved_to: PathBuf,
    },
    /// The database could not be opened; it was moved aside and rebuilt.
    #[error("database: {reason}; moved aside to {} and rebuilt from the journal", moved_to.display())]
    DatabaseMoved {
        /// What the database said.
        reason: String,
        /// Where it is kept.
        moved_to: PathBuf,
    },
    /// The database was gone and was made anew.
    #[error("database: missing; rebuilt from the journal, totals start again")]
    DatabaseMissing,
    /// The database did not have the last change, as after a crash, and was corrected; nothing is lost.
    #[error("database: brought up to date from the journal")]
    DatabaseCorrected,
    /// The database is older than a crash explains, or does not add up. The journal may have lost its end with nothing to
    /// show it.
    #[error(
        "database: {by} changes behind the journal, more than a crash explains; brought up to date from it, and nothing is signed for any friend before it has shown what it holds"
    )]
    DatabaseOlder {
        /// Changes it was behind.
        by: u64,
    },
    /// The settings came from the database because the journal was short; nothing is lost.
    #[error("settings journal: restored from the database, up to change {seq}")]
    RestoredFromDatabase {
        /// Number of the last change.
        seq: u64,
    },
    /// Both copies are damaged: changes after `seq` may be lost.
    #[error(
        "settings: journal and database are both damaged; changes after number {seq} may be lost, check `slavectl feeds`, `swarms` and `master`"
    )]
    ChangesLost {
        /// Number of the last change known good.
        seq: u64,
    },
    /// The database is off for this run.
    #[error(
        "database: off for this run ({reason}); settings are kept in the journal, totals start again"
    )]
    DatabaseOff {
        /// Why.
        reason: String,
    },
    /// A saved swarm's .torrent file is missing or damaged; the swarm is left out.
    #[error("swarm {info_hash}: its saved .torrent is {reason}; add it again")]
    TorrentLost {
        /// Hex infohash.
        info_hash: String,
        /// What is wrong.
        reason: String,
    },
    /// One saved value is damaged; it is left out, and its bytes are kept in `moved_to`.
    #[error(
        "{what} {key}: damaged ({reason}); left out and kept as {}; add it again",
        moved_to.display()
    )]
    ValueDamaged {
        /// Which kind of record.
        what: &'static str,
        /// Its key, for a person.
        key: String,
        /// What is wrong with it.
        reason: String,
        /// Where its bytes are kept.
        moved_to: PathBuf,
    },
    /// An account with a friend cannot be believed; its bytes are kept in `moved_to`.
    #[error(
        "ledger: an account is damaged ({reason}) and kept as {}; nothing is signed for any friend before it has shown what it holds",
        moved_to.display()
    )]
    AccountDamaged {
        /// What is wrong.
        reason: String,
        /// Where its bytes are kept.
        moved_to: PathBuf,
    },
}

impl StoreNote {
    /// Whether what was acknowledged last may be missing from the ledger. A torn tail was never acknowledged, or is in the
    /// database; and a database that lacks the last change alone loses nothing.
    pub(super) fn may_have_lost(&self) -> bool {
        match self {
            Self::JournalTail { .. }
            | Self::DatabaseCorrected
            | Self::TorrentLost { .. }
            | Self::ValueDamaged { .. } => false,
            Self::JournalDamaged { .. }
            | Self::DatabaseOlder { .. }
            | Self::DatabaseMoved { .. }
            | Self::DatabaseMissing
            | Self::RestoredFromDatabase { .. }
            | Self::ChangesLost { .. }
            | Self::DatabaseOff { .. }
            | Self::AccountDamaged { .. } => true,
        }
    }
}
