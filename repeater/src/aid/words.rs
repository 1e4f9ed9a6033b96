//! Between the brain's words about a help and the messages on the wire.

use friends_proto::message::{
    Arrived, Ask, Decline, DeclineReason, Deliveries, Fetching, HelpId, MAX_HELPER_ENDPOINTS,
    MAX_MASTER_ENDPOINTS, MAX_RATE, MAX_TOTAL, Message, Offer, PieceSet, Progress, Release,
    Reserve, Stop, StopReason, TorrentHash,
};
use swarm_core::io::friends as brain;
use swarm_core::policy::delivery::Delivery;
use swarm_core::policy::help as policy;

const DELIVERIES: [(Deliveries, Delivery); 4] = [
    (Deliveries::RPC, Delivery::Rpc),
    (Deliveries::INTRODUCED, Delivery::Introduced),
    (Deliveries::DIALLED, Delivery::Dialled),
    (Deliveries::RELAYED, Delivery::Relayed),
];

fn bits(ways: &[Delivery]) -> Deliveries {
    DELIVERIES
        .into_iter()
        .filter(|(_, way)| ways.contains(way))
        .fold(Deliveries::default(), |all, (bit, _)| all.or(bit))
}

fn ways(bits: Deliveries) -> Vec<Delivery> {
    DELIVERIES
        .into_iter()
        .filter(|(bit, _)| bits.has(*bit))
        .map(|(_, way)| way)
        .collect()
}

fn decline_to_wire(why: policy::Decline) -> DeclineReason {
    match why {
        policy::Decline::Busy | policy::Decline::Limit => DeclineReason::Busy,
        policy::Decline::Pool => DeclineReason::Credit,
        policy::Decline::TooBig => DeclineReason::NoRoom,
        policy::Decline::Private => DeclineReason::Private,
        policy::Decline::Disputed | policy::Decline::Off | policy::Decline::Invalid => {
            DeclineReason::Refused
        }
    }
}

fn decline_from_wire(why: DeclineReason) -> policy::Decline {
    match why {
        // Over the ceiling means: others come first.
        DeclineReason::Busy | DeclineReason::Credit => policy::Decline::Busy,
        DeclineReason::NoRoom => policy::Decline::TooBig,
        DeclineReason::Private => policy::Decline::Private,
        DeclineReason::NoDelivery => policy::Decline::Invalid,
        DeclineReason::Refused => policy::Decline::Off,
    }
}

fn stop_to_wire(why: brain::StopReason) -> StopReason {
    match why {
        brain::StopReason::Done => StopReason::Done,
        brain::StopReason::UnknownId => StopReason::UnknownId,
        brain::StopReason::Unpaid => StopReason::Unpaid,
        brain::StopReason::NoDelivery => StopReason::NoDelivery,
        brain::StopReason::Leaving => StopReason::Leaving,
        brain::StopReason::Refused => StopReason::Refused,
    }
}

fn stop_from_wire(why: StopReason) -> brain::StopReason {
    match why {
        StopReason::Done => brain::StopReason::Done,
        StopReason::UnknownId => brain::StopReason::UnknownId,
        StopReason::Unpaid => brain::StopReason::Unpaid,
        StopReason::NoDelivery => brain::StopReason::NoDelivery,
        StopReason::Leaving => brain::StopReason::Leaving,
        StopReason::Refused => brain::StopReason::Refused,
    }
}

