//! What a decision costs Redis, beside a bare INCR on the same server. Not a test: it prints.
//!
//! `cargo test --release --test conformance cost:: -- --ignored --nocapture --test-threads=1`

use crate::bed::{PATIENCE, connected, spawn};
use crate::build::*;
use crate::random::Random;
use crate::redis::{Kind, Server, frame};
use quotad::clock;
use quotad::engine::rule::Rule;
use quotad::store::Store;
use quotad::store::redis::RedisOptions;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SPAN: Duration = Duration::from_millis(1_500);
const KEYS: u64 = 10_000;

#[derive(Clone, Copy)]
struct Measured {
    /// Redis's processor time of one operation, in microseconds.
    cpu: f64,
    /// Operations a second.
    rate: f64,
}

#[tokio::test]
#[ignore = "prints measurements"]
async fn of_a_decision_beside_an_increment() {
    for kind in [Kind::Redis7, Kind::Redis8, Kind::Valkey8] {
        let one = increments_alone(kind).await;
        let many = increments(kind, 512);
        println!("{kind:?}: INCR unpipelined {:.2} µs, pipelined 512 {:.3} µs", one.cpu, many.cpu);
        let rules = [
            ("sliding_window 10/1m", window(10, seconds(60))),
            ("sliding_window 1000/1m", window(1_000, seconds(60))),
            ("token_bucket 100/1s", bucket(100, seconds(1), 100)),
            ("fixed_window 1000/1m", fixed(1_000, seconds(60))),
        ];
        for (name, rule) in rules {
            for in_flight in [1, 64, 512] {
                let measured = decisions(kind, rule, in_flight).await;
                let base = if in_flight == 512 { many } else { one };
                println!(
                    "  {name:24} {in_flight:4} in flight: {:6.2} µs of Redis ({:.2} x INCR), {:7.0}/s",
                    measured.cpu,
                    measured.cpu / base.cpu,
                    measured.rate,
                );
            }
        }
    }
}

/// Measures after a warm-up of a third of the span.
fn measure(server: &Server, mut operation: impl FnMut() -> u32) -> Measured {
    let warm = clock::monotonic();
    while warm.elapsed() < SPAN / 3 {
        operation();
    }
    let (cpu, begun, mut count) = (server.cpu(), clock::monotonic(), 0);
    while begun.elapsed() < SPAN {
        count += operation();
    }
    measured(server.cpu() - cpu, begun, count)
}

fn measured(cpu: Duration, begun: Instant, count: u32) -> Measured {
    let count = f64::from(count);
    Measured { cpu: cpu.as_secs_f64() * 1e6 / count, rate: count / begun.elapsed().as_secs_f64() }
}

fn increments(kind: Kind, pipeline: u32) -> Measured {
    let server = Server::start(kind);
    let mut client = server.client();
    let mut random = Random(1);
    measure(&server, || {
        let frames: Vec<u8> =
            (0..pipeline).flat_map(|_| frame(&["INCR", &format!("key:{}", random.below(KEYS))])).collect();
        client.send_frames(&frames);
        for _ in 0..pipeline {
            client.reply();
        }
        pipeline
    })
}

/// One at a time from an async runtime, as decisions are sent: a server that sleeps in between pays for waking up.
async fn increments_alone(kind: Kind) -> Measured {
    let server = Server::start(kind);
    let address = server.url().replace("redis://", "");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut random = Random(1);
    let mut reply = [0; 64];
    let (cpu, begun, mut count) = (server.cpu(), clock::monotonic(), 0);
    while begun.elapsed() < SPAN {
        let command = frame(&["INCR", &format!("key:{}", random.below(KEYS))]);
        stream.write_all(&command).await.unwrap();
        assert!(stream.read(&mut reply).await.unwrap() > 0);
        count += 1;
    }
    measured(server.cpu() - cpu, begun, count)
}

async fn decisions(kind: Kind, rule: Rule, in_flight: u32) -> Measured {
    let server = Server::start(kind);
    let mut options = RedisOptions::new(server.url());
    options.timeout = PATIENCE;
    let store = connected(options).await;
    let mut lanes = Vec::new();
    let (warm, end) = (clock::monotonic() + SPAN / 3, clock::monotonic() + SPAN / 3 + SPAN);
    for lane in 0..in_flight {
        let store = store.clone();
        lanes.push(spawn(async move {
            let mut random = Random(u64::from(lane));
            let mut count = 0_u32;
            while clock::monotonic() < end {
                let user = format!("203.0.113.{}", random.below(KEYS));
                store.take(ask([demand("default", "per-ip", &user, rule)]), PATIENCE).await.unwrap();
                count += u32::from(clock::monotonic() > warm);
            }
            count
        }));
    }
    // A measurement lasts for a time.
    tokio::time::sleep_until(warm.into()).await;
    let (cpu, begun) = (server.cpu(), clock::monotonic());
    // A measurement lasts for a time.
    tokio::time::sleep_until(end.into()).await;
    let cpu = server.cpu() - cpu;
    let mut count = 0;
    for lane in lanes {
        count += lane.await.unwrap();
    }
    Measured { rate: f64::from(count) / SPAN.as_secs_f64(), ..measured(cpu, begun, count) }
}
