//! Clients that ask and never read the answers, or leave messages half sent: what they may cost has a bound.

use crate::harness::{Quotad, Start, check, decide, until};
use crate::server::{Kind, Server};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use prost::Message as _;
use quotad::pb::quotad::v1 as pb;
use std::time::{Duration, Instant};

/// Eight policies, so that an answer is far longer than its question.
fn config() -> String {
    let policy = |name| format!("  - {{name: {name}, partition: [ip], limit: 1000000, window: 1h}}\n");
    format!("policies:\n{}", POLICIES.map(policy).concat())
}

const POLICIES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const CHECKS: &str = "quotad.v1.DecisionService/CheckLimits";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// What a message may take to come.
const MESSAGE: Duration = Duration::from_secs(10);
pub const MIB: usize = 1_024 * 1_024;

/// A client that opens streams and reads none.
pub struct Deaf {
    sender: SendRequest<Bytes>,
    streams: Vec<(ResponseFuture, SendStream<Bytes>)>,
}

impl Deaf {
    pub async fn connect(quotad: &Quotad) -> Self {
        Self::with_window(quotad, 65_535).await
    }

    /// One that lets so many bytes of each answer come.
    pub async fn with_window(quotad: &Quotad, window: u32) -> Self {
        let socket = tokio::net::TcpStream::connect(&quotad.address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_max_send_streams(1_024).initial_window_size(window);
        let (sender, connection) = builder.handshake(socket).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { sender, streams: Vec::new() }
    }

    pub async fn open(&mut self, method: &str, sent: Bytes) {
        let mut sender = self.sender.clone().ready().await.unwrap();
        let request = http::Request::post(format!("http://quotad/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let (answer, mut stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(sent, false).unwrap();
        self.streams.push((answer, stream));
    }
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed
}

fn batch(many: u64) -> Vec<u8> {
    let policies = POLICIES.map(str::to_owned).to_vec();
    let one =
        || Some(pb::CheckLimitRequest { policies: policies.clone(), ..check("", &[("ip", "203.0.113.7")]) });
    let checks = (0..many).map(|id| pb::check_limits_request::Check { id, request: one() }).collect();
    framed(&pb::CheckLimitsRequest { checks }.encode_to_vec())
}

/// Bytes of a process that lie in memory.
pub fn resident(quotad: &Quotad) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", quotad.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

/// Clock ticks of its processor time.
fn busy(quotad: &Quotad) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", quotad.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The most memory it has until it does nothing for half a second.
pub async fn at_rest(quotad: &Quotad) -> usize {
    let (mut most, mut last, mut since) = (0, busy(quotad), Instant::now());
    until("the process rests", async || {
        most = most.max(resident(quotad));
        if busy(quotad) > last + 1 {
            (last, since) = (busy(quotad), Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    })
    .await;
    most
}

/// What `connections` times `streams` streams take that send four messages of 1,024 checks and read nothing.
async fn taken(quotad: &Quotad, connections: usize, streams: usize) -> usize {
    let mut polite = quotad.client().await;
    decide(&mut polite, check("a", &[("ip", "203.0.113.8")])).await;
    let before = resident(quotad);
    let sent: Bytes = batch(1_024).repeat(4).into();
    let mut deaf = Vec::new();
    for _ in 0..connections {
        let mut one = Deaf::connect(quotad).await;
        for _ in 0..streams {
            one.open(CHECKS, sent.clone()).await;
        }
        deaf.push(one);
    }
    let most = at_rest(quotad).await;
    // Everybody else is served meanwhile.
    decide(&mut polite, check("a", &[("ip", "203.0.113.8")])).await;
    most.saturating_sub(before)
}

/// Most that one connection may take (docs/architecture.md), and the leavings of an allocator.
pub const OF_ONE: usize = 64 * MIB;

#[tokio::test]
async fn answers_that_nobody_reads_take_no_more_than_a_connection_may() {
    for streams in [200, 1_000] {
        let quotad = Quotad::start(&config());
        let taken = taken(&quotad, 1, streams).await;
        assert!(taken < OF_ONE, "{streams} streams took {} MiB", taken / MIB);
    }
    let quotad = Quotad::start(&config());
    let taken = taken(&quotad, 4, 250).await;
    assert!(taken < 4 * OF_ONE, "four connections took {} MiB", taken / MIB);
}

#[tokio::test]
async fn answers_from_redis_that_nobody_reads_take_no_more_either() {
    let redis = Server::start(Kind::Redis7);
    for streams in [200, 1_000] {
        let quotad =
            Start::with(&config()).arg("--store").arg(redis.url()).arg("--store-timeout").arg("1s").start();
        let taken = taken(&quotad, 1, streams).await;
        assert!(taken < OF_ONE, "{streams} streams took {} MiB", taken / MIB);
    }
}

#[tokio::test]
async fn half_messages_take_no_more_than_a_connection_may_and_are_given_up() {
    for (method, announced) in [(CHECKS, MIB), (REFLECTION, 4 * MIB), (REFLECTION, 64 * 1_024)] {
        let quotad = Quotad::start(&config());
        let mut polite = quotad.client().await;
        decide(&mut polite, check("a", &[("ip", "203.0.113.8")])).await;
        let before = resident(&quotad);
        let mut half = vec![0];
        half.extend(u32::try_from(announced).unwrap().to_be_bytes());
        half.resize(announced - 1, 0);
        let half = Bytes::from(half);
        let mut deaf = Deaf::connect(&quotad).await;
        for _ in 0..64 {
            deaf.open(method, half.clone()).await;
        }
        let taken = at_rest(&quotad).await.saturating_sub(before);
        decide(&mut polite, check("a", &[("ip", "203.0.113.8")])).await;
        assert!(taken < OF_ONE, "{method}: {announced} bytes took {} MiB", taken / MIB);
        // Those that have begun are given up, each after its time.
        let first = deaf.streams.remove(0);
        let end = async {
            let mut body: RecvStream = first.0.await?.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            body.trailers().await
        };
        let ended = tokio::time::timeout(2 * MESSAGE, end).await.expect("the end of half a message");
        let code = ended.ok().flatten().and_then(|trailers| trailers.get("grpc-status").cloned());
        // Reflection ends well whatever ended it.
        let expected = if method == CHECKS { "4" } else { "0" };
        assert_eq!(code.as_ref().map(http::HeaderValue::as_bytes), Some(expected.as_bytes()), "{method}");
    }
}
