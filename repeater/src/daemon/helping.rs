//! Help between friends, as the operator sees and steers it.

use bt_wire::ids::InfoHash;
use control_api::aid::{Aid, Asking, Direction, Help, HelpAsked, TorrentAsked, Want};
use swarm_core::io::SwarmId;
use swarm_core::io::friends::FriendsInput;
use swarm_core::policy::tit_for_tat::Turn;
use swarm_core::view::{HelpState, HelpView, NeedView, NodeView, WishView};

use super::Shared;
use super::answers::{failed, no_swarm};
use crate::config::FriendsMode;
use crate::control::{HelpWith, Refusal};
use crate::store::SavedWish;

fn state(state: HelpState) -> &'static str {
    match state {
        HelpState::Asked => "asked",
        HelpState::Offered => "offered",
        HelpState::Running => "running",
        HelpState::Ending => "ending",
    }
}

fn waits(turn: Turn) -> Option<&'static str> {
    match turn {
        Turn::Serve(_) => None,
        Turn::Trickle => Some("friends fill the line"),
        Turn::Rank => Some("others come first"),
        Turn::Ceiling => Some("it owes more than friends.credit allows while others want the line"),
        Turn::Refused => Some("it left too much unsigned"),
    }
}

impl Shared {
    fn swarm_title(&self, id: SwarmId) -> Option<(InfoHash, String)> {
        let swarm = self.engine.swarms().get(id)?;
        Some((swarm.info_hash, swarm.name()))
    }

    fn help_row(&self, help: &HelpView) -> Help {
        let (info_hash, name) = help.swarm.and_then(|id| self.swarm_title(id)).unzip();
        Help {
            friend: self.engine.friend_name(help.friend),
            direction: if help.given {
                Direction::Given
            } else {
                Direction::Asked
            },
            info_hash: info_hash.map(|hash| hash.to_string()),
            name,
            state: state(help.state).to_owned(),
            reserved_pieces: help.reserved_pieces,
            delivered_bytes: help.claimed_bytes,
            signed_bytes: help.signed_bytes,
            waits: help.turn.and_then(waits).map(ToOwned::to_owned),
        }
    }

    fn want_row(&self, hash: InfoHash, need: Option<&NeedView>, wish: Option<&WishView>) -> Want {
        let asking = match (wish, need) {
            (Some(wish), _) if wish.stopped => Asking::Stopped,
            (Some(_), _) => Asking::ByHand,
            (None, Some(need)) if need.short => Asking::Short,
            (None, _) => Asking::No,
        };
        Want {
            info_hash: hash.to_string(),
            name: self.engine.find(hash).map(|swarm| swarm.name()),
            asking,
            master: need.map(|need| self.master_name(need.master)),
            missing_bytes: need.map_or(0, |need| need.missing_bytes),
            left_bytes: wish.and_then(|wish| wish.left_bytes),
        }
    }

    /// What masters lack, and what the operator said of other torrents.
    fn want_rows(&self, node: &NodeView) -> Vec<Want> {
        let wishes = &node.aid.wishes;
        let wish = |hash: InfoHash| wishes.iter().find(|wish| wish.info_hash == hash.0);
        let mut rows: Vec<Want> = node
            .aid
            .needs
            .iter()
            .filter_map(|need| {
                let (hash, _) = self.swarm_title(need.swarm)?;
                Some(self.want_row(hash, Some(need), wish(hash)))
            })
            .collect();
        for wish in wishes {
            let hash = InfoHash(wish.info_hash);
            if !rows.iter().any(|row| row.info_hash == hash.to_string()) {
                rows.push(self.want_row(hash, None, Some(wish)));
            }
        }
        rows
    }

    pub(super) async fn aid(&self) -> Result<Aid, Refusal> {
        let view = self.view().await?;
        let helps = view.node.aid.helps.iter();
        Ok(Aid {
            helps: helps.map(|help| self.help_row(help)).collect(),
            wants: self.want_rows(&view.node),
            pool_bytes: view.node.aid.pool_bytes,
        })
    }

