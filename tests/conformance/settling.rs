//! What every store promises of reservations that are settled afterwards.

use crate::bed::{Bed, PATIENCE};
use crate::build::*;
use crate::cases::{MINUTE, at, fits, take};
use quotad::engine::ask::{Ask, Demand};
use quotad::engine::rule::Rule;
use quotad::engine::settlement::{Adjustment, Movement, Settled, Settlement, SettlementState};
use quotad::engine::units::{Micros, Moment};
use quotad::store::Store;

/// A minute after the charge.
const WITHIN: Micros = Micros(60_000_000);

/// The settlement of what these demands charged at `at` to one cost.
pub(crate) fn settlement(name: &str, at: Moment, demands: &[Demand], cost: u32) -> Settlement {
    let adjust = |demand: &Demand| Adjustment {
        key: demand.key.clone(),
        rule: demand.rule,
        emission: if let Rule::Bucket(bucket) = demand.rule { bucket.emission } else { 0 },
        reserved: demand.cost,
        cost,
    };
    Settlement {
        name: name.into(),
        at,
        until: at.plus(WITHIN),
        adjustments: demands.iter().map(adjust).collect(),
    }
}

async fn settle(store: &impl Store, settlement: Settlement) -> Settled {
    store.settle(settlement, PATIENCE).await.unwrap()
}

/// Settles a reservation of these demands.
async fn settle_to(store: &impl Store, name: &str, of: (&Ask, Moment), cost: u32) -> Settled {
    settle(store, settlement(name, of.1, &of.0.demands, cost)).await
}

fn every_rule() -> [Rule; 4] {
    [window(50, MINUTE), window(1_000, MINUTE), bucket(100, MINUTE, 100), fixed(100, MINUTE)]
}

fn back(cost: u32, returned: u32) -> Movement {
    Movement { cost, returned, charged: 0 }
}

fn beyond(cost: u32, charged: u32) -> Movement {
    Movement { cost, returned: 0, charged }
}

/// Units in use.
fn used(rule: Rule, settled: &Settled, at: usize) -> u64 {
    match rule {
        Rule::Bucket(bucket) => bucket.burst - bucket.remaining(settled.readings[at].level, settled.now),
        _ => settled.readings[at].level,
    }
}

pub(crate) async fn what_was_too_much_comes_back_at_once_under_every_policy<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let demands = every_rule().into_iter().enumerate();
    let demands: Vec<Demand> =
        demands.map(|(i, rule)| costing(demand(&d, &format!("p{i}"), "a", rule), 40)).collect();
    let reserved = Ask { demands: demands.into_iter().collect(), ..Ask::default() };
    bed.set_clock(at(0));
    assert!(fits(&store, reserved.clone()).await);
    let settled = settle_to(&store, "one", (&reserved, at(0)), 10).await;
    assert_eq!((settled.state, settled.now), (SettlementState::Settled, at(0)));
    for (i, rule) in every_rule().into_iter().enumerate() {
        assert_eq!(settled.movements[i], back(10, 30), "{rule:?}");
        assert_eq!(used(rule, &settled, i), 10, "{rule:?}");
    }
    // Ten are used; as many as before fit again.
    assert!(fits(&store, reserved.clone()).await);
    assert!(!fits(&store, reserved).await);
}

pub(crate) async fn what_was_too_little_is_charged_without_a_question_and_delays_the_next<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    for (i, rule) in every_rule().into_iter().enumerate() {
        let policy = format!("p{i}");
        let reserved = ask([costing(demand(&d, &policy, "a", rule), 40)]);
        bed.set_clock(at(0));
        assert!(fits(&store, reserved.clone()).await);
        bed.set_clock(at(6_000_000));
        let limit = u32::try_from(rule.limit()).unwrap();
        let settled = settle_to(&store, &policy, (&reserved, at(0)), limit + 10).await;
        assert_eq!(settled.movements[0], beyond(limit + 10, limit - 30), "{rule:?}");
        let (now, reading) = (settled.now, settled.readings[0]);
        assert!(!reading.fits && reading.retry_at > now, "{rule:?}: {reading:?}");
        let one = || ask([demand(&d, &policy, "a", rule)]);
        assert_eq!(take(&store, one()).await.readings[0], reading, "the answer said so");
        bed.set_clock(Moment(reading.retry_at.0 - 1));
        assert!(!fits(&store, one()).await, "{rule:?}");
        bed.set_clock(reading.retry_at);
        assert!(fits(&store, one()).await, "{rule:?}");
    }
}

pub(crate) async fn a_debt_of_many_bursts_is_paid_in_full<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let one = || ask([demand(&d, "bucket", "a", bucket(10, Micros(1_000_000), 10))]);
    bed.set_clock(at(0));
    assert!(fits(&store, one()).await);
    let settled = settle_to(&store, "one", (&one(), at(0)), 10_000).await;
    assert_eq!(settled.readings[0].retry_at, at(1_000_000_000 - 900_000));
    for offset in [0, 500_000_000, 999_000_000] {
        bed.set_clock(at(offset));
        let refused = take(&store, one()).await.readings[0];
        assert_eq!((refused.fits, refused.retry_at), (false, settled.readings[0].retry_at));
        let together = take(&store, ask([one().demands[0].clone(), demand(&d, "w", "a", window(9, MINUTE))]));
        assert_eq!(together.await.readings[0].retry_at, refused.retry_at, "however it is asked");
    }
    bed.set_clock(at(999_100_000));
    assert!(fits(&store, one()).await);
    assert!(!fits(&store, one()).await);
    // A clock that jumps back forgives what is left of a debt, and no more.
    settle_to(&store, "two", (&one(), at(999_100_000)), 10_000).await;
    bed.set_clock(at(10_000_000));
    let refused = take(&store, one()).await.readings[0];
    assert_eq!((refused.fits, refused.retry_at), (false, at(10_100_000)));
}

