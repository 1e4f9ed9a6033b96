//! `ledgers.json`: what becomes of an account step by step, stores that are opened, ceilings and windows.

use friends_proto::iou::SignedIou;
use friends_proto::ledger::{
    Account, AccountRecord, BesideKey, Direction, IouRecord, Receipt, SignRefusal, State,
    StoreEpoch, Unpersisted, ceiling_bytes, window_bytes,
};
use serde::{Deserialize, Serialize};

use crate::support::{ALICE, BOB, CAROL, array, hex, identity, key, read, signed, text, unhex};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    accounts: Vec<Story>,
    openings: Vec<Opening>,
    ceilings: Vec<Ceiling>,
    windows: Vec<Window>,
}

/// An account and what happens to it.
#[derive(Serialize, Deserialize)]
struct Story {
    name: String,
    secret: String,
    friend: String,
    /// The store as it is opened.
    store: Store,
    /// The account as the store has it; all absent: a new friend.
    given: Option<String>,
    received: Option<String>,
    synced_at: Option<u64>,
    steps: Vec<Step>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
struct Store {
    number: u64,
    broken_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Step {
    /// `begin_session`, `sync`, `receive`, `prepare` or `persisted`.
    step: String,
    /// Signed IOUs: those shown in a sync, the one received.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ious: Vec<String>,
    /// The total to be signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<String>,
    /// What comes of it: `done`, an outcome, or why it is refused.
    outcome: String,
    /// The IOU that may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<String>,
    /// Afterwards: both totals, the state, and the received total that the store must hold.
    given: String,
    received: String,
    recorded: String,
    state: String,
}

#[derive(Serialize, Deserialize)]
struct Opening {
    name: String,
    /// `new_key`, `missing`, or the number.
    beside_key: String,
    store: Option<Store>,
    opened: Store,
}

#[derive(Serialize, Deserialize)]
struct Ceiling {
    credit: String,
    given: String,
    received: String,
    ceiling: String,
}

#[derive(Serialize, Deserialize)]
struct Window {
    configured: String,
    rate_per_second: String,
    window: String,
}

/// A step before it is taken.
enum Do {
    Begin,
    Sync(Vec<SignedIou>),
    Receive(Box<SignedIou>),
    Prepare(u64),
    Persisted,
}

fn states(state: State) -> &'static str {
    match state {
        State::Fresh => "fresh",
        State::Restored => "restored",
        State::Synced => "synced",
    }
}

fn refusal(refusal: &SignRefusal) -> &'static str {
    match refusal {
        SignRefusal::NotSynced => "not_synced",
        SignRefusal::Unpersisted => "unpersisted",
        SignRefusal::NotMore { .. } => "not_more",
        SignRefusal::Terms(_) => "too_large",
        SignRefusal::NotDebtor => "not_debtor",
    }
}

fn sync(account: &mut Account, shown: &[SignedIou]) -> &'static str {
    let Ok(report) = account.sync(shown) else {
        return "not_ours";
    };
    match (
        report.contradiction,
        report.adopted_bytes,
        report.news_bytes,
    ) {
        (Some(_), 0, _) => "contradiction",
        (Some(_), _, _) => "contradiction and adopted",
        (None, 0, 0) => "done",
        (None, 0, _) => "newer",
        (None, _, 0) => "adopted",
        (None, _, _) => "adopted and newer",
    }
}

fn receive(account: &mut Account, iou: &SignedIou) -> &'static str {
    match account.receive(iou) {
        Receipt::Newer { direction, .. } => match direction {
            Direction::Given => "newer",
            Direction::Received => "adopted",
        },
        Receipt::Same => "same",
        Receipt::Stale { .. } => "stale",
        Receipt::NotOurs => "not_ours",
    }
}

