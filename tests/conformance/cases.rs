//! What every store promises, case by case.

use crate::bed::{BEGIN, Bed, PATIENCE};
use crate::build::*;
use quotad::engine::ask::{Answer, Ask, OnceOver, Take};
use quotad::engine::revocation::{Keep, Revocation, Target};
use quotad::engine::units::{Micros, Moment};
use quotad::store::{HeldLease, Renewed, Store};

pub(crate) use crate::requests::*;
pub(crate) use crate::settling::*;

pub(crate) const MINUTE: Micros = Micros(60_000_000);

pub(crate) fn at(offset: u64) -> Moment {
    Moment(BEGIN.0 + offset)
}

pub(crate) async fn take(store: &impl Store, ask: Ask) -> Answer {
    store.take(ask, PATIENCE).await.unwrap()
}

pub(crate) async fn fits(store: &impl Store, ask: Ask) -> bool {
    let demands = ask.demands.clone();
    take(store, ask).await.passed(&demands)
}

pub(crate) async fn denies_the_eleventh_check_in_a_minute_and_says_when_to_come_back<B: Bed>(bed: B) {
    let store = bed.store().await;
    let login = || ask([demand(&bed.domain(), "login", "a", window(10, MINUTE))]);
    for second in 0..10 {
        bed.set_clock(at(second * 1_000_000));
        let answer = take(&store, login()).await;
        assert_eq!((answer.now, answer.readings[0].level), (at(second * 1_000_000), second));
        assert!(answer.readings[0].fits);
    }
    let refused = take(&store, login()).await;
    assert!(!refused.readings[0].fits);
    assert_eq!(refused.readings[0].retry_at, at(60_000_000));
    assert_eq!(refused.readings[0].reset_at, at(69_000_000));
    bed.set_clock(at(59_999_999));
    assert!(!fits(&store, login()).await);
    bed.set_clock(at(60_000_000));
    assert!(fits(&store, login()).await);
    assert!(!fits(&store, login()).await);
}

pub(crate) async fn all_limits_are_charged_or_none<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let wide = || demand(&d, "wide", "a", bucket(100, MINUTE, 100));
    let calendar = || demand(&d, "calendar", "a", fixed(100, MINUTE));
    let sockets = |id: &str| leasing(demand(&d, "sockets", "a", leases(100, MINUTE)), id);
    let narrow = || demand(&d, "narrow", "a", window(1, MINUTE));
    assert!(fits(&store, ask([wide(), calendar(), sockets("1"), narrow()])).await);
    let before = take(&store, ask([peeking(wide()), peeking(calendar()), peeking(sockets("9"))])).await;
    for _ in 0..5 {
        assert!(!fits(&store, ask([wide(), calendar(), sockets("2"), narrow()])).await);
    }
    let after = take(&store, ask([peeking(wide()), peeking(calendar()), peeking(sockets("9"))])).await;
    assert_eq!(before, after);
}

pub(crate) async fn a_peek_charges_nothing<B: Bed>(bed: B) {
    let store = bed.store().await;
    for rule in [window(3, MINUTE), window(300, MINUTE), bucket(3, MINUTE, 3), fixed(3, MINUTE)] {
        let look = || ask([peeking(costing(demand(&bed.domain(), "p", "a", rule), 2))]);
        let first = take(&store, look()).await;
        assert_eq!(first, take(&store, look()).await);
        assert!(first.readings[0].fits);
    }
}

pub(crate) async fn what_counts_counts_also_above_the_limit_and_refuses_nobody_else<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let count = |user: &str| shadow(taking(Take::Count, demand(&d, "counted", user, fixed(2, MINUTE))));
    let real = || demand(&d, "real", "a", window(9, MINUTE));
    for round in 0..5 {
        let answer = take(&store, ask([count("a"), count("b"), real()])).await;
        assert_eq!((answer.readings[0].fits, answer.readings[0].level), (round < 2, round));
        assert_eq!(answer.readings[1].level, round);
        assert_eq!((answer.readings[2].fits, answer.readings[2].level), (true, round));
    }
    let alone = |n| ask([costing(count("a"), n)]);
    assert_eq!(take(&store, alone(4_294_967_295)).await.readings[0].level, 5);
    assert_eq!(take(&store, alone(1)).await.readings[0].level, 4_294_967_300);
    assert_eq!(take(&store, ask([peeking(count("a"))])).await.readings[0].level, 4_294_967_301);
}

