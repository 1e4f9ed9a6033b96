//! `pex.json`: the `ut_pex` payloads by which an asker introduces helpers to its master.

use std::net::SocketAddr;

use bt_wire::extension::{PexMessage, PexPeer};
use serde::{Deserialize, Serialize};

use crate::support::{hex, read, text, unhex};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    introductions: Vec<Introduction>,
}

#[derive(Serialize, Deserialize)]
struct Introduction {
    name: String,
    added: Vec<String>,
    dropped: Vec<String>,
    payload: String,
}

fn endpoints(texts: &[String]) -> Vec<SocketAddr> {
    let one = |text: &String| text.parse().expect("an endpoint");
    texts.iter().map(one).collect()
}

/// Introduced helpers carry no flags: above all not the one of a seed, whom a master that is a seed itself drops.
fn message(added: &[String], dropped: &[String]) -> PexMessage {
    let peer = |addr| PexPeer { addr, flags: 0 };
    PexMessage {
        added: endpoints(added).into_iter().map(peer).collect(),
        dropped: endpoints(dropped),
        ignored: 0,
    }
}

pub(crate) fn generate() -> String {
    let (v4, v6) = ("198.51.100.1:6881", "[2001:db8::7]:51413");
    let many: Vec<String> = (1..=50).map(|at| format!("198.51.100.{at}:6881")).collect();
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let cases: Vec<(&str, Vec<String>, Vec<String>)> = vec![
        ("one helper", owned(&[v4]), vec![]),
        ("one of IPv4, one of IPv6", owned(&[v4, v6]), vec![]),
        ("helpers that went", vec![], owned(&[v4, v6])),
        (
            "one came, one went",
            owned(&["198.51.100.2:6881"]),
            owned(&[v4]),
        ),
        ("as many as may be", many, vec![]),
    ];
    text(&File {
        subject: "introductions".into(),
        spec: "friends.md".into(),
        introductions: cases
            .into_iter()
            .map(|(name, added, dropped)| Introduction {
                name: name.into(),
                payload: hex(message(&added, &dropped).encode()),
                added,
                dropped,
            })
            .collect(),
    })
}

//= spec/friends.md#pex-flags
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for case in &file.introductions {
        let message = message(&case.added, &case.dropped);
        assert_eq!(hex(message.encode()), case.payload, "{}", case.name);
        let parsed = PexMessage::parse(&unhex(&case.payload)).expect("ours");
        assert_eq!(parsed, message, "{}", case.name);
        assert!(parsed.added.iter().all(|peer| peer.flags & 0x02 == 0));
    }
}
