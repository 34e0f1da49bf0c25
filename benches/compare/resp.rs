//! Bare `INCR` over plain RESP: the least that a counter on Redis can cost.

use crate::cell::{Found, KEYS, block_on};
use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use quotad::cli::bench::usage::cpu_time;
use quotad::clock;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How commands are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pipe {
    /// Connections.
    pub(crate) connections: u32,
    /// Commands sent together on each, before their replies are read.
    pub(crate) depth: u32,
    /// Least time from one pipeline to the next on a connection; zero: at once.
    pub(crate) pause: Duration,
}

/// Counts on a Redis for `span`, after a sixth of it as warm-up.
pub(crate) fn count(address: &str, pid: u32, pipe: Pipe, span: Duration) -> anyhow::Result<Found> {
    block_on(run(address, pid, pipe, span))?
}

async fn run(address: &str, pid: u32, pipe: Pipe, span: Duration) -> anyhow::Result<Found> {
    let start = clock::monotonic();
    let (from, to) = (start + span / 6, start + span / 6 + span);
    let load =
        try_join_all((0..pipe.connections).map(|number| connection(address, number, pipe, (from, to))));
    let cpu = async {
        tokio::time::sleep_until(from.into()).await;
        let before = cpu_time(pid)?;
        tokio::time::sleep_until(to.into()).await;
        anyhow::Ok(cpu_time(pid)?.saturating_sub(before))
    };
    let (histograms, cpu) = tokio::try_join!(load, cpu)?;
    let mut all = histogram()?;
    for one in histograms {
        all.add(one)?;
    }
    // Each record is a pipeline of `depth` commands.
    let pipelines = u32::try_from(all.len()).context("too many commands")?;
    let commands = f64::from(pipelines) * f64::from(pipe.depth);
    let micros = |quantile| Duration::from_nanos(all.value_at_quantile(quantile)).as_secs_f64() * 1e6;
    Ok(Found {
        rate: commands / span.as_secs_f64(),
        p50: micros(0.5),
        p99: micros(0.99),
        server: None,
        redis: (commands > 0.0).then(|| cpu.as_secs_f64() * 1e6 / commands),
    })
}

async fn connection(
    address: &str,
    number: u32,
    pipe: Pipe,
    (from, to): (Instant, Instant),
) -> anyhow::Result<Histogram<u64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (depth, mut histogram) = (pipe.depth, histogram()?);
    let (mut key, mut reply) = (number * 101 % KEYS, vec![0; 64 * 1024]);
    // Encoded before anything is measured: one pipeline from each key on.
    let pipelines: Vec<Vec<u8>> = (0..KEYS).map(|first| pipeline(first, depth)).collect();
    loop {
        let commands = usize::try_from(key).ok().and_then(|key| pipelines.get(key)).context("no such key")?;
        key = (key + depth) % KEYS;
        let sent = clock::monotonic();
        if sent >= to {
            return Ok(histogram);
        }
        stream.write_all(commands).await?;
        let mut missing = depth;
        while missing > 0 {
            let length = stream.read(&mut reply).await?;
            missing -= replies(reply.get(..length).unwrap_or_default())?.min(missing);
        }
        let took = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Timers are coarser than this.
        while clock::monotonic() < sent + pipe.pause {
            std::hint::spin_loop();
        }
        if sent >= from {
            histogram.saturating_record(took);
        }
    }
}

/// `INCR` of so many keys in a row, as RESP.
fn pipeline(first: u32, depth: u32) -> Vec<u8> {
    let mut commands = Vec::new();
    for key in (first..first.saturating_add(depth)).map(|key| format!("bench:{{{}}}", key % KEYS)) {
        commands.extend_from_slice(format!("*2\r\n$4\r\nINCR\r\n${}\r\n{key}\r\n", key.len()).as_bytes());
    }
    commands
}

/// Replies that end in these bytes: each is a line, and a number is one.
fn replies(bytes: &[u8]) -> anyhow::Result<u32> {
    if bytes.is_empty() || bytes.contains(&b'-') {
        bail!("redis refused: {}", String::from_utf8_lossy(bytes));
    }
    Ok(u32::try_from(bytes.iter().filter(|byte| **byte == b'\n').count())?)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}