/// Takes a step and writes down what came of it.
fn take(
    account: &mut Account,
    secret: &[u8; 32],
    token: &mut Option<Unpersisted>,
    what: Do,
) -> Step {
    let (mut ious, mut total, mut sent) = (Vec::new(), None, None);
    let encoded = |iou: &SignedIou| hex(iou.encode());
    let (step, outcome) = match what {
        Do::Begin => {
            account.begin_session();
            ("begin_session", "done")
        }
        Do::Sync(shown) => {
            ious = shown.iter().map(encoded).collect();
            ("sync", sync(account, &shown))
        }
        Do::Receive(iou) => {
            ious = vec![encoded(&iou)];
            ("receive", receive(account, &iou))
        }
        Do::Prepare(bytes) => {
            total = Some(bytes.to_string());
            match account.prepare(&identity(secret), bytes) {
                Ok((_, made)) => {
                    *token = Some(made);
                    ("prepare", "done")
                }
                Err(why) => ("prepare", refusal(&why)),
            }
        }
        Do::Persisted => {
            let made = token.take().expect("prepared before");
            sent = Some(encoded(&account.persisted(&made).expect("its token")));
            ("persisted", "done")
        }
    };
    let recorded = account
        .record()
        .received
        .map_or(0, |kept| kept.verify().expect("ours").iou().total_bytes());
    Step {
        step: step.into(),
        ious,
        total,
        outcome: outcome.into(),
        sent,
        given: account.given_bytes().to_string(),
        received: account.received_bytes().to_string(),
        recorded: recorded.to_string(),
        state: states(account.state()).into(),
    }
}

fn epoch(store: Store) -> StoreEpoch {
    StoreEpoch {
        number: store.number,
        broken_at: store.broken_at,
    }
}

fn open(story: &Story) -> Account {
    let secret: [u8; 32] = array(&story.secret);
    let kept = |iou: &Option<String>| {
        iou.as_ref()
            .map(|iou| IouRecord::from(&SignedIou::decode(&unhex(iou)).expect("an IOU")))
    };
    let record = AccountRecord {
        friend: array(&story.friend),
        given: kept(&story.given),
        received: kept(&story.received),
        synced_at: story.synced_at,
        delivered_bytes: 0,
        disputed_bytes: 0,
    };
    Account::open(key(&secret), &record, epoch(story.store)).expect("verifies")
}

/// Alice's account with Bob.
fn story(
    name: &str,
    store: Store,
    (given, received): (Option<u64>, Option<u64>),
    synced_at: Option<u64>,
    steps: Vec<Do>,
) -> Story {
    let kept = |iou: Option<SignedIou>| iou.map(|iou| hex(iou.encode()));
    let mut story = Story {
        name: name.into(),
        secret: hex(ALICE),
        friend: hex(key(&BOB).as_bytes()),
        store,
        given: kept(given.map(given_of)),
        received: kept(received.map(received_of)),
        synced_at,
        steps: Vec::new(),
    };
    let (mut account, mut token) = (open(&story), None);
    for what in steps {
        story
            .steps
            .push(take(&mut account, &ALICE, &mut token, what));
    }
    story
}

/// What Bob signed to owe Alice.
fn given_of(total: u64) -> SignedIou {
    signed(&ALICE, &BOB, total)
}

/// What Alice signed to owe Bob.
fn received_of(total: u64) -> SignedIou {
    signed(&BOB, &ALICE, total)
}

/// The third opening of a store that was never broken.
const WHOLE: Store = Store {
    number: 3,
    broken_at: None,
};
/// The fourth opening, at which the store was found broken.
const BROKEN: Store = Store {
    number: 4,
    broken_at: Some(4),
};
const NONE: (Option<u64>, Option<u64>) = (None, None);

/// A session's beginning, in which the friend shows this, and what follows.
fn session(shown: Vec<SignedIou>, rest: Vec<Do>) -> Vec<Do> {
    let mut steps = vec![Do::Begin, Do::Sync(shown)];
    steps.extend(rest);
    steps
}

fn one(iou: SignedIou) -> Do {
    Do::Receive(Box::new(iou))
}

fn all_given(totals: &[u64]) -> Vec<Do> {
    totals.iter().map(|total| one(given_of(*total))).collect()
}

fn stories() -> Vec<Story> {
    [joins(), stores(), signing()]
        .into_iter()
        .flatten()
        .collect()
}

