//! `aid`: who helps whom, and what is wanted.

use control_api::aid::{Aid, Asking, Direction, Help, Want};
use control_api::units::human_bytes;

use super::{Page, bytes, cell, name, state, swarms};

/// `aid list`.
pub(crate) fn page(aid: &Aid, page: &mut Page) {
    let columns = [
        ("FRIEND", false),
        ("DIRECTION", false),
        ("TORRENT", false),
        ("STATE", false),
        ("RESERVED", true),
        ("DELIVERED", true),
        ("SIGNED", true),
        ("WAITS", false),
    ];
    let rows = aid.helps.iter().map(|help| row(help).collect()).collect();
    let empty =
        "No help under way. Friends are asked when a master is short; `slavectl aid ask` asks now.";
    page.table(&columns, rows, empty);
    if aid.wants.is_empty() {
        return;
    }
    page.title("WANTED");
    let columns = [
        ("HASH", false),
        ("TORRENT", false),
        ("MASTER", false),
        ("LACKS", true),
        ("ASKING", false),
    ];
    page.table(&columns, aid.wants.iter().map(want).collect(), "");
}

fn row(help: &Help) -> impl Iterator<Item = comfy_table::Cell> {
    let direction = match help.direction {
        Direction::Asked => "helps us",
        Direction::Given => "is helped",
    };
    let torrent = help.name.as_deref().unwrap_or("not known yet");
    let pieces = match help.reserved_pieces {
        0 => "-".to_owned(),
        1 => "1 piece".to_owned(),
        many => format!("{many} pieces"),
    };
    [
        cell(name(&help.friend)),
        cell(direction),
        cell(name(torrent)),
        state(&help.state),
        cell(pieces),
        bytes(help.delivered_bytes),
        bytes(help.signed_bytes),
        cell(help.waits.as_deref().map(name).unwrap_or_default()),
    ]
    .into_iter()
}

fn want(want: &Want) -> Vec<comfy_table::Cell> {
    let asking = match (want.asking, want.left_bytes) {
        (Asking::ByHand, Some(left)) => format!("by hand, {} left", human_bytes(left)),
        (Asking::ByHand, None) => "by hand, until it has everything".to_owned(),
        (Asking::Short, _) => "by itself: it is short".to_owned(),
        (Asking::No, _) => "no: it is not short".to_owned(),
        (Asking::Stopped, _) => "no: stopped".to_owned(),
    };
    let torrent = want.name.as_deref().unwrap_or("not known now");
    let master = want.master.as_deref().map_or_else(|| "-".to_owned(), name);
    vec![
        cell(swarms::short(&want.info_hash)),
        cell(name(torrent)),
        cell(master),
        bytes(want.missing_bytes),
        cell(asking),
    ]
}
