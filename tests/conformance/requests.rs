//! What every store keeps of a `request_id`, and for how long.

use crate::bed::{Bed, PATIENCE, connected};
use crate::build::*;
use crate::cases::{MINUTE, at, fits, take};
use crate::redis::{Kind, Server};
use quotad::engine::ask::{Answer, AnswerRoom, Ask, Demand};
use quotad::engine::rule::Rule;
use quotad::engine::units::Micros;
use quotad::store::redis::{Answers, RedisOptions};

const DAY: Micros = Micros(86_400_000_000);
/// The longest that an answer is kept.
const TEN_MINUTES: u64 = 600_000_000;

/// The same answer, given again.
fn again(answer: &Answer) -> Answer {
    Answer { repeated: true, ..answer.clone() }
}

fn repeated<const N: usize>(id: &str, demands: [Demand; N]) -> Ask {
    Ask { request_id: Some(id.into()), ..ask(demands) }
}

pub(crate) async fn an_answer_is_kept_for_the_shorter_of_its_window_and_ten_minutes<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let year = Micros(366 * DAY.0);
    let rules: [(Rule, u64); 7] = [
        (window(9, year), TEN_MINUTES),
        (bucket(9, year, 9), TEN_MINUTES),
        (fixed(9, year), TEN_MINUTES),
        (fixed(9, Micros(TEN_MINUTES - 1)), TEN_MINUTES - 1),
        (window(9, Micros(1_000_000)), 1_000_000),
        (bucket(9, Micros(1_000_000), 9), 1_000_000),
        (fixed(9, Micros(1_000_000)), 1_000_000),
    ];
    for (i, (rule, kept)) in rules.into_iter().enumerate() {
        let begin = u64::try_from(i).unwrap() * 2 * TEN_MINUTES;
        let request = || repeated("r", [demand(&d, &format!("p{i}"), "a", rule)]);
        bed.set_clock(at(begin));
        let first = take(&store, request()).await;
        bed.set_clock(at(begin + kept - 1));
        assert_eq!(take(&store, request()).await, again(&first), "{rule:?}");
        bed.set_clock(at(begin + kept));
        let anew = take(&store, request()).await;
        assert!(!anew.repeated && anew.now == at(begin + kept), "{rule:?}");
    }
}

pub(crate) async fn an_answer_is_kept_for_the_longest_window_and_a_lease_for_its_life<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let lease = |policy: &str| leasing(demand(&d, policy, "a", leases(9, Micros(20_000_000))), "l");
    let both = || repeated("r", [demand(&d, "p", "a", window(9, MINUTE)), lease("l")]);
    let alone = || repeated("r", [lease("m")]);
    let (first, held) = (take(&store, both()).await, take(&store, alone()).await);
    bed.set_clock(at(19_999_999));
    assert_eq!(take(&store, alone()).await, again(&held));
    bed.set_clock(at(20_000_000));
    assert!(!take(&store, alone()).await.repeated);
    bed.set_clock(at(59_999_999));
    assert_eq!(take(&store, both()).await, again(&first));
    bed.set_clock(at(60_000_000));
    assert!(!take(&store, both()).await.repeated);
}

pub(crate) async fn a_denial_is_kept_no_longer_than_its_retry_at_and_without_one_not_at_all<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let long = || demand(&d, "long", "a", window(1, Micros(366 * DAY.0)));
    let short = || demand(&d, "short", "a", bucket(1, Micros(2_000_000), 1));
    let watched = || shadow(demand(&d, "watched", "a", fixed(1, DAY)));
    assert!(fits(&store, ask([short(), watched()])).await);
    let waits = || repeated("waits", [long(), short(), watched()]);
    let denied = take(&store, waits()).await;
    bed.set_clock(at(1_999_999));
    assert_eq!(take(&store, waits()).await, again(&denied));
    bed.set_clock(at(2_000_000));
    assert!(fits(&store, waits()).await, "a lone caller that waited as long as it was told");
    // One wait has an end that no other policy of the request can bring about.
    let never = || repeated("never", [costing(demand(&d, "p", "a", fixed(3, DAY)), 4), short()]);
    assert!(!take(&store, never()).await.repeated);
    bed.set_clock(at(2_000_001));
    assert_eq!(take(&store, never()).await.now, at(2_000_001), "there is nothing to keep");
    let long = || repeated("long", [long()]);
    let denied = take(&store, long()).await;
    bed.set_clock(at(2_000_000 + TEN_MINUTES));
    assert_eq!(take(&store, long()).await, again(&denied));
    bed.set_clock(at(2_000_001 + TEN_MINUTES));
    assert!(!take(&store, long()).await.repeated, "ten minutes at most");
}

