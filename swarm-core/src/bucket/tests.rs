use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;

/// A virtual shell: peers with some demand, one timer that is late by up to some microseconds.
struct Line {
    tree: Tree,
    now: u64,
    timer: Option<u64>,
    /// Moment, peer, bytes of each grant.
    log: Vec<(u64, u64, u64)>,
}

impl Line {
    fn new(rate: u64, share: f64, peers: &[(u64, Class, u32)]) -> Self {
        let mut tree = Tree::new(Some(rate), share);
        for &(peer, class, swarm) in peers {
            tree.insert(ConnId(peer), class, SwarmId(swarm));
        }
        Self {
            tree,
            now: 0,
            timer: None,
            log: Vec::new(),
        }
    }

    fn request(&mut self, peer: u64, bytes: u32) -> u32 {
        let grant = self.tree.request(Timestamp(self.now), ConnId(peer), bytes);
        if let Some(at) = grant.arm {
            self.timer = Some(at.0);
        }
        if grant.bytes > 0 {
            self.log.push((self.now, peer, grant.bytes.into()));
        }
        grant.bytes
    }

    /// Runs the timer, late by `late`; returns who was granted what.
    fn fire(&mut self, late: u64) -> Vec<(ConnId, u32)> {
        let mut grants = Vec::new();
        let Some(at) = self.timer else { return grants };
        self.now = self.now.max(at + late);
        self.timer = self
            .tree
            .advance(Timestamp(self.now), &mut grants)
            .map(|at| at.0);
        self.log.extend(
            grants
                .iter()
                .map(|&(peer, bytes)| (self.now, peer.0, u64::from(bytes))),
        );
        grants
    }

    /// Everybody always has `backlog` bytes waiting, until `end`.
    fn saturate(&mut self, peers: &[u64], backlog: u32, end: u64, lateness: &[u64]) {
        let mut late = lateness.iter().cycle();
        for &peer in peers {
            while self.request(peer, backlog) == backlog {}
        }
        while self.now < end && self.timer.is_some() {
            for (peer, _) in self.fire(*late.next().unwrap()) {
                self.request(peer.0, backlog);
            }
        }
    }

    fn sum(&self, peers: &[u64], from: u64, to: u64) -> u64 {
        self.log
            .iter()
            .filter(|&&(at, peer, _)| at >= from && at < to && peers.contains(&peer))
            .map(|g| g.2)
            .sum()
    }

    /// The most bytes in any closed window of a second.
    fn worst_second(&self) -> u64 {
        let (mut worst, mut sum, mut first) = (0, 0, 0);
        for &(at, _, bytes) in &self.log {
            sum += bytes;
            while self.log[first].0 + SECOND < at {
                sum -= self.log[first].2;
                first += 1;
            }
            worst = worst.max(sum);
        }
        worst
    }
}

fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![
        1_000u64..100_000,
        100_000u64..5_000_000,
        5_000_000u64..20_000_000
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_second_carries_at_most_the_rate_and_16_kib(
        rate in rate(),
        asks in prop::collection::vec((0u64..5, 1u32..200_000, 0u64..60_000, 0u64..9_000), 1..400),
    ) {
        let peers: Vec<_> = (0..5).map(|p| (p, if p < 2 { Class::Masters } else { Class::Swarm }, p as u32 / 3)).collect();
        let mut line = Line::new(rate, 0.5, &peers);
        for (peer, bytes, wait, late) in asks {
            let resume = line.now + wait;
            while line.timer.is_some_and(|at| at <= resume) {
                line.fire(late);
            }
            line.now = line.now.max(resume);
            line.request(peer, bytes);
        }
        prop_assert!(line.worst_second() <= rate + 16_384, "{} > {rate} + 16384", line.worst_second());
    }

    #[test]
    fn ten_seconds_under_demand_carry_99_percent(
        rate in rate(), backlog in 1_000u32..200_000, lateness in prop::collection::vec(0u64..5_000, 1..50),
    ) {
        let mut line = Line::new(rate, 0.5, &[(0, Class::Swarm, 0), (1, Class::Swarm, 0), (2, Class::Masters, 1)]);
        // A backlog of less than the timer's lateness carries is no demand for the whole rate.
        let backlog = backlog.max(u32::try_from(rate / 50).unwrap());
        line.saturate(&[0, 1, 2], backlog, 21 * SECOND, &lateness);
        for from in [0, SECOND / 3, 5 * SECOND, 10 * SECOND] {
            let got = line.sum(&[0, 1, 2], from, from + 10 * SECOND);
            prop_assert!(got * 100 >= rate * 10 * 99, "{got} of {} from {from}", rate * 10);
        }
        prop_assert!(line.worst_second() <= rate + 16_384);
    }

    #[test]
    fn masters_get_their_share_while_both_want(rate in 50_000u64..20_000_000, percent in 1u32..100) {
        let mut line = Line::new(rate, f64::from(percent) / 100.0, &[
            (0, Class::Masters, 0), (1, Class::Swarm, 0), (2, Class::Swarm, 1), (3, Class::Swarm, 1),
        ]);
        line.saturate(&[0, 1, 2, 3], 1 << 20, 10 * SECOND, &[0]);
        let all = line.sum(&[0, 1, 2, 3], 0, 10 * SECOND);
        let masters = line.sum(&[0], 0, 10 * SECOND);
        let due = all * u64::from(percent) / 100;
        // One turn more or less, and what the first asker got before the others came.
        let slack = 3 * u64::from(BURST) + rate / RESERVE;
        prop_assert!(masters.abs_diff(due) <= slack, "{masters} of {all}, due {due}");
        // Swarms share alike whatever their number of peers, peers alike within their swarm.
        let (one, two, three) = (line.sum(&[1], 0, u64::MAX), line.sum(&[2], 0, u64::MAX), line.sum(&[3], 0, u64::MAX));
        prop_assert!(one.abs_diff(two + three) <= slack && two.abs_diff(three) <= slack, "{one} {two} {three}");
    }

    #[test]
    fn nothing_is_granted_that_was_not_asked_for(
        rate in rate(), steps in prop::collection::vec((0u8..6, 0u64..4, 0u32..100_000, 0u64..50_000), 1..200),
    ) {
        let mut line = Line::new(rate, 0.5, &[]);
        let mut waits = [0u64; 4];
        for (what, peer, bytes, wait) in steps {
            line.now += wait;
            let (id, class) = (ConnId(peer), if bytes % 2 == 0 { Class::Masters } else { Class::Swarm });
            match what {
                0 => line.tree.insert(id, class, SwarmId(bytes % 3)),
                1 => { line.tree.remove(id); waits[peer as usize] = 0 }
                2 | 3 => {
                    let known = line.tree.leaves.contains_key(&id);
                    let granted = line.request(peer, bytes);
                    prop_assert!(granted <= bytes);
                    waits[peer as usize] = if known { u64::from(bytes - granted) } else { 0 };
                }
                4 => line.tree.spend(Timestamp(line.now), id, bytes % 1_000),
                _ => {
                    line.timer = Some(line.now);
                    for (peer, bytes) in line.fire(0) {
                        let wait = &mut waits[peer.0 as usize];
                        prop_assert!(bytes > 0 && u64::from(bytes) <= *wait);
                        *wait -= u64::from(bytes);
                    }
                }
            }
            prop_assert_eq!(line.tree.next_wake(Timestamp(line.now)).is_some(), waits.iter().any(|&w| w > 0));
        }
    }
}

#[test]
fn what_one_side_cannot_use_goes_to_the_other() {
    let mut line = Line::new(
        1_000_000,
        0.9,
        &[(0, Class::Masters, 0), (1, Class::Swarm, 0)],
    );
    line.saturate(&[1], 1 << 20, 5 * SECOND, &[0]);
    assert!(
        line.sum(&[1], 0, u64::MAX) >= 4_950_000,
        "alone it has the whole line"
    );
    // The master comes back after five idle seconds: its share and no more.
    let before = line.sum(&[1], 0, u64::MAX);
    line.saturate(&[0, 1], 1 << 20, 10 * SECOND, &[0]);
    let (master, other) = (
        line.sum(&[0], 0, u64::MAX),
        line.sum(&[1], 0, u64::MAX) - before,
    );
    assert!(master.abs_diff(other * 9) < 400_000, "{master} and {other}");
}