pub(crate) async fn what_counts_and_refuses_is_counted_itself_and_keeps_others_as_they_were<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let wide = || taking(Take::Count, demand(&d, "wide", "a", fixed(10, MINUTE)));
    let tight = || taking(Take::Count, demand(&d, "tight", "a", fixed(2, MINUTE)));
    let levels = [(0, 0), (1, 1), (2, 2), (2, 3), (2, 4)];
    for (first, second) in levels {
        let answer = take(&store, ask([wide(), tight()])).await;
        assert_eq!((answer.readings[0].level, answer.readings[1].level), (first, second));
    }
}

pub(crate) async fn what_was_over_before_keeps_its_ask_from_being_charged_where_that_is_asked<B: Bed>(
    bed: B,
) {
    let store = bed.store().await;
    let d = bed.domain();
    let full = || taking(Take::Count, demand(&d, "full", "a", fixed(1, MINUTE)));
    let other = |cost| costing(taking(Take::Count, demand(&d, "other", "a", fixed(2, MINUTE))), cost);
    let both = |cost| Ask { once_over: OnceOver::Stops, ..ask([full(), other(cost)]) };
    let levels = async || {
        let answer = take(&store, ask([peeking(full()), peeking(other(1))])).await;
        (answer.readings[0].level, answer.readings[1].level)
    };
    assert!(fits(&store, both(1)).await);
    assert_eq!(levels().await, (1, 1));
    // Over now, not before: counted itself, and the other as it says.
    assert!(!fits(&store, both(1)).await);
    assert_eq!(levels().await, (2, 1));
    for cost in [1, 5] {
        assert!(!fits(&store, both(cost)).await);
        assert_eq!(levels().await, (2, 1), "nothing of it, even what goes over itself");
    }
    assert!(!fits(&store, Ask { once_over: OnceOver::Stops, ..ask([full()]) }).await);
    assert_eq!(levels().await, (2, 1));
    let shadowed = Ask { once_over: OnceOver::Stops, ..ask([shadow(full()), other(1)]) };
    assert!(fits(&store, shadowed).await, "a shadow refuses nobody");
    assert_eq!(levels().await, (2, 1), "and stops all the same");
    let back = || taking(Take::Refund, demand(&d, "full", "a", fixed(1, MINUTE)));
    assert!(fits(&store, Ask { once_over: OnceOver::Stops, ..ask([back(), other(1)]) }).await);
    assert_eq!(levels().await, (1, 2), "what is given back stops nothing");
    assert!(!fits(&store, ask([full(), other(1)])).await);
    assert_eq!(levels().await, (2, 3), "elsewhere each is counted as ever");
}

pub(crate) async fn a_refund_goes_down_to_nothing_and_makes_no_counter<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let of = |user: &str| demand(&d, "p", user, fixed(5, MINUTE));
    let refund = |user: &str, n| taking(Take::Refund, costing(of(user), n));
    take(&store, ask([costing(of("a"), 5)])).await;
    for (level, n) in [(5, 2), (3, 1), (2, 40), (0, 1)] {
        let answer = take(&store, ask([refund("a", n)])).await;
        assert_eq!((answer.readings[0].fits, answer.readings[0].level), (true, level));
    }
    let both = take(&store, ask([refund("a", 3), refund("new", 3), costing(of("b"), 9)])).await;
    assert!(both.readings[0].fits && both.readings[1].fits && !both.readings[2].fits);
    assert_eq!(take(&store, ask([of("new")])).await.readings[0].level, 0);
    take(&store, ask([costing(of("c"), 4)])).await;
    take(&store, ask([refund("c", 3), refund("new", 1), costing(of("b"), 9)])).await;
    assert_eq!(take(&store, ask([of("c")])).await.readings[0].level, 1, "given back though another refused");
    assert_eq!(take(&store, ask([of("new")])).await.readings[0].level, 0);
}