pub(crate) async fn an_ask_without_room_for_its_answer_is_charged_each_time<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let request = |id: &str, answer_room| Ask {
        answer_room,
        ..repeated(id, [demand(&d, "p", "a", window(3, MINUTE))])
    };
    let kept = take(&store, request("kept", AnswerRoom::Free)).await;
    assert!(fits(&store, request("full", AnswerRoom::Full)).await);
    assert_eq!(take(&store, request("kept", AnswerRoom::Full)).await, again(&kept), "what was kept is found");
    assert!(fits(&store, request("full", AnswerRoom::Full)).await, "no denial");
    assert!(!fits(&store, request("full", AnswerRoom::Full)).await, "and not free");
}

/// Why no client may choose the id: it would be let in as often as it repeats it, and pay once.
pub(crate) async fn one_id_for_the_whole_limit_passes_as_often_as_it_is_repeated<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let whole = || costing(demand(&d, "p", "a", window(5, MINUTE)), 5);
    for _ in 0..6 {
        assert!(fits(&store, repeated("r", [whole()])).await);
    }
    assert_eq!(take(&store, ask([peeking(whole())])).await.readings[0].level, 5, "charged once");
}

pub(crate) async fn a_repeated_request_gets_its_first_answer_and_is_charged_once<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let rule = window(2, MINUTE);
    let request = |id: &str| Ask { request_id: Some(id.into()), ..ask([demand(&d, "p", "a", rule)]) };
    let first = take(&store, request("one")).await;
    bed.set_clock(at(1_000_000));
    assert_eq!(take(&store, request("one")).await, again(&first));
    assert_eq!(take(&store, request("two")).await.readings[0].level, 1);
    let denied = take(&store, request("three")).await;
    assert!(!denied.readings[0].fits);
    bed.set_clock(at(59_999_999));
    assert_eq!(take(&store, request("one")).await, again(&first));
    assert_eq!(take(&store, request("three")).await, again(&denied));
    bed.set_clock(at(60_000_000));
    assert!(fits(&store, request("three")).await, "a denial holds until its retry-at");
    let other_cost = Ask { request_id: Some("two".into()), ..ask([costing(demand(&d, "p", "a", rule), 2)]) };
    assert!(!fits(&store, other_cost).await, "another cost is another request");
}

pub(crate) async fn a_repeated_request_gets_its_first_answer_even_after_an_edit<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let request =
        |rule| Ask { request_id: Some("r".into()), ..ask([costing(demand(&d, "p", "a", rule), 3)]) };
    for (before, after) in [
        (window(3, MINUTE), window(2, MINUTE)),
        (bucket(3, MINUTE, 3), bucket(3, MINUTE, 2)),
        (fixed(3, MINUTE), fixed(2, MINUTE)),
    ] {
        let first = take(&store, request(before)).await;
        assert!(first.readings[0].fits);
        assert_eq!(take(&store, request(after)).await, again(&first), "{before:?}");
    }
}

