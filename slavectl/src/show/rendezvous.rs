//! `rendezvous show`.

use std::path::Path;

use control_api::rendezvous::Rendezvous;

use super::Page;
use crate::printable;

/// `rendezvous show`.
pub(crate) fn list(all: &[Rendezvous], page: &mut Page) {
    if all.is_empty() {
        return page.line(
            "No rendezvous. `slavectl rendezvous join TORRENT` joins one, `slavectl rendezvous host` makes one.",
        );
    }
    for one in all {
        page.title(&printable(&one.name));
        page.field("infohash", &printable(&one.info_hash));
        page.field(
            "role",
            &format!("{}, {}", printable(&one.role), printable(&one.state)),
        );
        page.field(
            "connections",
            &format!("{}, of them slaves: {}", one.peers, one.members),
        );
        page.field(
            "let go",
            &format!("{} that were no slaves", one.strangers_let_go),
        );
        links(one, page);
        for tracker in &one.trackers {
            let why = tracker
                .error
                .as_deref()
                .map_or(String::new(), |why| format!(": {why}"));
            let line = format!("{} {}{why}", tracker.url, tracker.state);
            page.field("tracker", &printable(&line));
        }
    }
}

fn links(one: &Rendezvous, page: &mut Page) {
    if let Some(url) = &one.announce_url {
        let state = match &one.error {
            Some(why) => format!("failed: {why}"),
            None => format!("names {} slaves", one.listed),
        };
        page.field("announce URL", &printable(&format!("{url} {state}")));
    }
    if let Some(url) = &one.torrent_url {
        page.field("torrent", &printable(url));
    }
    page.field("magnet", &printable(&one.magnet));
}

/// What a new host is told.
pub(crate) fn hosted(one: &Rendezvous, file: Option<&Path>, page: &mut Page) {
    page.line(&format!(
        "Hosting {}. Others join by one of these:",
        printable(&one.name)
    ));
    if let Some(file) = file {
        page.field("file", &printable(&file.display().to_string()));
    }
    links(one, page);
}
