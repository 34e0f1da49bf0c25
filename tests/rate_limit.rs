//! Requests and answers of the rate limit service, as envoyproxy/ratelimit answers them: a corpus of named cases, on the
//! embedded store and on Redis 7, under a clock that the cases set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the beds are shared with another suite, which uses the rest")]

#[path = "conformance/bed.rs"]
mod bed;
#[path = "rate_limit/corpus.rs"]
mod corpus;
#[path = "support/redis.rs"]
mod redis;
#[path = "rate_limit/words.rs"]
mod words;
#[path = "rate_limit/world.rs"]
mod world;

use bed::{Bed, MemoryBed, RedisBed};
use quotad::engine::rate_limit::RateLimits;
use redis::Kind;
use world::World;

/// Asks every case in order; fails with the case's name at the first answer that is another.
async fn answers<B: Bed>(bed: B) {
    let store = bed.store().await;
    let mut count = 0;
    for (number, case) in corpus::all().into_iter().enumerate() {
        // Each case has counters of its own.
        let domain = format!("{}-{number}", bed.domain());
        let world = World::new(store.clone(), &case, &domain);
        for (at, request, wanted) in &case.steps {
            bed.set_clock(world::moment(*at));
            let got = world.ask(&domain, request).await;
            assert_eq!(got, *wanted, "{}: at {at}, asked `{request}`", case.name);
            count += 1;
        }
    }
    assert!(count > 100, "{count} answers were compared");
}

#[tokio::test]
async fn the_corpus_on_the_embedded_store() {
    answers(MemoryBed::new()).await;
}

#[tokio::test]
async fn the_corpus_on_redis_7() {
    answers(RedisBed::new(Kind::Redis7)).await;
}

/// The largest request is one ask: what it counts, it counts in one step.
async fn the_largest<B: Bed>(bed: B) {
    let case = corpus::case("largest", &["a 2/minute"], vec![]);
    let domain = bed.domain();
    let world = World::new(bed.store().await, &case, &domain);
    bed.set_clock(world::moment(2222));
    let descriptors: Vec<String> = (0..128).map(|number| format!("a={number}")).collect();
    for left in [1, 0] {
        let wanted = vec![format!("OK 2/MINUTE r={left} t=58"); 128].join(" | ");
        assert_eq!(world.ask(&domain, &descriptors.join(" | ")).await, format!("OK: {wanted}"));
    }
    let over = vec!["OVER_LIMIT 2/MINUTE r=0 t=58"; 128].join(" | ");
    assert_eq!(world.ask(&domain, &descriptors.join(" | ")).await, format!("OVER_LIMIT: {over}"));
}

#[tokio::test]
async fn the_largest_request_on_the_embedded_store() {
    the_largest(MemoryBed::new()).await;
}

#[tokio::test]
async fn the_largest_request_on_redis_7() {
    the_largest(RedisBed::new(Kind::Redis7)).await;
}

#[tokio::test]
async fn without_a_configuration_it_says_so_in_the_known_words() {
    let bed = MemoryBed::new();
    let world = World::with(bed.store().await, RateLimits::Refused, corpus::plain());
    assert_eq!(world.ask("d", "a=1").await, "Unknown: no rate limit configuration loaded");
    assert_eq!(world.ask("", "a=1").await, "Unknown: rate limit domain must not be empty");
    assert_eq!(world.ask("d", "").await, "Unknown: rate limit descriptor list must not be empty");
    let off = World::with(bed.store().await, RateLimits::Off, corpus::plain());
    assert_eq!(off.ask("d", "a=1").await, "OK: OK -");
}

#[tokio::test]
async fn while_the_store_is_away_limits_are_kept_in_this_process() {
    let bed = MemoryBed::new();
    let store = world::Away(bed.store().await);
    let case = corpus::case("away", &["a 2/hour"], vec![]);
    let world = World::new(store, &case, "d");
    let short = |answer: String| answer.split(" t=").next().unwrap().to_owned();
    assert_eq!(short(world.ask("d", "a=1").await), "OK: OK 2/HOUR r=1");
    assert_eq!(short(world.ask("d", "a=1").await), "OK: OK 2/HOUR r=0");
    assert_eq!(short(world.ask("d", "a=1").await), "OVER_LIMIT: OVER_LIMIT 2/HOUR r=0");
}
