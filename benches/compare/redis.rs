//! `CheckLimit` on Redis beside bare `INCR` on the same Redis.

use crate::Options;
use crate::cell::{Found, Shape, checks, median, one_answer};
use crate::child::Server;
use crate::resp::{Pipe, count};
use crate::table::{Target, markdown, maybe, number, ratio, times, verdict};
use anyhow::Context as _;
use prost::Message as _;
use quotad::config::Environment;
use std::path::PathBuf;
use std::time::Duration;

const COLUMNS: [&str; 7] = [
    "what",
    "in flight",
    "operations/s",
    "p50 us",
    "p99 us",
    "quotad CPU us/operation",
    "Redis CPU us/operation",
];

/// Connections and calls on each: 1, 64 and 512 in flight.
const SHAPES: [Shape; 3] = [
    Shape { connections: 1, lanes: 1 },
    Shape { connections: 8, lanes: 8 },
    Shape { connections: 8, lanes: 64 },
];
const ALONE: Shape = Shape { connections: 1, lanes: 1 };

/// What is measured in each round.
#[derive(Clone, Copy, Debug)]
enum What {
    Incr(&'static str, Pipe),
    /// `INCR` at 1 in flight, as often as this round's checks at 1 in flight came.
    Paced,
    Check(Shape),
    Echo,
}

const CELLS: [What; 9] = [
    What::Incr("INCR, not pipelined", incr(1, 1)),
    What::Incr("INCR, not pipelined", incr(64, 1)),
    What::Incr("INCR, pipelined", incr(1, 64)),
    What::Incr("INCR, pipelined", incr(1, 512)),
    What::Check(SHAPES[0]),
    What::Paced,
    What::Check(SHAPES[1]),
    What::Check(SHAPES[2]),
    What::Echo,
];

const fn incr(connections: u32, depth: u32) -> Pipe {
    Pipe { connections, depth, pause: Duration::ZERO }
}

/// Measures in alternating rounds and prints a section.
pub(crate) fn compare(options: &Options) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let program =
        Environment::process().get("QUOTAD_REDIS7").map_or_else(|| "redis-server".into(), PathBuf::from);
    let redis = Server::redis(&program, folder.path()).context("--redis needs a redis-server")?;
    let quotad = Server::quotad(folder.path(), 1, &format!("redis://{}", redis.address))?;
    let file = folder.path().join("answer");
    std::fs::write(&file, one_answer(&quotad.address)?.encode_to_vec())?;
    let echo = Server::echo(&file)?;
    let mut rounds = vec![Vec::new(); CELLS.len()];
    for _ in 0..options.rounds.max(1) {
        let mut pause = Duration::ZERO;
        for (what, found) in CELLS.iter().zip(&mut rounds) {
            found.push(match *what {
                What::Incr(_, pipe) => count(&redis.address, redis.pid(), pipe, options.span())?,
                What::Paced => {
                    let pipe = Pipe { pause, ..incr(1, 1) };
                    count(&redis.address, redis.pid(), pipe, options.span())?
                }
                What::Check(shape) => {
                    let found =
                        checks(options, &quotad.address, shape, (Some(quotad.pid()), Some(redis.pid())))?;
                    if shape == ALONE {
                        pause = Duration::from_secs_f64(found.rate.recip());
                    }
                    found
                }
                What::Echo => checks(options, &echo.address, ALONE, (None, None))?,
            });
        }
    }
    let found: Vec<Found> = rounds.iter().map(|rounds| median(rounds)).collect();
    let rows: Vec<_> = CELLS.iter().zip(&found).map(|(what, found)| row(*what, found)).collect();
    let table = markdown(COLUMNS, &rows);
    Ok(format!("### CheckLimit on Redis, quotad with 1 thread\n\n{table}\n{}", verdicts(&found)))
}

fn row(what: What, found: &Found) -> [String; 7] {
    let (name, in_flight) = match what {
        What::Incr(name, pipe) => (name, pipe.connections * pipe.depth),
        What::Paced => ("INCR, as often as CheckLimit at 1", 1),
        What::Check(shape) => ("CheckLimit", shape.connections * shape.lanes),
        What::Echo => ("bare tonic echo, no Redis", 1),
    };
    [
        name.to_owned(),
        in_flight.to_string(),
        number(found.rate),
        number(found.p50),
        number(found.p99),
        maybe(found.server),
        maybe(found.redis),
    ]
}

/// The targets of issue and design: Redis's processor time against INCR, and the latency that quotad adds to both trips.
fn verdicts(found: &[Found]) -> String {
    let [incr, _, _, deep, check, paced, _, full, echo] = found else { return String::new() };
    let alone = ratio(check.redis, incr.redis);
    let as_often = ratio(check.redis, paced.redis);
    let loaded = ratio(full.redis, deep.redis);
    let latency = ratio(Some(check.p50), Some(incr.p50 + echo.p50));
    let mut text = verdict("Redis CPU of unpipelined INCR's, 1 in flight", alone, Target::Most(1.6));
    text += &verdict("the same, INCR coming as often as the checks", as_often, Target::Most(1.6));
    text += &verdict("Redis CPU of pipelined INCR's, 512 in flight", loaded, Target::Most(5.0));
    text += &verdict("p50 at 1 in flight of INCR's plus the echo's", latency, Target::Most(1.3));
    text += &format!(
        "- pipelined INCR at 512 is {} of unpipelined in Redis CPU\n",
        times(ratio(deep.redis, incr.redis))
    );
    text
}