/// The messages that say this; sets of pieces may take several.
pub(super) fn to_wire(said: brain::HelpMessage) -> Vec<Message> {
    match said {
        brain::HelpMessage::Ask(ask) => vec![Message::Ask(ask_to_wire(ask))],
        brain::HelpMessage::Offer {
            id,
            rate,
            room,
            deliveries,
            mut at,
        } => {
            at.truncate(MAX_HELPER_ENDPOINTS);
            vec![Message::Offer(Offer {
                id: HelpId(id.0),
                rate: rate.clamp(1, MAX_RATE),
                room: room.clamp(1, MAX_TOTAL),
                deliveries: bits(&deliveries),
                at,
            })]
        }
        brain::HelpMessage::Decline { id, why } => vec![Message::Decline(Decline {
            id: HelpId(id.0),
            why: decline_to_wire(why),
        })],
        brain::HelpMessage::Reserve { id, pieces } => PieceSet::cover(pieces)
            .into_iter()
            .map(|pieces| {
                let id = HelpId(id.0);
                Message::Reserve(Reserve { id, pieces })
            })
            .collect(),
        brain::HelpMessage::Progress {
            id,
            held,
            delivered,
            bytes,
        } => progress(HelpId(id.0), held, delivered, bytes),
        brain::HelpMessage::Fetching { id, now, next } => vec![Message::Fetching(Fetching {
            id: HelpId(id.0),
            // What lies beyond one set is of no use to the asker this moment.
            now: PieceSet::cover(now).into_iter().next(),
            next: PieceSet::cover(next).into_iter().next(),
        })],
        brain::HelpMessage::Release { id, pieces } => {
            let nothing = pieces.is_empty().then(PieceSet::nothing);
            let sets = nothing.into_iter().chain(PieceSet::cover(pieces));
            let id = HelpId(id.0);
            sets.map(|pieces| Message::Release(Release { id, pieces }))
                .collect()
        }
        brain::HelpMessage::Arrived { id, from } => vec![Message::Arrived(Arrived {
            id: HelpId(id.0),
            from,
        })],
        brain::HelpMessage::Stop { id, why } => vec![Message::Stop(Stop {
            id: HelpId(id.0),
            why: stop_to_wire(why),
        })],
    }
}

fn ask_to_wire(mut ask: brain::Ask) -> Ask {
    ask.master.truncate(MAX_MASTER_ENDPOINTS);
    Ask {
        id: HelpId(ask.id.0),
        torrent: TorrentHash::V1(ask.info_hash),
        size: ask.size,
        piece_length: ask.piece_length,
        want: ask.wanted.clamp(1, ask.size.max(1)),
        master: ask.master,
        deliveries: bits(&ask.deliveries),
        private: ask.private,
        trackers: Vec::new(),
    }
}

fn progress(id: HelpId, held: Vec<u32>, delivered: Vec<u32>, bytes: u64) -> Vec<Message> {
    let bytes = bytes.min(MAX_TOTAL);
    let mut held = PieceSet::cover(held).into_iter();
    let mut delivered = PieceSet::cover(delivered).into_iter();
    let mut messages = Vec::new();
    loop {
        let (one, other) = (held.next(), delivered.next());
        if one.is_none() && other.is_none() && !messages.is_empty() {
            return messages;
        }
        messages.push(Message::Progress(Progress {
            id,
            held: one,
            delivered: other,
            bytes,
        }));
    }
}

