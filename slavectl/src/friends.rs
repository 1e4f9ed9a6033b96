//! `friends …`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use control_api::friends::{
    AddFriend, Follow, Friend, FriendName, FriendsExport, Imported, LedgerAccount, LedgerCheck,
    OwnCode, OwnSuccession,
};
use control_api::node::Nothing;
use control_api::paths;
use owo_colors::{OwoColorize as _, Style};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::cli::Friends;
use crate::commands::Session;
use crate::failure::Failure;
use crate::{printable, show};

/// Largest export read, in bytes; the daemon takes no larger one.
const MAX_EXPORT: u64 = 4 << 20;

impl Session<'_, '_> {
    pub(crate) async fn friends(&mut self, command: Friends) -> Result<(), Failure> {
        match command {
            Friends::List => {
                self.show::<Vec<Friend>>(paths::FRIENDS, |rows, page| {
                    show::friends::list(rows, page)
                })
                .await
            }
            Friends::Code { qr } => self.own_code(qr).await,
            Friends::Add { code, name } => {
                let added: Friend = self
                    .client
                    .post(paths::FRIENDS, &AddFriend { code, name })
                    .await?;
                let text = format!(
                    "Added {}. A friendship has two sides: your friend adds your code, too (`slavectl friends code`).",
                    printable(&added.name)
                );
                self.answer(&added, &text)
            }
            Friends::Remove { name } => {
                let done: Nothing = self
                    .client
                    .post(paths::FRIENDS_REMOVE, &FriendName { name })
                    .await?;
                self.answer(&done, "Removed. What is signed between you is kept.")
            }
            Friends::Rekey { new } => self.rekey(new).await,
            Friends::Follow { statement } => {
                let followed: Friend = self
                    .client
                    .post(paths::FRIENDS_FOLLOW, &Follow { statement })
                    .await?;
                let text = format!(
                    "{} has a new key. What was signed with the old one stays and counts; nothing new of the old one does.",
                    printable(&followed.name)
                );
                self.answer(&followed, &text)
            }
            Friends::Ledger { name } => self.ledger(name).await,
            Friends::Verify => self.verify().await,
            Friends::Export { file, force } => self.export(&file, force).await,
            Friends::Import { file } => self.import(&file).await,
        }
    }

    async fn own_code(&mut self, qr: bool) -> Result<(), Failure> {
        let own: OwnCode = self.client.get(paths::FRIENDS_CODE).await?;
        if !(qr || self.io.terminal) || self.json {
            return self.answer(&own, &printable(&own.code));
        }
        let picture = qr_code(&own.code, self.io.colour)?;
        self.answer(&own, &format!("{}\n\n{picture}", printable(&own.code)))
    }

    async fn rekey(&mut self, new: bool) -> Result<(), Failure> {
        let own: OwnSuccession = if new {
            self.client.post(paths::FRIENDS_KEY, &Nothing {}).await?
        } else {
            self.client.get(paths::FRIENDS_KEY).await?
        };
        let next = if own.waits {
            "The new key waits: restart btslave to use it. Then each friend needs the statement above:"
        } else {
            "The key is in use. Each friend needs the statement above:"
        };
        let text = format!(
            "{}\n\n{next}\n`slavectl friends follow STATEMENT`. Your code is now {}",
            printable(&own.statement),
            printable(&own.code)
        );
        self.answer(&own, &text)
    }

    async fn ledger(&mut self, name: Option<String>) -> Result<(), Failure> {
        let mut accounts: Vec<LedgerAccount> = self.client.get(paths::FRIENDS_LEDGER).await?;
        if let Some(name) = name {
            accounts.retain(|account| {
                let codes = std::iter::once(&account.friend).chain(&account.replaced_by);
                account.name.as_ref() == Some(&name)
                    || codes
                        .into_iter()
                        .any(|code| name.starts_with(code.as_str()))
            });
            if accounts.is_empty() {
                let why = "there is no account of this name or code";
                let hint = "`slavectl friends ledger` shows all";
                return Err(Failure::refused(format!("friend {name}"), why, hint));
            }
        }
        let mut page = show::Page::new(self.io);
        show::friends::ledger(&accounts, &mut page);
        let text = page.finish();
        self.answer(&accounts, &text)
    }