pub(crate) async fn the_first_settlement_holds_whatever_the_next_ones_say<B: Bed>(bed: B) {
    let store = bed.store().await;
    let rule = window(50, MINUTE);
    let reserved = ask([costing(demand(&bed.domain(), "p", "a", rule), 40)]);
    bed.set_clock(at(0));
    assert!(fits(&store, reserved.clone()).await);
    let first = settle_to(&store, "one", (&reserved, at(0)), 10).await;
    for cost in [10, 0, 400] {
        let again = settle_to(&store, "one", (&reserved, at(0)), cost).await;
        assert_eq!(again, Settled { state: SettlementState::Repeated, ..first.clone() });
    }
    // Another reservation has another name.
    assert!(fits(&store, reserved.clone()).await);
    let other = settle_to(&store, "two", (&reserved, at(0)), 0).await;
    assert_eq!((other.state, other.movements[0]), (SettlementState::Settled, back(0, 40)));
    assert_eq!(other.readings[0].level, 10);
}

pub(crate) async fn after_its_time_a_reservation_stays_charged<B: Bed>(bed: B) {
    let store = bed.store().await;
    let rule = fixed(100, seconds(3_600));
    let reserved = ask([costing(demand(&bed.domain(), "p", "a", rule), 40)]);
    bed.set_clock(at(0));
    assert!(fits(&store, reserved.clone()).await);
    bed.set_clock(at(WITHIN.0));
    for cost in [0, 90] {
        let late = settle_to(&store, "one", (&reserved, at(0)), cost).await;
        assert_eq!((late.state, late.movements[0]), (SettlementState::TooLate, back(40, 0)));
        assert_eq!(late.readings[0].level, 40);
    }
    // Charged in the future: by a clock that went back since, or by nobody.
    let ahead = settlement("ahead", at(WITHIN.0 + 1_000_001), &reserved.demands, 0);
    assert_eq!(settle(&store, ahead).await.state, SettlementState::TooLate);
    bed.set_clock(at(WITHIN.0 - 1));
    let in_time = settle_to(&store, "one", (&reserved, at(0)), 0).await;
    assert_eq!((in_time.state, in_time.readings[0].level), (SettlementState::Settled, 0));
    bed.set_clock(at(WITHIN.0));
    let again = settle_to(&store, "one", (&reserved, at(0)), 90).await;
    assert_eq!((again.state, again.readings[0].level), (SettlementState::Repeated, 0));
}

pub(crate) async fn what_counts_no_more_is_not_given_back<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let second = Micros::SECOND;
    for (i, rule) in [window(50, second), bucket(50, second, 50), fixed(50, second)].into_iter().enumerate() {
        let policy = format!("p{i}");
        let of = |cost| ask([costing(demand(&d, &policy, "a", rule), cost)]);
        bed.set_clock(at(0));
        assert!(fits(&store, of(40)).await);
        bed.set_clock(at(2_000_000));
        assert!(fits(&store, of(50)).await);
        let settled = settle_to(&store, &policy, (&of(40), at(0)), 0).await;
        assert_eq!(settled.movements[0], back(0, 0), "{rule:?}");
        assert!(!fits(&store, of(1)).await, "{rule:?}: what others took stays taken");
    }
    let gone = ask([costing(demand(&d, "never", "a", window(50, second)), 40)]);
    assert_eq!(settle_to(&store, "gone", (&gone, at(2_000_000)), 0).await.movements[0], back(0, 0));
    assert!(!fits(&store, ask([costing(demand(&d, "never", "a", window(50, second)), 51)])).await);
}

pub(crate) async fn settled_by_many_at_once_on_several_stores_it_is_settled_once<B: Bed>(bed: B) {
    let (one, other) = (bed.store().await, bed.store().await);
    let rule = window(1_000, MINUTE);
    let reserved = ask([costing(demand(&bed.domain(), "p", "a", rule), 500)]);
    bed.set_clock(at(0));
    assert!(fits(&one, reserved.clone()).await);
    let mut calls = Vec::new();
    for cost in 0..16 {
        calls.push(settle_to(&one, "one", (&reserved, at(0)), cost));
        calls.push(settle_to(&other, "one", (&reserved, at(0)), 600 + cost));
    }
    let settled = futures_util::future::join_all(calls).await;
    let new: Vec<&Settled> =
        settled.iter().filter(|settled| settled.state == SettlementState::Settled).collect();
    assert_eq!(new.len(), 1);
    assert!(settled.iter().all(|settled| settled.movements == new[0].movements));
    let level = take(&one, ask([peeking(demand(&bed.domain(), "p", "a", rule))])).await.readings[0].level;
    assert_eq!(level, u64::from(new[0].movements[0].cost));
}
