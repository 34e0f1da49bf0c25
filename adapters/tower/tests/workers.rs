//! The sample in several processes, as it is deployed.

use crate::support::{Program, Quotad, bearer, eventually, uuid};
use regex::Regex;
use std::{path::PathBuf, process::Command, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Built beside this program.
fn binary() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let binary = here.parent().unwrap().parent().unwrap().join("examples/sample");
    assert!(binary.exists(), "{} is built by `cargo test --all-features`", binary.display());
    binary
}

struct Worker {
    program: Program,
    address: String,
}

impl Worker {
    fn start(target: &str) -> Self {
        let mut command = Command::new(binary());
        command.env("QUOTAD", target).env("LISTEN", "127.0.0.1:0").env("DEADLINE_MS", "10000");
        command.env("ENVIRONMENT", "production").env("ALLOWED_ORIGINS", "https://app.example.com");
        let program = Program::start(&mut command, "^serving on");
        let address = Regex::new(r"serving on (\S+)").unwrap().captures(&program.seen).unwrap()[1].to_owned();
        Self { program, address }
    }

    async fn status(&self, method: &str, path: &str, client: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: {client}\r\n\
             connection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await;
        read.unwrap().unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Opens a stream of events and leaves it open.
    async fn stream(&self, (name, value): (&str, String)) -> (u16, TcpStream) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET /events HTTP/1.1\r\nhost: x\r\n{name}: {value}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0_u8; 12];
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_exact(&mut head)).await;
        read.unwrap().unwrap();
        (std::str::from_utf8(&head[9..]).unwrap().parse().unwrap(), stream)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_of_twenty_four_mixed_calls_pass_over_four_processes() {
    let quotad = Quotad::new("memory:", |config| {
        config.replace(
            "{name: auth-per-ip, partition: [ip], limit: 3,",
            "{name: auth-per-ip, partition: [ip], limit: 10,",
        )
    })
    .await;
    let workers: Vec<Worker> = (0..4).map(|_| Worker::start(&quotad.target())).collect();
    let paths = ["/login", "/signup", "/mounted/login", "/dependency"];
    let mut asked = Vec::new();
    for number in 0..24 {
        let path = paths[number % 3];
        asked.push(workers[number % 4].status("POST", path, "198.51.100.9"));
    }
    let statuses = futures_util::future::join_all(asked).await;
    let of = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!((of(200), of(429)), (10, 14), "{statuses:?}");
    assert_eq!(workers[0].status("GET", "/health", "198.51.100.9").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_a_process_that_is_killed_come_back_and_those_of_one_that_ends_do_at_once() {
    let quotad = Quotad::memory().await;
    let workers: Vec<Worker> = (0..3).map(|_| Worker::start(&quotad.target())).collect();
    let [first, second, third] = &workers[..] else { panic!("three") };
    let user = uuid();
    let (status, _stream) = first.stream(bearer(&user)).await;
    assert_eq!(status, 200);
    assert_eq!(second.stream(bearer(&user)).await.0, 429, "over all processes");
    first.program.signal("KILL");
    // After its TTL of three seconds.
    let mut open = None;
    eventually("the lease is free again", async || {
        let (status, stream) = second.stream(bearer(&user)).await;
        open = (status == 200).then_some(stream);
        open.is_some()
    })
    .await;
    assert_eq!(third.stream(bearer(&user)).await.0, 429);
    drop(open);
    eventually("the client has left", async || third.stream(bearer(&user)).await.0 == 200).await;
}
