//! `CheckLimit` with the embedded store beside the bare echo.

use crate::Options;
use crate::cell::{Found, Shape, checks, median, one_answer};
use crate::child::Server;
use crate::table::{Target, markdown, maybe, number, ratio, times, verdict};
use prost::Message as _;

const SHAPES: [Shape; 2] = [Shape { connections: 8, lanes: 8 }, Shape { connections: 1, lanes: 1 }];
const COLUMNS: [&str; 8] = [
    "server",
    "connections x in flight",
    "requests/s",
    "p50 us",
    "p99 us",
    "server CPU us/request",
    "requests/s of the echo's",
    "CPU of the echo's",
];

/// Measures in alternating rounds and prints a section.
pub(crate) fn compare(options: &Options) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let one = Server::quotad(folder.path(), 1, "memory:")?;
    let two = Server::quotad(folder.path(), 2, "memory:")?;
    let answer = one_answer(&one.address)?;
    let file = folder.path().join("answer");
    std::fs::write(&file, answer.encode_to_vec())?;
    let echo = Server::echo(&file)?;
    let servers = [
        ("bare tonic echo, multi-thread runtime, 1 worker", &echo),
        ("quotad, 1 thread", &one),
        ("quotad, 2 threads", &two),
    ];
    let mut rounds = vec![Vec::new(); SHAPES.len() * servers.len()];
    for _ in 0..options.rounds.max(1) {
        let cells = SHAPES.iter().flat_map(|shape| servers.iter().map(move |(_, server)| (shape, server)));
        for ((shape, server), found) in cells.zip(&mut rounds) {
            found.push(checks(options, &server.address, *shape, (Some(server.pid()), None))?);
        }
    }
    let found: Vec<Found> = rounds.iter().map(|rounds| median(rounds)).collect();
    let (mut rows, mut verdicts) = (Vec::new(), String::new());
    for (shape, found) in SHAPES.iter().zip(found.chunks(servers.len())) {
        let bare = found.first().copied().unwrap_or_default();
        for ((name, _), found) in servers.iter().zip(found) {
            rows.push(row(name, *shape, found, &bare));
        }
        if let (Some(quotad), true) = (found.get(1), shape.lanes > 1) {
            let rate = ratio(Some(quotad.rate), Some(bare.rate));
            let cpu = ratio(quotad.server, bare.server);
            verdicts += &verdict("requests/s of the echo's, 1 thread, 8 x 8", rate, Target::Least(1.6));
            verdicts += &verdict("server CPU of the echo's, 1 thread, 8 x 8", cpu, Target::Most(0.65));
        }
    }
    let bytes = answer.encoded_len();
    let table = markdown(COLUMNS, &rows);
    Ok(format!("### CheckLimit, embedded store, answers of {bytes} bytes\n\n{table}\n{verdicts}"))
}

fn row(name: &str, shape: Shape, found: &Found, bare: &Found) -> [String; 8] {
    [
        name.to_owned(),
        shape.to_string(),
        number(found.rate),
        number(found.p50),
        number(found.p99),
        maybe(found.server),
        times(ratio(Some(found.rate), Some(bare.rate))),
        times(ratio(found.server, bare.server)),
    ]
}