pub(crate) async fn a_shadow_policy_counts_while_it_fits_and_never_refuses<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let trial = || shadow(demand(&d, "trial", "a", window(2, MINUTE)));
    let real = || demand(&d, "real", "a", window(5, MINUTE));
    for round in 0..5 {
        let answer = take(&store, ask([trial(), real()])).await;
        assert_eq!(answer.readings[0].fits, round < 2);
        assert_eq!(answer.readings[0].level, round.min(2));
        assert_eq!((answer.readings[1].fits, answer.readings[1].level), (true, round));
    }
    assert!(!fits(&store, ask([trial(), real()])).await);
    let alone = || ask([shadow(demand(&d, "alone", "a", window(1, MINUTE)))]);
    assert!(take(&store, alone()).await.readings[0].fits);
    assert!(!take(&store, alone()).await.readings[0].fits);
}

pub(crate) async fn a_cost_above_the_limit_never_passes_and_has_no_retry<B: Bed>(bed: B) {
    let store = bed.store().await;
    let rules = [window(3, MINUTE), window(300, MINUTE), bucket(3, MINUTE, 3), fixed(3, MINUTE)];
    for (i, rule) in rules.into_iter().enumerate() {
        let much = costing(demand(&bed.domain(), "p", &i.to_string(), rule), u32::MAX);
        let answer = take(&store, ask([much])).await;
        assert!(!answer.readings[0].fits);
        assert_eq!(answer.readings[0].retry_at, Moment(0));
    }
}

pub(crate) async fn a_clock_that_jumps_back_hands_nothing_out_twice_and_the_wait_ends<B: Bed>(bed: B) {
    let store = bed.store().await;
    let hour = 3_600_000_000;
    let rules = [window(2, MINUTE), window(200, MINUTE), bucket(2, MINUTE, 2), fixed(2, MINUTE)];
    for (i, rule) in rules.into_iter().enumerate() {
        let all = costing(demand(&bed.domain(), "p", &i.to_string(), rule), 2);
        let all = if i == 1 { costing(all, 200) } else { all };
        bed.set_clock(at(hour));
        assert!(fits(&store, ask([all.clone()])).await);
        bed.set_clock(at(0));
        let refused = take(&store, ask([all.clone()])).await;
        assert!(!refused.readings[0].fits, "{rule:?}");
        let retry = refused.readings[0].retry_at;
        assert!(retry > at(0) && retry <= at(63_000_000), "{rule:?}");
        bed.set_clock(retry);
        assert!(fits(&store, ask([all])).await, "{rule:?}");
    }
}

