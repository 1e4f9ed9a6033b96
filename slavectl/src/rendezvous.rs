//! `rendezvous …`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use control_api::paths;
use control_api::rendezvous::{
    HostRendezvous, Hosted, JoinRendezvous, JoinedRendezvous, LeaveRendezvous, LeftRendezvous,
    Rendezvous as Row,
};
use data_encoding::BASE64;

use crate::cli::{Host, Rendezvous};
use crate::commands::Session;
use crate::failure::Failure;
use crate::{printable, show, torrent};

/// Largest .torrent file that is sent; the daemon takes no larger one for a rendezvous.
const MAX_TORRENT: usize = 32 << 10;

impl Session<'_, '_> {
    pub(crate) async fn rendezvous(&mut self, command: Rendezvous) -> Result<(), Failure> {
        match command {
            Rendezvous::Show => {
                self.show::<Vec<Row>>(paths::RENDEZVOUS, |rows, page| {
                    show::rendezvous::list(rows, page);
                })
                .await
            }
            Rendezvous::Host(host) => self.host(host).await,
            Rendezvous::Join { torrent, peer } => self.join(&torrent, &peer).await,
            Rendezvous::Leave { hash } => {
                let leave = LeaveRendezvous { info_hash: hash };
                let left: LeftRendezvous =
                    self.client.post(paths::RENDEZVOUS_LEAVE, &leave).await?;
                self.answer(&left, &format!("Left {}.", printable(&left.info_hash)))
            }
        }
    }

    async fn host(&mut self, host: Host) -> Result<(), Failure> {
        let output = host.output;
        if let Some(file) = output.as_deref().filter(|_| !host.force) {
            free(file)?;
        }
        let ask = HostRendezvous {
            name: host.name,
            announce: !host.no_announce_url,
            listen: host.listen.map(|addr| addr.to_string()),
            url: host.url,
            trackers: host.tracker,
        };
        let hosted: Hosted = self.client.post(paths::RENDEZVOUS_HOST, &ask).await?;
        if let Some(file) = &output {
            write(file, &hosted.torrent, host.force)?;
        }
        let mut page = show::Page::new(self.io);
        show::rendezvous::hosted(&hosted.rendezvous, output.as_deref(), &mut page);
        let text = page.finish();
        self.answer(&hosted, &text)
    }

    async fn join(&mut self, what: &str, peers: &[SocketAddr]) -> Result<(), Failure> {
        let link =
            torrent::is_link(what) || what.starts_with("http://") || what.starts_with("https://");
        let mut join = JoinRendezvous {
            peers: peers.iter().map(ToString::to_string).collect(),
            ..JoinRendezvous::default()
        };
        if link {
            join.source = Some(what.to_owned());
        } else {
            let file = torrent::read(what.as_ref())?;
            if file.len() > MAX_TORRENT {
                let why = "is over 32 KiB, and the torrent of a rendezvous is small";
                let hint = "to join an ordinary torrent, use `slavectl swarms add`";
                return Err(Failure::refused(what, why, hint));
            }
            join.torrent = Some(BASE64.encode(&file));
        }
        let joined: JoinedRendezvous = self.client.post(paths::RENDEZVOUS_JOIN, &join).await?;
        let word = if joined.new {
            "Joined"
        } else {
            "Joined before, updated:"
        };
        let (hash, name) = (printable(&joined.info_hash), printable(&joined.name));
        self.answer(
            &joined,
            &format!("{word} {hash} {name}. `slavectl rendezvous show` says who is there."),
        )
    }
}

fn free(file: &Path) -> Result<(), Failure> {
    if file.symlink_metadata().is_ok() {
        let hint = "choose another name, or replace it with --force";
        return Err(Failure::refused(
            file.display().to_string(),
            "exists already",
            hint,
        ));
    }
    Ok(())
}

fn write(file: &PathBuf, base64: &str, force: bool) -> Result<(), Failure> {
    let refuse = |why: String| {
        let hint = "the rendezvous is hosted: `slavectl rendezvous show` has its magnet link";
        Failure::refused(file.display().to_string(), why, hint)
    };
    let bytes = BASE64.decode(base64.as_bytes());
    let bytes = bytes.map_err(|_| refuse("the daemon sent no base64".to_owned()))?;
    let mut open = OpenOptions::new();
    open.write(true)
        .create(true)
        .truncate(force)
        .create_new(!force);
    let written = open.open(file).and_then(|mut to| to.write_all(&bytes));
    written.map_err(|e| refuse(e.to_string()))
}
