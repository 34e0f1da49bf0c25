//! Load by frames that were encoded before: unary gRPC calls of any method, and plain HTTP/1.1 requests.

use crate::cell::{Found, Shape, block_on};
use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use prost::Message;
use quotad::cli::bench::tally::Tally;
use quotad::cli::bench::usage::cpu_time;
use quotad::cli::bench::wire::{Caller, Line};
use quotad::clock;
use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Whose processor time is counted: the service's, and Redis's.
pub(crate) type Pids = (Option<u32>, Option<u32>);

/// From when to when is measured.
type Interval = (Instant, Instant);

/// A message as a whole gRPC frame.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// Makes unary calls of one method; each lane goes round the frames.
pub(crate) fn calls(
    (address, path): (&str, &'static str),
    frames: &[Bytes],
    (shape, span): (Shape, Duration),
    pids: Pids,
) -> anyhow::Result<Found> {
    let address = address.parse()?;
    block_on(async {
        let mut lines = Vec::new();
        for _ in 0..shape.connections {
            lines.push(Rc::new(Line::open(&address, path).await?));
        }
        let lanes = lines.iter().flat_map(|line| (0..shape.lanes).map(move |_| Caller::new(line)));
        let interval = interval(span);
        let each = lanes.enumerate().map(|(number, caller)| lane(caller, frames, number * 13, interval));
        found(try_join_all(each), interval, pids).await
    })?
}

/// How fast requests come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// The next when the last is answered.
    Closed,
    /// So many a second in all, whatever the answers take.
    Rate(f64),
}

/// Gets one path again and again on each connection, by HTTP/1.1 that is kept alive. Every answer must be a 200.
pub(crate) fn requests(
    address: &str,
    (connections, pace, span): (u32, Pace, Duration),
    pids: Pids,
) -> anyhow::Result<Found> {
    let interval = interval(span);
    let apart = match pace {
        Pace::Closed => None,
        Pace::Rate(rate) => Some(Duration::from_secs_f64(rate.recip())),
    };
    // A thread each: the timers of a runtime are too coarse to pace by.
    let threads = (0..connections).map(|number| {
        let address = address.to_owned();
        let turns = apart.map(|apart| (interval.0 - span / 6 + apart * number, apart * connections));
        tokio::task::spawn_blocking(move || requester(&address, turns, interval))
    });
    block_on(async {
        let all = async {
            let ended = try_join_all(threads).await?;
            ended.into_iter().collect::<anyhow::Result<Vec<_>>>()
        };
        found(all, interval, pids).await
    })?
}

fn interval(span: Duration) -> Interval {
    let start = clock::monotonic();
    (start + span / 6, start + span / 6 + span)
}

async fn found(
    load: impl Future<Output = anyhow::Result<Vec<Histogram<u64>>>>,
    (from, to): Interval,
    pids: Pids,
) -> anyhow::Result<Found> {
    let cpu = async |pid: Option<u32>| {
        let Some(pid) = pid else { return anyhow::Ok(None) };
        tokio::time::sleep_until(from.into()).await;
        let before = cpu_time(pid)?;
        tokio::time::sleep_until(to.into()).await;
        anyhow::Ok(Some(cpu_time(pid)?.saturating_sub(before)))
    };
    let (histograms, server, redis) = tokio::try_join!(load, cpu(pids.0), cpu(pids.1))?;
    let mut all = histogram()?;
    for one in histograms {
        all.add(one)?;
    }
    let count = f64::from(u32::try_from(all.len()).context("too many calls")?);
    let micros = |quantile| Duration::from_nanos(all.value_at_quantile(quantile)).as_secs_f64() * 1e6;
    let each = |cpu: Option<Duration>| cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / count.max(1.0));
    Ok(Found {
        rate: count / (to - from).as_secs_f64(),
        p50: micros(0.5),
        p99: micros(0.99),
        server: each(server),
        redis: each(redis),
    })
}

async fn lane(
    mut caller: Caller,
    frames: &[Bytes],
    first: usize,
    (from, to): Interval,
) -> anyhow::Result<Histogram<u64>> {
    let (mut histogram, tally) = (histogram()?, RefCell::new(Tally::new()?));
    for frame in frames.iter().cycle().skip(first % frames.len().max(1)) {
        let sent = clock::monotonic();
        if sent >= to {
            break;
        }
        if let Err(failure) = caller.unary(frame.clone(), &tally).await {
            bail!("a call failed: {}", failure.0);
        }
        record(&mut histogram, sent, from);
    }
    Ok(histogram)
}

/// With `turns`, the first moment and the time between, it waits for its turn, and counts from then when it is late.
fn requester(
    address: &str,
    mut turns: Option<(Instant, Duration)>,
    (from, to): Interval,
) -> anyhow::Result<Histogram<u64>> {
    const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nhost: bench\r\nx-user: bench\r\n\r\n";
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut histogram, mut reply) = (histogram()?, vec![0; 16 * 1024]);
    loop {
        let mut sent = clock::monotonic();
        if let Some((turn, apart)) = &mut turns {
            wait_until(*turn);
            // One who wakes late from its wait is late by the timer's fault, one who did not wait by the server's.
            sent = if *turn > sent { clock::monotonic() } else { *turn };
            *turn += *apart;
        }
        if sent >= to {
            return Ok(histogram);
        }
        stream.write_all(REQUEST)?;
        let mut length = 0;
        // Answers without a body end with their headers.
        while !reply.get(..length).unwrap_or_default().ends_with(b"\r\n\r\n") {
            let read = stream.read(reply.get_mut(length..).unwrap_or_default())?;
            length += read;
            if read == 0 {
                bail!("Envoy closed the connection");
            }
        }
        if !reply.starts_with(b"HTTP/1.1 200") {
            bail!("not a 200: {}", String::from_utf8_lossy(reply.get(..length).unwrap_or_default()));
        }
        record(&mut histogram, sent, from);
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread is one client and serves nobody")]
fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(clock::monotonic()));
}

fn record(histogram: &mut Histogram<u64>, sent: Instant, from: Instant) {
    if sent >= from {
        histogram.saturating_record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}