pub(crate) async fn a_clock_that_goes_back_a_little_changes_nothing<B: Bed>(bed: B) {
    let store = bed.store().await;
    // An edge of calendar windows.
    let edge = 3_640_000_000;
    let rules = [
        (window(2, MINUTE), vec![1, 900_000, 1_000_000]),
        (window(200, MINUTE), vec![1, 900_000, 1_000_000]),
        (bucket(2, MINUTE, 2), vec![1, 900_000, 1_000_000]),
        (leases(2, MINUTE), vec![1, 900_000, 1_000_000]),
        // A count of a later window stands while that begins within one.
        (fixed(2, MINUTE), vec![1, 900_000, 30_000_000, 60_000_000]),
    ];
    for (i, (rule, backs)) in rules.into_iter().enumerate() {
        let one = |id: &str| leasing(demand(&bed.domain(), "p", &i.to_string(), rule), id);
        let some = |id: &str| if i == 1 { costing(one(id), 100) } else { one(id) };
        let beside = || demand(&bed.domain(), "beside", "a", bucket(1_000, MINUTE, 1_000));
        bed.set_clock(at(edge));
        assert!(fits(&store, ask([some("a")])).await);
        for back in backs {
            bed.set_clock(at(edge));
            let before = take(&store, ask([peeking(some("x"))])).await;
            bed.set_clock(at(edge - back));
            // Refused for its cost, refused beside another demand, peeked at.
            let much = costing(some("x"), if i == 1 { 150 } else { 2 });
            if i != 3 {
                let refused = take(&store, ask([much.clone()])).await;
                assert!(!refused.readings[0].fits, "{rule:?}, {back} µs back");
                assert!(!take(&store, ask([beside(), much.clone()])).await.readings[1].fits);
                bed.set_clock(refused.readings[0].retry_at);
                assert!(
                    take(&store, ask([peeking(much)])).await.readings[0].fits,
                    "{rule:?}, {back} µs back"
                );
            }
            bed.set_clock(at(edge - back));
            take(&store, ask([peeking(some("x"))])).await;
            bed.set_clock(at(edge));
            let after = take(&store, ask([peeking(some("x"))])).await;
            assert_eq!(before, after, "{rule:?}, {back} µs back and on again");
        }
        // A bucket has no moment of its last charge: it is emptier while the clock is behind.
        bed.set_clock(at(if i == 2 { edge } else { edge - 900_000 }));
        assert!(fits(&store, ask([some("b")])).await, "what is left can be used, {rule:?}");
        for now in [edge - 900_000, edge, edge + 40_000_000] {
            bed.set_clock(at(now));
            let all = costing(one("c"), if i == 1 { 200 } else { 2 });
            assert!(!take(&store, ask([all])).await.readings[0].fits, "{rule:?}");
        }
    }
}

pub(crate) async fn a_peek_after_a_jump_changes_nothing<B: Bed>(bed: B) {
    let store = bed.store().await;
    let hour = 3_600_000_000;
    for (i, rule) in [window(2, MINUTE), window(200, MINUTE), bucket(2, MINUTE, 2), fixed(2, MINUTE)]
        .into_iter()
        .enumerate()
    {
        let one = || demand(&bed.domain(), "p", &i.to_string(), rule);
        bed.set_clock(at(hour));
        assert!(fits(&store, ask([one()])).await);
        let before = take(&store, ask([peeking(one())])).await;
        bed.set_clock(at(0));
        take(&store, ask([peeking(one())])).await;
        bed.set_clock(at(hour));
        assert_eq!(take(&store, ask([peeking(one())])).await, before, "{rule:?}");
    }
}

pub(crate) async fn leases_are_held_renewed_released_and_end_by_themselves<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let socket = || demand(&d, "sockets", "a", leases(2, Micros(30_000_000)));
    let open = |id: &str| ask([leasing(socket(), id)]);
    assert!(fits(&store, open("one")).await);
    bed.set_clock(at(10_000_000));
    assert!(fits(&store, open("two")).await);
    let refused = take(&store, open("three")).await;
    assert_eq!((refused.readings[0].fits, refused.readings[0].level), (false, 2));
    assert_eq!(refused.readings[0].retry_at, at(30_000_000));
    assert_eq!(refused.readings[0].reset_at, at(40_000_000));
    let again = take(&store, open("two")).await;
    assert_eq!(
        (again.readings[0].fits, again.readings[0].level),
        (true, 1),
        "asking again is no second lease"
    );
    bed.set_clock(at(29_999_999));
    let all = vec![held("one", [&socket()]), held("strange", [&socket()])];
    assert_eq!(store.renew(all, PATIENCE).await, Ok(vec![Renewed::Held, Renewed::Lost]));
    bed.set_clock(at(40_000_000));
    assert_eq!(store.renew(vec![held("two", [&socket()])], PATIENCE).await, Ok(vec![Renewed::Lost]));
    assert!(fits(&store, open("three")).await);
    assert_eq!(store.release(held("strange", [&socket()]), PATIENCE).await, Ok(false));
    assert!(!fits(&store, open("four")).await);
    assert_eq!(store.release(held("one", [&socket()]), PATIENCE).await, Ok(true));
    assert_eq!(store.release(held("one", [&socket()]), PATIENCE).await, Ok(false));
    assert!(fits(&store, open("four")).await);
}