#[test]
fn guests_have_their_share_of_what_masters_leave() {
    let peers = [
        (0, Class::Masters, 0),
        (1, Class::Guests, 0),
        (2, Class::Swarm, 0),
        (3, Class::Swarm, 0),
    ];
    let mut line = Line::new(1_000_000, 0.6, &peers);
    line.tree.set_guest_share(0.75);
    line.saturate(&[0, 1, 2, 3], 1 << 20, 10 * SECOND, &[0]);
    let of = |peers: &[u64]| line.sum(peers, 0, u64::MAX);
    let (masters, guests, swarm) = (of(&[0]), of(&[1]), of(&[2, 3]));
    for (got, due) in [
        (masters, 6_000_000),
        (guests, 3_000_000),
        (swarm, 1_000_000),
    ] {
        assert!(
            u64::abs_diff(got, due) < 100_000,
            "{masters}, {guests}, {swarm}"
        );
    }
    // Without a master three quarters are the guests'.
    line.tree.remove(ConnId(0));
    line.saturate(&[1, 2, 3], 1 << 20, 20 * SECOND, &[0]);
    let more = line.sum(&[1], 0, u64::MAX) - guests;
    assert!(more.abs_diff(7_500_000) < 700_000, "{more}");
}

#[test]
fn what_guests_leave_is_the_swarms_and_not_the_masters() {
    let peers = [
        (0, Class::Masters, 0),
        (1, Class::Guests, 0),
        (2, Class::Swarm, 0),
    ];
    let mut line = Line::new(1_000_000, 0.5, &peers);
    line.tree.set_guest_share(0.9);
    line.saturate(&[0, 2], 1 << 20, 10 * SECOND, &[0]);
    let of = |peers: &[u64]| line.sum(peers, 0, u64::MAX);
    let (masters, swarm) = (of(&[0]), of(&[2]));
    assert!(masters.abs_diff(swarm) < 100_000, "{masters}, {swarm}");
}

#[test]
fn unlimited_keeps_no_books_and_a_new_limit_holds_at_once() {
    let mut tree = Tree::new(None, 0.5);
    assert!(tree.is_unlimited());
    assert_eq!(
        tree.request(Timestamp(0), ConnId(7), u32::MAX),
        Grant {
            bytes: u32::MAX,
            arm: None
        }
    );
    tree.insert(ConnId(7), Class::Swarm, SwarmId(0));
    tree.set_rate(Timestamp(50 * SECOND), Some(1_000));
    let grant = tree.request(Timestamp(50 * SECOND), ConnId(7), 500);
    assert_eq!(
        (grant.bytes, grant.arm.is_some()),
        (0, true),
        "no credit from the time without a limit"
    );
    tree.set_rate(Timestamp(50 * SECOND), None);
    let mut grants = Vec::new();
    assert_eq!(tree.advance(Timestamp(50 * SECOND), &mut grants), None);
    assert_eq!(grants, [(ConnId(7), 500)], "those who waited go at once");
}

#[test]
fn control_bytes_are_paid_for_by_later_grants_and_refunds_return() {
    let mut line = Line::new(100_000, 0.5, &[(0, Class::Swarm, 0)]);
    line.now = SECOND;
    assert_eq!(line.request(0, 10_000), 10_000);
    line.tree.refund(10_000);
    assert_eq!(line.request(0, 16_000), 16_000);
    line.tree.spend(Timestamp(line.now), ConnId(0), 50_000);
    assert_eq!(line.request(0, 3_000), 0);
    let at = line.timer.expect("it waits");
    assert!(
        (1_500_000..1_600_000).contains(&at),
        "half a second to pay back: {at}"
    );
    assert_eq!(line.fire(0), [(ConnId(0), 3_000)]);
}
