//! What the Redis store does when Redis does not do its part.

use crate::bed::{PATIENCE, connected, failed, reachable, spawn, started};
use crate::build::*;
use crate::redis::{Client, Kind, Server};
use quotad::engine::ask::Ask;
use quotad::engine::revocation::{Keep, Revocation, Target};
use quotad::engine::units::Micros;
use quotad::store::redis::{RedisOptions, RedisStore, Replicas};
use quotad::store::{Store, StoreError};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

const HOUR: Micros = Micros(3_600_000_000);

fn options(server: &Server) -> RedisOptions {
    let mut options = RedisOptions::new(server.url());
    options.timeout = Duration::from_secs(5);
    options
}

async fn store(server: &Server) -> RedisStore {
    connected(options(server)).await
}

fn counter(user: &str) -> Ask {
    ask([demand("d", "p", user, window(1_000_000, HOUR))])
}

/// A look charges nothing, so one that a busy machine made too late is repeated.
async fn level(store: &RedisStore, user: &str) -> u64 {
    let look = || ask([peeking(demand("d", "p", user, window(1_000_000, HOUR)))]);
    let mut level = None;
    until("a look", async || {
        level = store.take(look(), PATIENCE).await.ok().map(|answer| answer.readings[0].level);
        level.is_some()
    })
    .await;
    level.unwrap()
}

fn now() -> Instant {
    quotad::clock::monotonic()
}

