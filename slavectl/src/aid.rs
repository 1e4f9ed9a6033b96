//! `aid …`.

use control_api::aid::{AskForHelp, HelpAsked, StopHelp};
use control_api::masters::Master as MasterRow;
use control_api::node::Nothing;
use control_api::paths;

use crate::cli::Aid;
use crate::commands::Session;
use crate::failure::Failure;
use crate::{printable, show};

impl Session<'_, '_> {
    pub(crate) async fn aid(&mut self, command: Aid) -> Result<(), Failure> {
        match command {
            Aid::List => self.show(paths::AID, show::aid::page).await,
            Aid::Ask { with, bytes } => {
                let mut ask = self.whom_to_help(with).await?;
                ask.bytes = bytes.and_then(|size| size.0);
                let asked: HelpAsked = self.client.post(paths::AID_ASK, &ask).await?;
                let text = asked_text(&asked);
                self.answer(&asked, &text)
            }
            Aid::Stop { hash } => {
                let info_hash = self.resolve(&hash).await?;
                let text = format!(
                    "No help with {info_hash} any more, in either direction. `slavectl aid ask` asks again."
                );
                let stop = StopHelp { info_hash };
                let done: Nothing = self.client.post(paths::AID_STOP, &stop).await?;
                self.answer(&done, &text)
            }
        }
    }

    /// A master of that very name comes before an infohash that begins so.
    async fn whom_to_help(&self, with: String) -> Result<AskForHelp, Failure> {
        let masters: Vec<MasterRow> = self.client.get(paths::MASTERS).await?;
        if masters.iter().any(|master| master.name == with) {
            return Ok(AskForHelp {
                master: Some(with),
                ..AskForHelp::default()
            });
        }
        let hex = with.chars().all(|c| c.is_ascii_hexdigit());
        if !hex {
            let why = "is neither an infohash nor the name of a master";
            let hint = "`slavectl swarms` lists infohashes, `slavectl master` masters";
            return Err(Failure::refused(with, why, hint));
        }
        Ok(AskForHelp {
            info_hash: Some(self.resolve(&with).await?),
            ..AskForHelp::default()
        })
    }
}

fn asked_text(asked: &HelpAsked) -> String {
    let line = |torrent: &control_api::aid::TorrentAsked| {
        let what = show::name(&torrent.name);
        let friends: Vec<String> = torrent.friends.iter().map(|name| printable(name)).collect();
        match (friends.as_slice(), asked.online) {
            ([], 0) => format!("No friend is online; they are asked for {what} when they come."),
            ([], _) => format!("Friends are asked for {what} as soon as they can be."),
            (friends, _) => format!("Asked {} for {what}.", friends.join(", ")),
        }
    };
    let lines: Vec<String> = asked.torrents.iter().map(line).collect();
    lines.join("\n")
}