    async fn verify(&mut self) -> Result<(), Failure> {
        let check: LedgerCheck = self.client.get(paths::FRIENDS_VERIFY).await?;
        let mut page = show::Page::new(self.io);
        show::friends::check(&check, &mut page);
        let text = page.finish();
        self.answer(&check, &text)?;
        if check.ok {
            return Ok(());
        }
        let hint =
            "restart btslave: it puts a damaged account aside, and the friend shows what it holds";
        Err(Failure::refused("ledger", "an account is damaged", hint))
    }

    async fn export(&mut self, file: &Path, force: bool) -> Result<(), Failure> {
        let export: FriendsExport = self.client.get(paths::FRIENDS_EXPORT).await?;
        write_private(file, &export, force).map_err(|e| {
            let hint = if e.kind() == io::ErrorKind::AlreadyExists {
                "choose another name, or replace it with --force"
            } else {
                "choose another place"
            };
            Failure::refused(file.display().to_string(), e.to_string(), hint)
        })?;
        let text = format!(
            "Wrote {} friends and {} accounts to {}. The secret key is not in it: to move house, copy identity.key from the data directory, too, and identity.next where it is there.",
            export.friends.len(),
            export.accounts.len(),
            printable(&file.display().to_string())
        );
        self.answer(&export, &text)
    }

    async fn import(&mut self, file: &Path) -> Result<(), Failure> {
        let refuse = |why: String| {
            let hint = "name a file that `slavectl friends export` wrote";
            Failure::refused(file.display().to_string(), why, hint)
        };
        let size = std::fs::metadata(file)
            .map_err(|e| refuse(e.to_string()))?
            .len();
        if size > MAX_EXPORT {
            return Err(refuse("is over 4 MiB".to_owned()));
        }
        let bytes = std::fs::read(file).map_err(|e| refuse(e.to_string()))?;
        let export: FriendsExport = serde_json::from_slice(&bytes)
            .map_err(|e| refuse(format!("is no export of friends: {e}")))?;
        let done: Imported = self.client.post(paths::FRIENDS_IMPORT, &export).await?;
        let text = format!(
            "Friends added: {}. IOUs newer than ours: {}, known before: {}.",
            done.friends_added, done.ious_adopted, done.ious_known
        );
        self.answer(&done, &text)
    }
}

/// Writes an export that only its owner reads: whole, or not at all.
fn write_private(file: &Path, export: &FriendsExport, force: bool) -> io::Result<()> {
    if !force && file.symlink_metadata().is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "exists already",
        ));
    }
    let mut draft = file.as_os_str().to_owned();
    draft.push(".new");
    let mut bytes = serde_json::to_vec_pretty(export).map_err(io::Error::other)?;
    bytes.push(b'\n');
    match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let mut open = OpenOptions::new();
    let mut to = open.write(true).create_new(true).mode(0o600).open(&draft)?;
    to.write_all(&bytes)?;
    to.sync_all()?;
    std::fs::rename(&draft, file)
}

/// The code as a picture of half blocks. In upper case, which a QR code holds in fewer dots, and friend codes are read in.
/// Readers want dark on light: in colour that is said outright, else a dark background is taken for granted.
fn qr_code(code: &str, colour: bool) -> Result<String, Failure> {
    let failed = |e: qrcode::types::QrError| Failure::refused("QR code", e.to_string(), "");
    let picture = QrCode::new(code.to_uppercase()).map_err(failed)?;
    let mut renderer = picture.render::<Dense1x2>();
    if !colour {
        let inverted = renderer.dark_color(Dense1x2::Light);
        return Ok(inverted.light_color(Dense1x2::Dark).build());
    }
    let paint = |line: &str| {
        line.style(Style::new().black().on_bright_white())
            .to_string()
    };
    let lines: Vec<String> = renderer.build().lines().map(paint).collect();
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_with_four_hints_fits_a_terminal() {
        let code = format!("bs1{}{}", "q".repeat(59), "@[2001:db8::1]:51413".repeat(4));
        let picture = qr_code(&code, false).expect("fits");
        let width = picture.lines().map(|line| line.chars().count()).max();
        assert!(width.is_some_and(|width| width <= 80), "{width:?}");
        let margin = |picture: &str| picture.lines().next().map(str::to_owned);
        assert!(margin(&picture).is_some_and(|line| line.chars().all(|c| c == '█')));
        let painted = qr_code(&code, true).expect("fits");
        assert!(margin(&painted).is_some_and(|line| line.contains("\u{1b}[")));
        assert_ne!(
            qr_code("BS1QQ", false).expect("fits"),
            qr_code("BS1QP", false).expect("fits")
        );
    }
}