#[tokio::test]
async fn starts_without_redis_fails_at_once_and_recovers_by_itself() {
    let server = Server::start(Kind::Redis7);
    server.kill();
    let store = started(options(&server));
    let begun = now();
    for _ in 0..100 {
        let error = failed(store.take(counter("a"), PATIENCE).await);
        assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    }
    // Not one of them waited as long as a call may.
    assert!(begun.elapsed() < Duration::from_secs(4), "no wait while Redis is away: {:?}", begun.elapsed());
    assert!(!store.health().reachable);
    server.restart();
    reachable(&store).await;
    assert!(store.take(counter("a"), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_killed_redis_is_noticed_and_its_return_too() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    assert!(store.take(counter("a"), PATIENCE).await.is_ok());
    server.kill();
    let begun = now();
    while store.health().reachable {
        assert!(begun.elapsed() < PATIENCE);
        let _ = store.take(counter("a"), Duration::from_millis(5)).await;
    }
    let begun = now();
    let error = failed(store.take(counter("a"), PATIENCE).await);
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    for result in [
        store.release(held("l", [&demand("d", "p", "a", leases(1, HOUR))]), PATIENCE).await.map(|_| ()),
        store.renew(vec![held("l", [&demand("d", "p", "a", leases(1, HOUR))])], PATIENCE).await.map(|_| ()),
    ] {
        assert!(matches!(failed(result), StoreError::Unreachable(_)));
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "no wait while Redis is away: {:?}", begun.elapsed());
    server.restart();
    reachable(&store).await;
    assert_eq!(level(&store, "a").await, 0, "a new Redis is empty; the script came along");
}

#[tokio::test]
async fn a_frozen_redis_costs_no_more_than_the_timeout_and_is_not_fed_while_it_hangs() {
    let server = Server::start(Kind::Redis7);
    let mut options = options(&server);
    options.timeout = Duration::from_millis(50);
    let store = connected(options).await;
    until("it answers", async || store.take(counter("a"), PATIENCE).await.is_ok()).await;
    let before = level(&store, "a").await;
    server.freeze();
    let (mut sent, mut waits) = (0, Vec::new());
    for _ in 0..10 {
        let begun = now();
        let error = failed(store.take(counter("a"), PATIENCE).await);
        waits.push(begun.elapsed());
        assert!(matches!(error, StoreError::Timeout(_) | StoreError::Unreachable(_)), "{error}");
        sent += u64::from(matches!(error, StoreError::Timeout(_)));
    }
    waits.sort_unstable();
    // A busy machine makes some of them slow, not half of them.
    assert!(waits[5] < Duration::from_millis(250), "{waits:?}");
    server.thaw();
    let begun = now();
    while store.take(counter("b"), PATIENCE).await.is_err() {
        assert!(begun.elapsed() < PATIENCE);
        // A poll of a condition with a deadline.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(sent <= 2, "{sent} calls were sent into the silence");
    assert!(level(&store, "a").await <= before + sent, "what was said not to be sent was not");
}

#[tokio::test]
async fn a_flushed_script_cache_is_invisible_and_charges_exactly_once() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut admin = server.client();
    let mut load = Vec::new();
    for _ in 0..16 {
        let store = store.clone();
        load.push(spawn(async move {
            for _ in 0..250 {
                store.take(counter("a"), PATIENCE).await.unwrap();
            }
        }));
    }
    let mut flushes = 0;
    while load.iter().any(|load| !load.is_finished()) {
        assert_eq!(admin.run(&["SCRIPT", "FLUSH"]), "OK");
        flushes += 1;
        tokio::task::yield_now().await;
    }
    for load in load {
        load.await.unwrap();
    }
    assert!(flushes > 10, "{flushes}");
    assert_eq!(level(&store, "a").await, 16 * 250);
}

#[tokio::test]
async fn a_bad_key_fails_its_own_decision_and_no_other() {
    for kind in [Kind::Redis7, Kind::Redis8, Kind::Valkey8] {
        bad_keys(kind).await;
    }
}

async fn bad_keys(kind: Kind) {
    let server = Server::start(kind);
    let store = store(&server).await;
    let mut admin = server.client();
    let rules = [window(5, HOUR), bucket(5, HOUR, 5), fixed(5, HOUR), leases(5, HOUR)];
    let of = |i: usize, user: &str| {
        let demand = demand("d", &format!("p{i}"), user, rules[i]);
        if i == 3 { leasing(demand, "l") } else { demand }
    };
    for (i, kind) in ["w", "b", "f", "l"].into_iter().enumerate() {
        let key = |user: &str| format!("q1:{{d|user={user}}}:p{i}:{kind}");
        admin.run(&["RPUSH", &key("list"), "x"]);
        admin.run(&["SET", &key("text"), "not ours"]);
        admin.run(&["SET", &key("long"), "0123456789abcdef0123456789abcdef0123456789abcdef"]);
        admin.run(&["SET", &key("empty"), ""]);
        admin.run(&["SET", &key("ones"), &"\u{7f}".repeat([32, 16, 24, 1][i])]);
    }
    let bad = ["list", "text", "empty", "ones", "long"];
    for i in 0..4 {
        let mut asks = Vec::new();
        for user in bad {
            asks.push((user, ask([of(i, user)])));
            asks.push((user, ask([of((i + 1) % 3, "beside"), of(i, user)])));
            asks.push(("good", ask([of(i, "good")])));
        }
        let answers =
            futures_util::future::join_all(asks.iter().map(|(_, ask)| store.take(ask.clone(), PATIENCE)));
        for ((user, _), answer) in asks.iter().zip(answers.await) {
            if *user == "good" {
                assert!(answer.is_ok(), "{kind:?} p{i} {user}: {answer:?}");
            } else {
                let error = failed(answer).to_string();
                assert!(error.contains(&format!("p{i}:")), "{kind:?} p{i} {user}: {error}");
            }
        }
    }
    for i in 0..3 {
        let beside = store.take(ask([peeking(of(i, "beside"))]), PATIENCE).await.unwrap();
        assert_eq!(beside.readings[0].reset_at, beside.now, "{kind:?}: a bad key beside it charges nothing");
        let good = store.take(ask([peeking(of(i, "good"))]), PATIENCE).await.unwrap();
        assert!(good.readings[0].reset_at > good.now, "{kind:?}: the good ones were charged");
    }
}

#[tokio::test]
async fn an_ask_that_names_one_key_twice_is_refused() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let one = || demand("d", "p", "a", window(1_000_000, HOUR));
    assert!(matches!(failed(store.take(ask([one(), one()]), PATIENCE).await), StoreError::Refused(_)));
    assert_eq!(level(&store, "a").await, 0);
}

#[tokio::test]
async fn a_revocation_that_cannot_be_read_is_no_pass() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut admin = server.client();
    admin.run(&["RPUSH", "q1:{revoked|i}:id:t", "x"]);
    let with = |foreign: Option<&str>, id: &str| {
        let mut token = token("i", id, "s", 1);
        token.foreign_key = foreign.map(Into::into);
        Ask { token: Some(Box::new(token)), ..counter("a") }
    };
    let error = failed(store.take(with(None, "t"), PATIENCE).await);
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert_eq!(level(&store, "a").await, 0);
    admin.run(&["LPUSH", "blacklisted:7", "of any type"]);
    assert!(store.take(with(Some("blacklisted:7"), "u"), PATIENCE).await.unwrap().revoked);
    assert!(!store.take(with(Some("blacklisted:8"), "u"), PATIENCE).await.unwrap().revoked);
    let target = Target::TokenId("t".into());
    let revocation = Revocation { issuer: "i".into(), target, keep: Keep::For(HOUR) };
    assert_eq!(store.revoke(revocation, PATIENCE).await, Ok(true));
    assert!(store.take(with(None, "t"), PATIENCE).await.unwrap().revoked);
}