fn joins() -> Vec<Story> {
    let told = |shown| session(shown, Vec::new());
    let late = session(vec![], all_given(&[300, 100, 300, 200, 301, 0]));
    let others = session(
        vec![signed(&ALICE, &CAROL, 900), given_of(10)],
        vec![
            Do::Sync(vec![given_of(9)]),
            one(signed(&CAROL, &BOB, 900)),
            one(signed(&BOB, &CAROL, 900)),
        ],
    );
    let less = session(vec![given_of(40)], told(vec![]));
    let lacks = told(vec![given_of(5), received_of(4)]);
    let nothing = session(vec![], all_given(&[0, 0, 1]));
    let (five_nine, seven_eight) = ((Some(5), Some(9)), (Some(7), Some(8)));
    let hundred = (Some(100), None);
    let last = Some(3);
    vec![
        story(
            "re-ordered, repeated and late IOUs",
            WHOLE,
            NONE,
            None,
            late,
        ),
        story("a first IOU over nothing", WHOLE, NONE, None, nothing),
        story("IOUs between others", WHOLE, seven_eight, last, others),
        story(
            "a friend that shows less than it signed",
            WHOLE,
            hundred,
            last,
            less,
        ),
        story(
            "a friend that lacks our newest",
            WHOLE,
            five_nine,
            last,
            lacks,
        ),
    ]
}

fn stores() -> Vec<Story> {
    let mut adopts = vec![Do::Prepare(60)];
    adopts.extend(session(
        vec![received_of(500), given_of(400)],
        vec![Do::Prepare(60), Do::Prepare(501), Do::Persisted],
    ));
    let lost = session(vec![], vec![Do::Prepare(1), Do::Persisted]);
    let imported = session(vec![given_of(1)], vec![]);
    let (both, one_way) = ((Some(40), Some(50)), (Some(1), None));
    let unsynced = vec![Do::Prepare(5)];
    vec![
        story(
            "a restored store adopts its own larger signature",
            BROKEN,
            both,
            Some(2),
            adopts,
        ),
        story(
            "a lost store, and a friend that has nothing either",
            BROKEN,
            NONE,
            None,
            lost,
        ),
        story(
            "synced in an earlier opening",
            WHOLE,
            one_way,
            Some(2),
            unsynced,
        ),
        story("imported: IOUs and no sync", WHOLE, one_way, None, imported),
    ]
}

fn signing() -> Vec<Story> {
    let max = i64::MAX.unsigned_abs();
    let mut first = vec![Do::Prepare(5)];
    first.extend(session(
        vec![],
        vec![
            Do::Prepare(100),
            Do::Prepare(200),
            Do::Persisted,
            Do::Prepare(100),
            Do::Prepare(0),
            Do::Prepare(max + 1),
            Do::Prepare(max),
            Do::Persisted,
        ],
    ));
    let crossing = session(
        vec![],
        vec![
            Do::Prepare(100),
            one(received_of(300)),
            one(given_of(7)),
            Do::Persisted,
        ],
    );
    let again = session(
        vec![],
        vec![
            Do::Begin,
            Do::Prepare(1),
            Do::Sync(vec![]),
            Do::Prepare(1),
            Do::Persisted,
        ],
    );
    let name = "a larger own signature comes while one is made durable";
    vec![
        story("a new friend, and IOUs signed", WHOLE, NONE, None, first),
        story(name, WHOLE, NONE, None, crossing),
        story("a new session, a new sync", WHOLE, NONE, None, again),
    ]
}

fn beside(text: &str) -> BesideKey {
    match text {
        "new_key" => BesideKey::NewKey,
        "missing" => BesideKey::Missing,
        number => BesideKey::Number(number.parse().expect("a number")),
    }
}

fn opening(name: &str, beside_key: &str, store: Option<(u64, Option<u64>)>) -> Opening {
    let store = store.map(|(number, broken_at)| Store { number, broken_at });
    let opened = StoreEpoch::open(beside(beside_key), store.map(epoch));
    Opening {
        name: name.into(),
        beside_key: beside_key.into(),
        store,
        opened: Store {
            number: opened.number,
            broken_at: opened.broken_at,
        },
    }
}