pub(crate) async fn a_lease_that_is_lost_under_one_limit_is_given_back_under_all<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let mine = || demand(&d, "mine", "a", leases(1, Micros(10_000_000)));
    let ours = || demand(&d, "ours", "all", leases(5, MINUTE));
    assert!(fits(&store, ask([leasing(mine(), "l"), leasing(ours(), "l")])).await);
    bed.set_clock(at(10_000_000));
    let both = || held("l", [&mine(), &ours()]);
    assert_eq!(store.renew(vec![both()], PATIENCE).await, Ok(vec![Renewed::Lost]));
    let seen = take(&store, ask([peeking(leasing(ours(), "x"))])).await;
    assert_eq!(seen.readings[0].level, 0);
    assert_eq!(store.release(both(), PATIENCE).await, Ok(false));
}

pub(crate) async fn thousands_of_leases_are_renewed_in_order<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let socket = |i: usize| demand(&d, "sockets", &i.to_string(), leases(1, MINUTE));
    for i in (0..4_096).step_by(3) {
        assert!(fits(&store, ask([leasing(socket(i), "l")])).await);
    }
    let all = (0..4_096).map(|i| held("l", [&socket(i)])).collect();
    let renewed = store.renew(all, PATIENCE).await.unwrap();
    assert_eq!(renewed.len(), 4_096);
    for (i, renewed) in renewed.into_iter().enumerate() {
        assert_eq!(renewed == Renewed::Held, i % 3 == 0, "{i}");
    }
}

pub(crate) async fn a_revoked_token_is_refused_and_nothing_is_charged<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let now = BEGIN.seconds();
    let counter = || demand(&d, "p", "a", window(5, MINUTE));
    let with = |id: &str, subject: &str, issued_at: u64| Ask {
        token: Some(Box::new(token(&d, id, subject, issued_at))),
        ..ask([counter()])
    };
    assert!(fits(&store, with("id-1", "alice", now)).await);
    let by_id = Revocation {
        issuer: d.as_str().into(),
        target: Target::TokenId("id-1".into()),
        keep: Keep::Until(at(60_000_000)),
    };
    assert_eq!(store.revoke(by_id.clone(), PATIENCE).await, Ok(true));
    assert_eq!(store.revoke(by_id, PATIENCE).await, Ok(false));
    let answer = take(&store, with("id-1", "alice", now)).await;
    assert!(answer.revoked && answer.readings.is_empty());
    assert!(fits(&store, with("id-2", "alice", now)).await);
    let by_subject = Revocation {
        issuer: d.as_str().into(),
        target: Target::Subject("alice".into()),
        keep: Keep::For(MINUTE),
    };
    assert_eq!(store.revoke(by_subject.clone(), PATIENCE).await, Ok(true));
    assert_eq!(store.revoke(by_subject.clone(), PATIENCE).await, Ok(false));
    assert!(take(&store, with("id-2", "alice", now)).await.revoked);
    assert!(!take(&store, with("id-2", "alice", now + 1)).await.revoked);
    assert!(!take(&store, with("id-2", "bob", now)).await.revoked);
    bed.set_clock(at(1_000_000));
    assert_eq!(store.revoke(by_subject, PATIENCE).await, Ok(true), "it moved");
    assert!(take(&store, with("id-2", "alice", now + 1)).await.revoked);
    bed.set_clock(at(60_000_000));
    assert!(!take(&store, with("id-1", "carol", now)).await.revoked, "its end is past");
    assert!(take(&store, with("id-1", "alice", now)).await.revoked);
    bed.set_clock(at(61_000_000));
    assert!(!take(&store, with("id-1", "alice", now)).await.revoked);
}