#[tokio::test]
async fn a_full_redis_refuses_and_still_takes_leases_back() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let socket = || demand("d", "s", "a", leases(5, HOUR));
    store.take(ask([leasing(socket(), "l")]), PATIENCE).await.unwrap();
    let mut admin = server.client();
    admin.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    admin.run(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = failed(store.take(counter("a"), PATIENCE).await);
    assert!(matches!(&error, StoreError::Refused(why) if why.contains("OOM")), "{error}");
    assert!(store.renew(vec![held("l", [&socket()])], PATIENCE).await.is_ok());
    assert_eq!(store.release(held("l", [&socket()]), PATIENCE).await, Ok(true));
}

#[tokio::test]
async fn every_key_has_an_expiry_that_outlives_what_it_says() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut admin = server.client();
    let span = Micros(200_000);
    let begun = now();
    let mut rounds = 0;
    while begun.elapsed() < Duration::from_millis(1_500) {
        let everything = ask([
            demand("d", "w", "a", window(1_000_000, span)),
            demand("d", "x", "a", window(60, span)),
            demand("d", "b", "a", bucket(200_000, span, 200_000)),
            demand("d", "f", "a", fixed(1_000_000, span)),
            leasing(demand("d", "l", "a", leases(1_000_000, Micros(1_000_000))), "l"),
        ]);
        store.take(ask([demand("d", "w", "b", window(1_000_000, span))]), PATIENCE).await.unwrap();
        store
            .take(Ask { request_id: Some(format!("r{rounds}").into()), ..everything }, PATIENCE)
            .await
            .unwrap();
        for key in admin.run(&["KEYS", "q1:{d|user=a}:?:*"]).lines() {
            let left: i64 = admin.run(&["PTTL", key]).parse().unwrap();
            assert!(left > 250, "{key} has {left} ms to live");
        }
        rounds += 1;
    }
    assert!(rounds > 20, "{rounds}");
    let target = Target::Subject("s".into());
    let revocation = Revocation { issuer: "i".into(), target, keep: Keep::For(HOUR) };
    store.revoke(revocation, PATIENCE).await.unwrap();
    store.heartbeat().await.unwrap();
    assert_ttl(&mut admin, "q1:{revoked|i}:sub:s", 3_600_000..3_700_000);
    assert_ttl(&mut admin, "q1:replicas", 1..60_000);
}

fn assert_ttl(admin: &mut Client, key: &str, within: std::ops::Range<i64>) {
    let left: i64 = admin.run(&["PTTL", key]).parse().unwrap();
    assert!(within.contains(&left), "{key} has {left} ms to live");
}

#[tokio::test]
async fn a_window_stays_small_however_many_charges_it_has() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut admin = server.client();
    for (policy, limit, entries) in [("exact", 64, 64), ("slots", 1_000_000, 3)] {
        let one = || ask([demand("d", policy, "a", window(limit, HOUR))]);
        for _ in 0..200 {
            store.take(one(), PATIENCE).await.unwrap();
        }
        futures_util::future::join_all((0..200).map(|_| store.take(one(), PATIENCE))).await;
        let size: u64 = admin.run(&["STRLEN", &format!("q1:{{d|user=a}}:{policy}:w")]).parse().unwrap();
        assert!(size <= 16 * (entries + 1), "{policy}: {size} bytes");
    }
}

