use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const LINE: Line = Line {
    capacity: 16 * MIB,
    spare: 16 * MIB,
    window: 4 * MIB,
    credit: 64 * MIB,
};

fn standing() -> impl Strategy<Value = Standing> {
    let bytes = || prop_oneof![0u64..1 << 30, 0u64..=i64::MAX as u64];
    (bytes(), bytes(), bytes(), bytes()).prop_map(|(given, received, unsigned, disputed)| {
        Standing {
            given,
            received,
            delivered: given.saturating_add(unsigned),
            disputed,
        }
    })
}

fn want() -> impl Strategy<Value = Want> {
    (standing(), any::<bool>(), 0u64..40 * MIB).prop_map(|(standing, friend, rate)| Want {
        nearness: if friend {
            Nearness::Friend
        } else {
            Nearness::Acquaintance
        },
        standing,
        rate,
    })
}

fn friend(given: u64, received: u64, rate: u64) -> Want {
    Want {
        nearness: Nearness::Friend,
        standing: Standing {
            given,
            received,
            delivered: given,
            disputed: 0,
        },
        rate,
    }
}

#[test]
fn who_gave_back_is_preferred_and_a_newcomer_stands_before_a_debtor() {
    let wants = [
        friend(60 * MIB, 0, 16 * MIB),
        friend(0, 0, 16 * MIB),
        friend(0, 60 * MIB, 16 * MIB),
    ];
    assert_eq!(order(&LINE, &wants), [2, 1, 0]);
    assert_eq!(
        turns(&LINE, &wants),
        [Turn::Rank, Turn::Rank, Turn::Serve(16 * MIB)]
    );
}

#[test]
fn a_debtor_over_the_ceiling_waits_only_where_the_line_is_scarce() {
    let debtor = friend(200 * MIB, 0, 16 * MIB);
    assert_eq!(turns(&LINE, &[debtor]), [Turn::Serve(16 * MIB)]);
    let newcomer = Want {
        nearness: Nearness::Acquaintance,
        ..friend(0, 0, 16 * MIB)
    };
    assert_eq!(
        turns(&LINE, &[debtor, newcomer]),
        [Turn::Ceiling, Turn::Serve(16 * MIB)]
    );
    let modest = Want {
        rate: 4 * MIB,
        ..newcomer
    };
    assert_eq!(
        turns(&LINE, &[debtor, modest]),
        [Turn::Serve(12 * MIB), Turn::Serve(4 * MIB)]
    );
}

//= spec/iou.md#refusal
#[test]
fn disputed_lowers_the_rank_and_refuses_past_a_quarter_and_a_window() {
    let with = |delivered, disputed| Standing {
        delivered,
        disputed,
        ..Standing::default()
    };
    assert!(!refused(&with(4 * MIB, 4 * MIB - 1), 4 * MIB));
    assert!(refused(&with(4 * MIB, 4 * MIB), 4 * MIB), "one window");
    assert_eq!(unsigned_room(&with(9 * MIB, 3 * MIB), 4 * MIB), MIB);
    assert_eq!(unsigned_room(&with(100 * MIB, 3 * MIB), 4 * MIB), 4 * MIB);
    assert!(!refused(&with(100 * MIB, 20 * MIB), 4 * MIB), "a fifth");
    assert!(refused(&with(100 * MIB, 26 * MIB), 4 * MIB));
    assert_eq!(
        by_merit(&with(0, 0), &with(10 * MIB, 2 * MIB), 4 * MIB),
        Ordering::Less
    );
}

proptest! {
    #[test]
    fn the_line_is_never_given_twice(spare in 0u64..64 * MIB, wants in prop::collection::vec(want(), 0..24)) {
        let line = Line { spare, capacity: spare.max(1), ..LINE };
        let given: u64 = turns(&line, &wants)
            .iter()
            .map(|turn| match turn {
                Turn::Serve(rate) => *rate,
                Turn::Trickle | Turn::Rank | Turn::Ceiling | Turn::Refused => 0,
            })
            .sum();
        prop_assert!(given <= spare);
    }

    #[test]
    fn alone_on_a_free_line_nobody_waits_but_the_refused(only in want()) {
        let turn = turns(&LINE, &[only])[0];
        if refused(&only.standing, LINE.window) {
            prop_assert_eq!(turn, Turn::Refused);
        } else {
            prop_assert_eq!(turn, Turn::Serve(only.rate.min(LINE.spare)));
        }
    }

    #[test]
    fn giving_us_more_never_ranks_lower(a in standing(), b in standing(), more in 0u64..1 << 40) {
        let better = Standing { received: a.received.saturating_add(more), ..a };
        let before = by_merit(&a, &b, LINE.window);
        let after = by_merit(&better, &b, LINE.window);
        prop_assert!(after <= before, "{before:?} then {after:?}");
        prop_assert_eq!(by_merit(&b, &a, LINE.window), before.reverse());
    }

    #[test]
    fn nobody_waits_for_the_ceiling_while_its_part_of_the_line_is_free(wants in prop::collection::vec(want(), 1..12)) {
        let total: u64 = wants.iter().map(|want| want.rate).sum();
        let line = Line { spare: total + LINE.capacity, capacity: LINE.capacity, ..LINE };
        for (want, turn) in wants.iter().zip(turns(&line, &wants)) {
            let waits = matches!(turn, Turn::Trickle | Turn::Rank | Turn::Ceiling);
            prop_assert!(!waits, "{want:?} {turn:?}");
        }
    }
}
