//! The schedule in the brain: the rates change at the minute the clock shows, whatever it shows.
#![forbid(unsafe_code)]

use swarm_core::io::{Input, Limits, Output, Wall};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::schedule::{DAY, Window};
use swarm_core::time::Timestamp;

const SUNDAY: u16 = 6 * DAY;

fn node(schedule: Vec<Window>) -> Node {
    let limits = Limits {
        upload: Some(1 << 20),
        schedule,
        connections: 10,
        cache: 1 << 20,
        cache_memory: 1 << 20,
        ..Limits::default()
    };
    Node::new(Params::new(limits, [7; 20]), 1)
}

/// The upload rates said as the clock shows these minutes, `None` where nothing was said.
fn rates(minutes: impl IntoIterator<Item = u16>, schedule: Vec<Window>) -> Vec<Option<u64>> {
    let mut node = node(schedule);
    let mut said = Vec::new();
    for (n, minute) in minutes.into_iter().enumerate() {
        let now = Timestamp::from_millis(n as u64 * 60_000);
        node.handle(
            now,
            Input::Wall(Wall {
                month: 24_314,
                minute,
            }),
        );
        let mut rate = None;
        while let Some(output) = node.poll_output() {
            if let Output::Rates(rates) = output {
                rate = rates.upload;
            }
        }
        assert_eq!(
            node.view().upload_limit_bps,
            node.view().upload_capacity_bps.into()
        );
        said.push(rate);
    }
    said
}

fn window(from: u16, to: u16) -> Vec<Window> {
    let days = 0b111_1111;
    vec![Window {
        days,
        from,
        to,
        upload: Some(Some(20_480)),
        download: None,
    }]
}

#[test]
fn the_rate_changes_at_the_minute_and_is_said_once() {
    let said = rates((0..6).map(|n| SUNDAY + 118 + n), window(120, 122));
    assert_eq!(
        said,
        [Some(1 << 20), None, Some(20_480), None, Some(1 << 20), None]
    );
}

#[test]
fn summer_time_leaves_a_window_out_and_winter_time_repeats_it() {
    // 01:59 is followed by 03:00.
    let said = rates([118, 119, 180, 181].map(|n| SUNDAY + n), window(120, 180));
    assert_eq!(said, [Some(1 << 20), None, None, None]);
    // 02:59 is followed by 02:00.
    let said = rates(
        [178, 179, 120, 121, 179, 180].map(|n| SUNDAY + n),
        window(150, 180),
    );
    let (usual, slow) = (Some(1 << 20), Some(20_480));
    assert_eq!(said, [slow, None, usual, None, slow, usual]);
}