#[tokio::test]
async fn running_totals_begin_anew_before_a_double_loses_units() {
    const SEED: &str = "local now = redis.call('TIME')[1] * 1000000 \
        local value = struct.pack('<dddddd', 0, 2^52, now - 2000000, 2^52 + 3, now - 1000000, 2^52 + 5) \
        return redis.call('SET', KEYS[1], value, 'PX', 100000)";
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut admin = server.client();
    for (user, count) in [("alone", 1), ("together", 2)] {
        let key = format!("q1:{{d|user={user}}}:p:w");
        assert_eq!(admin.run(&["EVAL", SEED, "1", &key]), "OK");
        let asks = (0..count).map(|_| store.take(counter(user), PATIENCE));
        for answer in futures_util::future::join_all(asks).await {
            assert!(answer.unwrap().readings[0].level >= 5);
        }
        assert_eq!(level(&store, user).await, 5 + count);
        let total = admin.run(&[
            "EVAL",
            "return tostring(struct.unpack('<d', redis.call('GET', KEYS[1]), 9))",
            "1",
            &key,
        ]);
        assert_eq!(total, "0");
    }
}

#[tokio::test]
async fn replicas_are_counted_and_remembered() {
    let server = Server::start(Kind::Redis7);
    let one = store(&server).await;
    assert_eq!(one.replicas(), None, "nobody has said so yet");
    assert_eq!(one.heartbeat().await, Ok(1));
    let two = store(&server).await;
    assert_eq!(two.heartbeat().await, Ok(2));
    assert_eq!(one.heartbeat().await, Ok(2));
    server.kill();
    assert!(one.heartbeat().await.is_err());
    assert_eq!(one.replicas(), Some(2), "the last known number");
    server.restart();
    reachable(&one).await;
    assert_eq!(one.heartbeat().await, Ok(1), "the first to be back after a loss of data");
    assert_eq!(one.replicas(), Some(2), "which is no reason to take a whole limit");
    let three = RedisOptions { replicas: Replicas::at_least(NonZeroU64::new(3)), ..options(&server) };
    assert_eq!(started(three).replicas(), Some(3), "as configured, without a word");
}

#[tokio::test]
async fn a_doubtful_redis_is_warned_about() {
    let server =
        Server::start_with(Kind::Redis7, &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let store = store(&server).await;
    let begun = now();
    while store.health().warnings.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "the driver checks after a connect");
        // A poll of a condition with a deadline.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let warnings = store.health().warnings;
    assert!(warnings.iter().any(|warning| warning.starts_with("Q101")), "{warnings:?}");
    let mut admin = server.client();
    admin.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    admin.run(&["ACL", "SETUSER", "default", "-@scripting"]);
    store.check().await;
    let warnings = store.health().warnings;
    assert!(warnings.iter().any(|warning| warning.starts_with("Q104")), "{warnings:?}");
    assert!(!warnings.iter().any(|warning| warning.starts_with("Q101")), "{warnings:?}");
    assert!(matches!(failed(store.take(counter("a"), PATIENCE).await), StoreError::Refused(_)));
}

#[tokio::test]
async fn connects_by_unix_socket_with_password_and_database() {
    let server = Server::start_with(Kind::Redis7, &["--requirepass", "hunter2"]);
    let path = server.socket_url().replace("unix://", "unix://:hunter2@localhost");
    let by_socket = connected(RedisOptions::new(format!("{path}?db=3"))).await;
    let by_tcp = connected(RedisOptions::new(server.url().replace("//", "//:hunter2@") + "/3")).await;
    assert!(by_socket.take(counter("a"), PATIENCE).await.is_ok());
    assert_eq!(level(&by_tcp, "a").await, 1);
}