    pub(super) async fn ask_for_help(
        &self,
        with: HelpWith,
        bytes: Option<u64>,
    ) -> Result<HelpAsked, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        self.check_friends()?;
        if bytes == Some(0) {
            return Err(Refusal::invalid("ask", "is for no byte", "--bytes SIZE"));
        }
        let view = self.view().await?;
        let hashes = match with {
            HelpWith::Torrent(hash) => {
                self.check_torrent(&view.node, hash)?;
                vec![hash]
            }
            HelpWith::Master(name) => self.lacked_by(&view.node, &name)?,
        };
        for hash in &hashes {
            self.keep_wish(*hash, SavedWish::Ask(bytes)).await?;
        }
        let view = self.view().await?;
        let online = view.node.aid.friends.iter().filter(|one| one.online);
        Ok(HelpAsked {
            online: u32::try_from(online.count()).unwrap_or(u32::MAX),
            torrents: hashes
                .into_iter()
                .map(|hash| self.asked_row(&view.node, hash))
                .collect(),
        })
    }

    fn asked_row(&self, node: &NodeView, hash: InfoHash) -> TorrentAsked {
        let swarm = self.engine.find(hash);
        let id = swarm.as_ref().map(|swarm| swarm.id);
        let helps = node.aid.helps.iter();
        let here = helps.filter(|help| !help.given && help.swarm == id);
        TorrentAsked {
            info_hash: hash.to_string(),
            name: swarm.map(|swarm| swarm.name()).unwrap_or_default(),
            friends: here
                .map(|help| self.engine.friend_name(help.friend))
                .collect(),
        }
    }

    fn check_friends(&self) -> Result<(), Refusal> {
        let mode = self.known.lock().config.friends.mode;
        if mode == FriendsMode::Off {
            let hint = "write mode = \"known\" there, then `slavectl reload`";
            let why = "the configuration has friends.mode = \"off\"";
            return Err(Refusal::conflict("help", why, hint));
        }
        if mode == FriendsMode::Known && self.friends.list().is_empty() {
            let hint = "`slavectl friends add CODE` adds a friend";
            return Err(Refusal::conflict(
                "help",
                "there are no friends to ask",
                hint,
            ));
        }
        Ok(())
    }

    /// Whether asking for help with this torrent can come to anything.
    fn check_torrent(&self, node: &NodeView, hash: InfoHash) -> Result<(), Refusal> {
        let swarm = node.swarms.iter().find(|swarm| swarm.info_hash == hash.0);
        let swarm = swarm.ok_or_else(|| no_swarm(hash))?;
        let what = format!("help with {hash}");
        let allowed = self.known.lock().config.friends.private_torrents;
        if swarm.private && !allowed {
            let why = "the torrent is private, and friends are told nothing of those";
            let hint = "friends.private_torrents = true allows it, by RPC and relayed only";
            return Err(Refusal::conflict(what, why, hint));
        }
        if node.aid.needs.iter().any(|need| need.swarm == swarm.id) {
            return Ok(());
        }
        let why = "no master that lacks something of it is connected";
        let hint = "friends help your masters: add the torrent there, and see `slavectl master`";
        Err(Refusal::conflict(what, why, hint))
    }

    /// The torrents that a master lacks something of, and that friends may be told of.
    fn lacked_by(&self, node: &NodeView, name: &str) -> Result<Vec<InfoHash>, Refusal> {
        let what = format!("master {}", name.escape_debug());
        let id = self.known.lock().masters.get(name).map(|entry| entry.id);
        let id = id.ok_or_else(|| {
            Refusal::not_found(
                &*what,
                "there is none of this name",
                "`slavectl master` lists them",
            )
        })?;
        let needs = node.aid.needs.iter().filter(|need| need.master == id);
        let hashes = needs.filter_map(|need| self.swarm_title(need.swarm));
        let hashes: Vec<InfoHash> = hashes
            .map(|(hash, _)| hash)
            .filter(|hash| self.check_torrent(node, *hash).is_ok())
            .collect();
        if hashes.is_empty() {
            let why = "it is not connected, or lacks nothing that friends may help with";
            return Err(Refusal::conflict(
                what,
                why,
                "see `slavectl aid` and `slavectl master`",
            ));
        }
        Ok(hashes)
    }

    pub(super) async fn stop_help(&self, hash: InfoHash) -> Result<(), Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let view = self.view().await?;
        if !view
            .node
            .swarms
            .iter()
            .any(|swarm| swarm.info_hash == hash.0)
        {
            return Err(no_swarm(hash));
        }
        self.keep_wish(hash, SavedWish::Stop).await
    }

    /// Durable first, then the brain hears it.
    async fn keep_wish(&self, hash: InfoHash, wish: SavedWish) -> Result<(), Refusal> {
        self.store(move |store| store.set_wish(hash, Some(wish)))
            .await
            .map_err(failed)?;
        self.engine
            .friends_input(said(hash, wish))
            .await
            .map_err(failed)
    }

    /// The operator's word counts no longer: it was done, or the torrent was left.
    pub(super) async fn forget_wish(&self, hash: InfoHash) {
        if let Err(error) = self.store(move |store| store.set_wish(hash, None)).await {
            tracing::warn!("{error:#}");
        }
        // A stopped engine needs nothing.
        let _ = self
            .engine
            .friends_input(FriendsInput::ByItself(hash.0))
            .await;
    }

    pub(super) async fn take_up_wishes(&self) -> anyhow::Result<()> {
        for (hash, wish) in self.store(crate::store::Store::wishes).await? {
            self.engine.friends_input(said(hash, wish)).await?;
        }
        Ok(())
    }
}

fn said(hash: InfoHash, wish: SavedWish) -> FriendsInput {
    match wish {
        SavedWish::Ask(bytes) => FriendsInput::Ask(hash.0, bytes),
        SavedWish::Stop => FriendsInput::Stop(hash.0),
    }
}