pub(crate) async fn a_revocation_is_kept_until_its_end_however_far<B: Bed>(bed: B) {
    let (store, d) = (bed.store().await, bed.domain());
    let only = || Ask { token: Some(Box::new(token(&d, "id", "s", BEGIN.seconds()))), ..Ask::default() };
    let target = Target::TokenId("id".into());
    // The end of the year 9999, the last that a token can have, and the longest leeway.
    let end = Moment((253_402_300_799 + 60) * 1_000_000);
    let revocation =
        || Revocation { issuer: d.as_str().into(), target: target.clone(), keep: Keep::Until(end) };
    assert_eq!(store.revoke(revocation(), PATIENCE).await, Ok(true));
    assert_eq!(store.revoke(revocation(), PATIENCE).await, Ok(false));
    let sooner = Revocation { keep: Keep::For(MINUTE), ..revocation() };
    assert_eq!(store.revoke(sooner, PATIENCE).await, Ok(false), "the one that lasts longer holds");
    for years in [0, 1, 9, 90] {
        bed.set_clock(at(years * 366 * 86_400 * 1_000_000));
        assert!(take(&store, only()).await.revoked, "{years}");
    }
}

pub(crate) async fn a_revocation_that_is_over_stays_so_when_the_clock_jumps_back<B: Bed>(bed: B) {
    let (store, d) = (bed.store().await, bed.domain());
    bed.set_clock(at(60_000_000));
    let target = Target::TokenId("id".into());
    let over = Revocation { issuer: d.as_str().into(), target, keep: Keep::Until(at(30_000_000)) };
    assert_eq!(store.revoke(over, PATIENCE).await, Ok(true));
    bed.set_clock(at(1_000_000));
    let only = Ask { token: Some(Box::new(token(&d, "id", "s", BEGIN.seconds()))), ..Ask::default() };
    assert!(!take(&store, only).await.revoked);
}

pub(crate) async fn revoked_wins_over_a_repeated_request<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let request = || Ask {
        token: Some(Box::new(token(&d, "id", "s", BEGIN.seconds()))),
        request_id: Some("r".into()),
        ..ask([demand(&d, "p", "a", window(5, MINUTE))])
    };
    assert!(fits(&store, request()).await);
    let target = Target::TokenId("id".into());
    let revocation = Revocation { issuer: d.as_str().into(), target, keep: Keep::For(MINUTE) };
    assert_eq!(store.revoke(revocation, PATIENCE).await, Ok(true));
    assert!(take(&store, request()).await.revoked);
}

pub(crate) async fn a_token_alone_is_asked_about_without_demands<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let only = || Ask { token: Some(Box::new(token(&d, "i d", "s{}", 1))), ..Ask::default() };
    assert_eq!(take(&store, only()).await, Answer { now: BEGIN, ..Answer::default() });
    let target = Target::Subject("s{}".into());
    let revocation = Revocation { issuer: d.as_str().into(), target, keep: Keep::For(MINUTE) };
    assert_eq!(store.revoke(revocation, PATIENCE).await, Ok(true));
    assert!(take(&store, only()).await.revoked);
}

pub(crate) async fn a_lease_ends_with_its_token<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let socket = || demand(&d, "sockets", "a", leases(3, MINUTE));
    for id in ["revoked", "expired", "good"] {
        assert!(fits(&store, ask([leasing(socket(), id)])).await);
    }
    let target = Target::TokenId("t".into());
    let revocation = Revocation { issuer: d.as_str().into(), target, keep: Keep::For(MINUTE) };
    assert_eq!(store.revoke(revocation, PATIENCE).await, Ok(true));
    let revoked = HeldLease { token: Some(Box::new(token(&d, "t", "s", 1))), ..held("revoked", [&socket()]) };
    let expired = HeldLease { token_ends: Some(BEGIN), ..held("expired", [&socket()]) };
    let good = HeldLease { token_ends: Some(at(1)), ..held("good", [&socket()]) };
    let renewed = store.renew(vec![revoked, expired, good], PATIENCE).await;
    assert_eq!(renewed, Ok(vec![Renewed::Revoked, Renewed::Expired, Renewed::Held]));
    let seen = take(&store, ask([peeking(leasing(socket(), "x"))])).await;
    assert_eq!(seen.readings[0].level, 1, "both were given back");
}