#[tokio::test]
async fn who_leaves_takes_no_answer_away_from_the_others() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut stay = Vec::new();
    for i in 0..200 {
        let leaver = {
            let store = store.clone();
            spawn(async move { store.take(counter("leaver"), PATIENCE).await })
        };
        let stayer = store.clone();
        stay.push(spawn(async move { stayer.take(counter("stayer"), PATIENCE).await }));
        if i % 3 == 0 {
            tokio::task::yield_now().await;
        }
        leaver.abort();
    }
    for stay in stay {
        stay.await.unwrap().unwrap();
    }
    assert_eq!(level(&store, "stayer").await, 200);
    assert!(level(&store, "leaver").await <= 200);
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        // A poll of a condition with a deadline.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_redis_that_is_silent_for_long_loses_its_connection_and_comes_back() {
    let server = Server::start(Kind::Redis7);
    let mut options = options(&server);
    options.timeout = Duration::from_millis(20);
    let store = connected(options).await;
    server.freeze();
    let mut sent = 0;
    until("the connection is given up", async || {
        let error = failed(store.take(counter("a"), PATIENCE).await);
        sent += u64::from(matches!(error, StoreError::Timeout(_)));
        !store.health().reachable
    })
    .await;
    // At once, and so without a timeout, which would be another error.
    assert!(matches!(failed(store.take(counter("a"), PATIENCE).await), StoreError::Unreachable(_)));
    assert!(sent <= 2, "{sent} calls were sent into the silence");
    server.thaw();
    until("it answers again", async || store.take(counter("b"), PATIENCE).await.is_ok()).await;
    assert!(level(&store, "a").await <= sent, "what was said not to be sent was not");
}