pub(crate) fn generate() -> String {
    let mib = 1_u64 << 20;
    text(&File {
        subject: "accounts step by step, openings of the store, ceilings and windows".into(),
        spec: "iou.md".into(),
        accounts: stories(),
        openings: vec![
            opening("the first start", "new_key", None),
            opening("whole", "6", Some((6, None))),
            opening("a crash between the two writes", "6", Some((7, None))),
            opening("an older store", "6", Some((5, None))),
            opening("an older key's file", "6", Some((8, None))),
            opening("a lost store", "6", None),
            opening("a lost number", "missing", Some((6, None))),
            opening("both lost, the key is old", "missing", None),
            opening("a store that another key used", "new_key", Some((6, None))),
            opening("broken once, whole since", "6", Some((6, Some(2)))),
            opening("broken again", "6", Some((5, Some(2)))),
        ],
        ceilings: [
            (64 * mib, 0, 0),
            (64 * mib, 1000 * mib, 0),
            (64 * mib, 1000 * mib, 100 * mib + 1),
            (64 * mib, 100 * mib, 1000 * mib),
            (64 * mib, 10_000 * mib, 10_000 * mib),
        ]
        .iter()
        .map(|(credit, given, received)| Ceiling {
            credit: credit.to_string(),
            given: given.to_string(),
            received: received.to_string(),
            ceiling: ceiling_bytes(*credit, *given, *received).to_string(),
        })
        .collect(),
        windows: [
            (4 * mib, 0),
            (4 * mib, 2 * mib),
            (4 * mib, 2 * mib + 1),
            (0, 5),
        ]
        .iter()
        .map(|(configured, rate)| Window {
            configured: configured.to_string(),
            rate_per_second: rate.to_string(),
            window: window_bytes(*configured, *rate).to_string(),
        })
        .collect(),
    })
}

fn again(step: &Step) -> Do {
    let ious: Vec<SignedIou> = step
        .ious
        .iter()
        .map(|iou| SignedIou::decode(&unhex(iou)).expect("an IOU"))
        .collect();
    let total = step
        .total
        .as_ref()
        .map(|total| total.parse().expect("a total"));
    match step.step.as_str() {
        "begin_session" => Do::Begin,
        "sync" => Do::Sync(ious),
        "receive" => Do::Receive(Box::new(ious[0])),
        "prepare" => Do::Prepare(total.expect("a total")),
        "persisted" => Do::Persisted,
        other => panic!("{other} is no step"),
    }
}

//= spec/iou.md#join
//= spec/iou.md#not-ours
//= spec/iou.md#sync-first
//= spec/iou.md#sync-adopt
//= spec/iou.md#contradiction
//= spec/iou.md#states
//= spec/iou.md#epoch
//= spec/iou.md#epoch-break
//= spec/iou.md#sign-when
//= spec/iou.md#sign-rising
//= spec/iou.md#durable-first
//= spec/iou.md#record-monotone
//= spec/iou.md#window
//= spec/iou.md#ceiling
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for story in &file.accounts {
        let (mut account, mut token) = (open(story), None);
        for (at, step) in story.steps.iter().enumerate() {
            let taken = take(&mut account, &array(&story.secret), &mut token, again(step));
            assert_eq!(text(&taken), text(step), "{}, step {at}", story.name);
        }
    }
    for case in &file.openings {
        let opened = StoreEpoch::open(beside(&case.beside_key), case.store.map(epoch));
        assert_eq!(opened, epoch(case.opened), "{}", case.name);
    }
    let number = |text: &str| text.parse::<u64>().expect("a number");
    for case in &file.ceilings {
        let (given, received) = (number(&case.given), number(&case.received));
        let ceiling = ceiling_bytes(number(&case.credit), given, received);
        assert_eq!(ceiling, number(&case.ceiling));
    }
    for case in &file.windows {
        let window = window_bytes(number(&case.configured), number(&case.rate_per_second));
        assert_eq!(window, number(&case.window));
    }
}