/// What a message says to the brain; `None` when it is the desk's own, or of a torrent the brain does not know.
pub(super) fn from_wire(message: &Message) -> Option<brain::HelpMessage> {
    let id = |id: HelpId| brain::HelpId(id.0);
    let pieces = |set: &Option<PieceSet>| set.iter().flat_map(PieceSet::pieces).collect();
    Some(match message {
        Message::Ask(ask) => {
            let TorrentHash::V1(info_hash) = ask.torrent else {
                return None;
            };
            brain::HelpMessage::Ask(brain::Ask {
                id: id(ask.id),
                info_hash,
                size: ask.size,
                piece_length: ask.piece_length,
                wanted: ask.want,
                master: ask.master.clone(),
                deliveries: ways(ask.deliveries),
                private: ask.private,
            })
        }
        Message::Offer(offer) => brain::HelpMessage::Offer {
            id: id(offer.id),
            rate: offer.rate,
            room: offer.room,
            deliveries: ways(offer.deliveries),
            at: offer.at.clone(),
        },
        Message::Decline(decline) => brain::HelpMessage::Decline {
            id: id(decline.id),
            why: decline_from_wire(decline.why),
        },
        Message::Reserve(reserve) => brain::HelpMessage::Reserve {
            id: id(reserve.id),
            pieces: reserve.pieces.pieces().collect(),
        },
        Message::Progress(progress) => brain::HelpMessage::Progress {
            id: id(progress.id),
            held: pieces(&progress.held),
            delivered: pieces(&progress.delivered),
            bytes: progress.bytes,
        },
        Message::Fetching(fetching) => brain::HelpMessage::Fetching {
            id: id(fetching.id),
            now: pieces(&fetching.now),
            next: pieces(&fetching.next),
        },
        Message::Release(release) => brain::HelpMessage::Release {
            id: id(release.id),
            pieces: release.pieces.pieces().collect(),
        },
        Message::Arrived(arrived) => brain::HelpMessage::Arrived {
            id: id(arrived.id),
            from: arrived.from,
        },
        Message::Stop(stop) => brain::HelpMessage::Stop {
            id: id(stop.id),
            why: stop_from_wire(stop.why),
        },
        Message::Hello(_)
        | Message::Sync(_)
        | Message::MetaAsk(_)
        | Message::Meta(_)
        | Message::MetaNone(_)
        | Message::Iou(_)
        | Message::Bye(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives_and_piece_0_is_a_piece() {
        let id = brain::HelpId(7);
        let said = [
            brain::HelpMessage::Reserve {
                id,
                pieces: vec![0, 3, 40_000],
            },
            brain::HelpMessage::Progress {
                id,
                held: vec![0, 70_000],
                delivered: vec![],
                bytes: 9,
            },
            brain::HelpMessage::Fetching {
                id,
                now: vec![0, 9],
                next: vec![1, 32_767],
            },
            // A question whether the help is known, and sent though nothing is in it.
            brain::HelpMessage::Release { id, pieces: vec![] },
            brain::HelpMessage::Stop {
                id,
                why: brain::StopReason::Unpaid,
            },
        ];
        for one in said {
            let wire = to_wire(one.clone());
            let mut got: Vec<_> = wire
                .iter()
                .filter_map(|m| {
                    Message::decode(&m.encode())
                        .ok()
                        .as_ref()
                        .and_then(from_wire)
                })
                .collect();
            match (&one, got.as_mut_slice()) {
                (
                    brain::HelpMessage::Stop { .. }
                    | brain::HelpMessage::Release { .. }
                    | brain::HelpMessage::Fetching { .. },
                    [only],
                ) => assert_eq!(*only, one),
                (brain::HelpMessage::Reserve { pieces, .. }, parts) => {
                    let all = parts.iter().flat_map(|part| {
                        let brain::HelpMessage::Reserve { pieces, .. } = part else {
                            return Vec::new();
                        };
                        pieces.clone()
                    });
                    assert_eq!(all.collect::<Vec<_>>(), *pieces);
                }
                (brain::HelpMessage::Progress { held, .. }, parts) => {
                    let all = parts.iter().flat_map(|part| {
                        let brain::HelpMessage::Progress { held, bytes: 9, .. } = part else {
                            return Vec::new();
                        };
                        held.clone()
                    });
                    assert_eq!(all.collect::<Vec<_>>(), *held);
                }
                (other, parts) => panic!("{other:?}: {parts:?}"),
            }
        }
    }

    #[test]
    fn unknown_deliveries_mean_nothing_and_the_order_is_the_lowest_first() {
        assert_eq!(
            ways(Deliveries(0xfa)),
            [Delivery::Introduced, Delivery::Relayed]
        );
        assert_eq!(bits(&[Delivery::Relayed, Delivery::Rpc]), Deliveries(0x09));
    }
}