#[tokio::test]
async fn connections_that_break_under_load_lose_no_charge_and_make_none_twice() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut admin = server.client();
    let mut load = Vec::new();
    for _ in 0..600 {
        let store = store.clone();
        load.push(spawn(async move {
            let (mut done, mut unknown) = (0, 0);
            while done + unknown < 20 {
                match store.take(counter("a"), PATIENCE).await {
                    Ok(_) => done += 1,
                    Err(StoreError::Timeout(_)) => unknown += 1,
                    Err(StoreError::Unreachable(_)) => {
                        // A poll of a condition with a deadline.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            (done, unknown)
        }));
    }
    while load.iter().any(|load| !load.is_finished()) {
        admin.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        // Between two cuts calls shall pass as well.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut done, mut unknown) = (0, 0);
    for load in load {
        let (d, u) = load.await.unwrap();
        (done, unknown) = (done + d, unknown + u);
    }
    until("it is back", async || store.take(counter("b"), PATIENCE).await.is_ok()).await;
    let level = level(&store, "a").await;
    assert!(done > 0 && unknown > 0, "{done} done, {unknown} unknown: nothing was cut");
    assert!((done..=done + unknown).contains(&level), "{done} done, {unknown} unknown, {level} charged");
}

#[tokio::test]
async fn a_flush_under_full_batches_mixes_up_no_answers() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut admin = server.client();
    for round in 0..20_u64 {
        assert_eq!(admin.run(&["SCRIPT", "FLUSH"]), "OK");
        let users: Vec<String> = (0..600).map(|user| format!("u{user}")).collect();
        let asks = users.iter().enumerate().map(|(user, name)| {
            // Each user's answer differs from its neighbours'.
            let times = if user % 3 == 0 { 2 } else { 1 };
            futures_util::future::join_all((0..times).map(|_| store.take(counter(name), PATIENCE)))
        });
        for (user, answers) in futures_util::future::join_all(asks).await.into_iter().enumerate() {
            let times = u64::try_from(answers.len()).unwrap();
            for (turn, answer) in (0..).zip(answers) {
                let level = answer.unwrap().readings[0].level;
                assert_eq!(level, round * times + turn, "round {round}, user {user}");
            }
        }
    }
}

#[tokio::test]
async fn a_password_that_is_wrong_or_not_asked_for_keeps_nobody_out_longer_than_it_must() {
    let server = Server::start(Kind::Redis7);
    let url = server.url().replace("//", "//:hunter2@");
    let open = connected(RedisOptions { timeout: Duration::from_secs(5), ..RedisOptions::new(url) }).await;
    assert!(open.take(counter("a"), PATIENCE).await.is_ok(), "a Redis without a password takes everybody");
    let mut admin = server.client();
    let strange = store(&server).await;
    assert_eq!(admin.run(&["CONFIG", "SET", "requirepass", "hunter2"]), "OK");
    admin.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    until("the reason is told", async || match strange.take(counter("a"), PATIENCE).await {
        Err(StoreError::Unreachable(why)) => why.contains("NOAUTH"),
        _ => false,
    })
    .await;
    until("who knows the password is let in", async || open.take(counter("a"), PATIENCE).await.is_ok()).await;
    assert_eq!(admin.run(&["CONFIG", "SET", "requirepass", ""]), "OK");
    until("and everybody again", async || strange.take(counter("a"), PATIENCE).await.is_ok()).await;
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_and_nothing_is_refused_for_good() {
    let server = Server::start(Kind::Redis7);
    let store = store(&server).await;
    let mut admin = server.client();
    let accepted = |admin: &mut Client| -> u64 {
        let stats = admin.run(&["INFO", "stats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = accepted(&mut admin);
    assert_eq!(admin.run(&["REPLICAOF", "127.0.0.1", "1"]), "OK");
    until("a new connection", async || {
        let error = failed(store.take(counter("a"), PATIENCE).await);
        assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
        accepted(&mut admin) > before
    })
    .await;
    assert_eq!(admin.run(&["REPLICAOF", "NO", "ONE"]), "OK");
    until("it answers again", async || store.take(counter("a"), PATIENCE).await.is_ok()).await;
}

#[tokio::test]
async fn a_user_who_may_do_only_what_decisions_need_decides() {
    let server = Server::start(Kind::Redis7);
    let mut admin = server.client();
    let rules = ["+evalsha", "+eval", "+time", "+get", "+set", "+setrange", "+append", "~q1:*"];
    let user = [&["ACL", "SETUSER", "quotad", "on", ">hunter2", "-@all"][..], &rules].concat();
    assert_eq!(admin.run(&user), "OK");
    let url = server.url().replace("//", "//quotad:hunter2@");
    let store = started(RedisOptions { timeout: Duration::from_secs(5), ..RedisOptions::new(url) });
    until("it decides", async || store.take(counter("a"), PATIENCE).await.is_ok()).await;
}

#[tokio::test]
async fn an_operator_sees_whose_connections_they_are() {
    let server = Server::start(Kind::Redis7);
    let mut admin = server.client();
    let store = store(&server).await;
    let process = format!("-{}", std::process::id());
    let named = |list: &str, part: &str| {
        let names =
            list.lines().filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("name=")));
        names.filter(|name| name.starts_with(part) && name.ends_with(&process)).count()
    };
    for round in ["at first", "after both were cut"] {
        until(round, async || {
            // A connection that was cut is opened anew, and named anew.
            let list = admin.run(&["CLIENT", "LIST"]);
            (named(&list, "quotad-decisions-"), named(&list, "quotad-control-")) == (1, 1)
        })
        .await;
        admin.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    drop(store);
}

#[tokio::test]
async fn an_address_of_ipv6_leads_to_redis_too() {
    // `-`: where the machine has no IPv6, Redis does without.
    let server = Server::start_with(Kind::Redis7, &["--bind", "127.0.0.1", "-::1"]);
    let url = server.url().replace("127.0.0.1", "[::1]");
    if std::net::TcpStream::connect(url.trim_start_matches("redis://")).is_err() {
        return eprintln!("this machine has no IPv6: not tried");
    }
    let store = connected(RedisOptions { timeout: Duration::from_secs(5), ..RedisOptions::new(url) }).await;
    assert!(store.take(counter("a"), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn the_driver_ends_with_its_last_store() {
    let server = Server::start(Kind::Redis7);
    let (store, driver) = RedisStore::connect(options(&server)).unwrap();
    let driver = spawn(driver.run());
    reachable(&store).await;
    let other = store.clone();
    drop(store);
    assert!(other.take(counter("a"), PATIENCE).await.is_ok(), "it serves the other");
    drop(other);
    tokio::time::timeout(PATIENCE, driver).await.expect("the driver ends").unwrap();
    let (store, driver) = RedisStore::connect(RedisOptions::new("redis://127.0.0.1:1")).unwrap();
    let driver = spawn(driver.run());
    assert!(store.take(counter("a"), PATIENCE).await.is_err());
    drop(store);
    tokio::time::timeout(PATIENCE, driver).await.expect("also while it connects").unwrap();
}
