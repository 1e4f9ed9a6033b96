//! What they say of themselves: flags, their set, extended messages.

use bt_wire::bitfield::Bitfield;
use bt_wire::extension::{
    BS_FRIENDS, ExtendedHandshake, HANDSHAKE, LT_DONTHAVE, LtDontHave, MetadataMessage, PexMessage,
    UT_METADATA, UT_PEX,
};
use bt_wire::message::BlockRef;
use bytes::Bytes;

use super::{Event, Session, Violation};
use crate::io::{ConnFact, Extended};
use crate::time::Timestamp;

impl Session {
    pub(super) fn on_choke(&mut self, now: Timestamp, choked: bool) {
        if self.choked == choked {
            self.count.repeats += 1;
            return;
        }
        self.choked = choked;
        self.out.facts.edge(now, ConnFact::Choking(choked));
        self.down.choke(now, choked, &mut self.out);
    }

    pub(super) fn on_interest(&mut self, now: Timestamp, interested: bool) {
        if self.their_interest == interested {
            self.count.repeats += 1;
            return;
        }
        self.their_interest = interested;
        self.out.facts.edge(now, ConnFact::Interested(interested));
    }

    pub(super) fn on_have(&mut self, now: Timestamp, piece: u32) -> Result<(), Violation> {
        self.check(piece)?;
        self.set_known = true;
        if self.theirs.set(piece, true) {
            self.out.facts.push(now, ConnFact::Have(piece));
        } else {
            self.count.repeats += 1;
        }
        Ok(())
    }

    pub(super) fn on_bitfield(&mut self, now: Timestamp, bits: &[u8]) -> Result<(), Violation> {
        let Some(layout) = self.cfg.layout else {
            return Ok(());
        };
        let theirs = Bitfield::from_wire(bits, layout.piece_count)?;
        self.count.sets_replaced += u64::from(self.set_known);
        let known = core::mem::replace(&mut self.set_known, true);
        if known && theirs == self.theirs {
            return Ok(());
        }
        let fact = if theirs.is_full() {
            ConnFact::HaveAll
        } else {
            ConnFact::Bitfield(bits.to_vec())
        };
        self.theirs = theirs;
        self.out.facts.edge(now, fact);
        Ok(())
    }

    pub(super) fn on_whole_set(&mut self, now: Timestamp, all: bool) {
        let Some(layout) = self.cfg.layout else {
            return;
        };
        let theirs = if all {
            Bitfield::full(layout.piece_count)
        } else {
            Bitfield::new(layout.piece_count)
        };
        self.count.sets_replaced += u64::from(self.set_known);
        let known = core::mem::replace(&mut self.set_known, true);
        if !known || theirs != self.theirs {
            self.theirs = theirs;
            self.out.facts.edge(
                now,
                if all {
                    ConnFact::HaveAll
                } else {
                    ConnFact::HaveNone
                },
            );
        }
    }

    pub(super) fn on_request(&mut self, now: Timestamp, block: BlockRef) -> Result<(), Violation> {
        match self.cfg.layout {
            Some(layout) => self
                .up
                .request(now, block, &layout, &mut self.count, &mut self.out),
            // Nobody can have been told of any piece.
            None => Err(Violation::NoSuchPiece(block.piece)),
        }
    }

    pub(super) fn on_extended(
        &mut self,
        now: Timestamp,
        id: u8,
        payload: &Bytes,
    ) -> Result<(), Violation> {
        match id {
            HANDSHAKE => return self.on_extended_handshake(now, payload),
            UT_METADATA => match MetadataMessage::parse(payload) {
                Ok(message) => self.event(Event::Metadata(message)),
                Err(_) => self.count.extended_malformed += 1,
            },
            UT_PEX => match PexMessage::parse(payload) {
                Ok(message) => self.event(Event::Pex(message)),
                Err(_) => self.count.extended_malformed += 1,
            },
            LT_DONTHAVE => match LtDontHave::parse(payload) {
                Some(LtDontHave { piece }) => {
                    self.check(piece)?;
                    if self.theirs.set(piece, false) {
                        self.out.facts.edge(now, ConnFact::DontHave(piece));
                        self.down.dont_have(now, piece, &mut self.out);
                    } else {
                        self.count.repeats += 1;
                    }
                }
                None => self.count.extended_malformed += 1,
            },
            BS_FRIENDS if self.cfg.hello.m.bs_friends.is_some() => {
                self.event(Event::Friends(payload.clone()));
            }
            _ => self.count.unknown_messages += 1,
        }
        Ok(())
    }

    pub(super) fn on_extended_handshake(
        &mut self,
        now: Timestamp,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let theirs = ExtendedHandshake::parse(payload)?;
        self.count.extended_malformed += u64::from(theirs.out_of_range);
        // It may come again (BEP 10); what a later one leaves out stays as it was.
        if let Some(reqq) = theirs.reqq {
            self.down.set_reqq(reqq);
        }
        self.donthave = theirs.m.lt_donthave.or(self.donthave);
        let fact = ConnFact::Extended(Extended {
            reqq: theirs.reqq,
            donthave: self.donthave.is_some(),
            pex: theirs.m.ut_pex.is_some(),
            upload_only: theirs.upload_only,
            repeater: theirs.bs_repeater,
            listen_port: theirs.p,
            client: theirs.v.clone(),
        });
        self.out.facts.edge(now, fact);
        self.event(Event::Extended(Box::new(theirs)));
        Ok(())
    }
}