pub(crate) async fn the_same_demands_in_another_order_are_the_same_request<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let demands = || {
        [
            demand(&d, "b", "a", window(5, MINUTE)),
            costing(demand(&d, "a", "a", bucket(9, MINUTE, 9)), 2),
            leasing(demand(&d, "c", "a", leases(3, MINUTE)), "l"),
        ]
    };
    let request = |order: [usize; 3]| Ask {
        request_id: Some("r".into()),
        ..ask(order.map(|at| demands()[at].clone()))
    };
    let first = take(&store, request([0, 1, 2])).await;
    bed.set_clock(at(1_000_000));
    for order in [[2, 1, 0], [1, 0, 2], [0, 1, 2], [2, 0, 1]] {
        let mut expected = again(&first);
        expected.readings = order.iter().map(|at| first.readings[*at]).collect();
        assert_eq!(take(&store, request(order)).await, expected, "{order:?}");
    }
    let look = take(&store, ask(demands().map(peeking))).await;
    assert_eq!((look.readings[0].level, look.readings[2].level), (1, 0), "charged once");
}

#[tokio::test]
async fn in_redis_no_answer_lives_much_longer_than_it_is_kept() {
    let server = Server::start(Kind::Redis7);
    let mut options = RedisOptions::new(server.url());
    options.timeout = PATIENCE;
    let store = connected(options).await;
    let mut admin = server.client();
    let year = Micros(366 * DAY.0);
    let long = || demand("d", "long", "a", window(1, year));
    let short = || demand("d", "short", "a", bucket(1, MINUTE, 1));
    assert!(fits(&store, repeated("first", [long(), short()])).await);
    for i in 0..20 {
        // These wait a minute at most, these the better part of a year, and these for ever.
        assert!(!fits(&store, repeated(&format!("short {i}"), [short()])).await);
        assert!(!fits(&store, repeated(&format!("long {i}"), [long()])).await);
        assert!(!fits(&store, repeated(&format!("never {i}"), [costing(long(), 2)])).await);
    }
    let keys = admin.run(&["KEYS", "q1:{d|user=a}:answer:*"]);
    let lives: Vec<i64> = keys.lines().map(|key| admin.run(&["PTTL", key]).parse().unwrap()).collect();
    assert_eq!(lives.len(), 41, "nothing is kept of what can never pass");
    assert!(lives.iter().all(|life| (1..=602_000).contains(life)), "{lives:?}");
    assert_eq!(lives.iter().filter(|life| **life <= 62_000).count(), 20, "{lives:?}");
}

#[tokio::test]
async fn the_answers_of_a_domain_are_bounded_in_redis_and_a_repetition_takes_no_place() {
    let server = Server::start(Kind::Redis7);
    let mut options = RedisOptions::new(server.url());
    options.timeout = PATIENCE;
    options.answers = Answers::at_most(3);
    let (store, other) = (connected(options.clone()).await, connected(options).await);
    let mut admin = server.client();
    let p = |d: &str| demand(d, "p", "a", window(100, MINUTE));
    let first = take(&store, repeated("0", [p("d")])).await;
    for _ in 0..10 {
        assert_eq!(take(&store, repeated("0", [p("d")])).await, again(&first));
        // What can never pass, and what was not sent, leaves the place to others.
        assert!(!fits(&store, repeated("never", [costing(p("d"), 101)])).await);
    }
    for i in 1..10 {
        let store = if i % 2 == 0 { &store } else { &other };
        assert!(fits(store, repeated(&i.to_string(), [p("d")])).await, "beyond the bound nobody is refused");
    }
    assert_eq!(admin.run(&["KEYS", "q1:{d|*:answer:*"]).lines().count(), 3, "of both stores of the process");
    assert_eq!(take(&other, repeated("0", [p("d")])).await, again(&first));
    assert!(!take(&store, repeated("9", [p("d")])).await.repeated, "charged, not remembered");
    assert_eq!(take(&store, ask([peeking(p("d"))])).await.readings[0].level, 11);
    let elsewhere = take(&store, repeated("0", [p("e")])).await;
    assert_eq!(take(&store, repeated("0", [p("e")])).await, again(&elsewhere), "each domain has its own");
}