pub(crate) async fn editing_a_limit_keeps_its_counter<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let with = |limit: u64| demand(&d, "p", "a", window(limit, MINUTE));
    assert!(fits(&store, ask([costing(with(100), 40)])).await);
    let seen = take(&store, ask([peeking(with(10))])).await;
    assert_eq!((seen.readings[0].level, seen.readings[0].fits), (40, false));
    assert_eq!(take(&store, ask([peeking(with(50))])).await.readings[0].level, 40);
}

pub(crate) async fn many_at_once_on_several_stores_admit_exactly_the_limit<B: Bed>(bed: B) {
    let d = bed.domain();
    let rules = [
        (window(37, MINUTE), 37),
        (window(137, MINUTE), 137),
        (bucket(37, MINUTE, 41), 41),
        (fixed(37, MINUTE), 37),
        (leases(37, MINUTE), 37),
    ];
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(bed.store().await);
    }
    for (r, (rule, limit)) in rules.into_iter().enumerate() {
        let one = |i: usize| {
            let demand = demand(&d, "p", &r.to_string(), rule);
            let demand = if r == 4 { leasing(demand, &i.to_string()) } else { demand };
            // Every other one with a second limit, so that both ways through a store are mixed.
            let wide = self::demand(&d, "wide", &r.to_string(), fixed(10_000, MINUTE));
            if i.is_multiple_of(2) { ask([demand]) } else { ask([wide, demand]) }
        };
        let asks = (0..64 * 5).map(|i| fits(&stores[i % stores.len()], one(i)));
        let admitted = futures_util::future::join_all(asks).await.into_iter().filter(|fits| *fits).count();
        assert_eq!(admitted, limit, "{rule:?}");
    }
}

pub(crate) async fn a_full_shadow_limit_never_costs_a_lease<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let enforced = |id: &str| leasing(demand(&d, "sockets", "a", leases(3, MINUTE)), id);
    let watched = |id: &str| shadow(leasing(demand(&d, "watched", "a", leases(1, MINUTE)), id));
    for id in ["1", "2"] {
        assert!(fits(&store, ask([enforced(id), watched(id)])).await);
    }
    let lease = |id: &str| held(id, [&enforced(id), &watched(id)]);
    let renewed = store.renew(vec![lease("1"), lease("2"), lease("3")], PATIENCE).await.unwrap();
    assert_eq!(renewed, [Renewed::Held, Renewed::Held, Renewed::Lost]);
    assert!(store.release(lease("2"), PATIENCE).await.unwrap());
    assert_eq!(
        store.renew(vec![lease("1"), lease("2")], PATIENCE).await.unwrap(),
        [Renewed::Held, Renewed::Lost]
    );
}

pub(crate) async fn after_a_limit_was_lowered_the_wait_is_long_enough<B: Bed>(bed: B) {
    let store = bed.store().await;
    let d = bed.domain();
    let sockets = |limit: u64, id: &str| leasing(demand(&d, "sockets", "a", leases(limit, MINUTE)), id);
    for (i, id) in ["1", "2", "3"].iter().enumerate() {
        bed.set_clock(at(u64::try_from(i).unwrap() * 1_000_000));
        assert!(fits(&store, ask([sockets(3, id)])).await);
    }
    let refused = take(&store, ask([sockets(1, "4")])).await;
    assert_eq!(refused.readings[0].retry_at, at(62_000_000));
    bed.set_clock(at(61_999_999));
    assert!(!fits(&store, ask([sockets(1, "4")])).await);
    bed.set_clock(at(62_000_000));
    assert!(fits(&store, ask([sockets(1, "4")])).await);
}
