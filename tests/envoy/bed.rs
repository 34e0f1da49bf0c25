//! quotad, an application and Envoy between them, by one of the bootstraps in `docs/envoy`.

use crate::app::App;
use crate::client::{Answer, Ask, Socket, send};
use crate::harness::{Quotad, Start, check, decide, output_in_time, quotad, until};
use crate::proxy::Proxy;
use crate::server::{Kind, Server};
use quotad::pb::quotad::v1::Mode;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where counters and leases are.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Memory,
    Redis,
    /// Which knows, when it is killed and started again, what it knew.
    KeptRedis,
}

/// What a test starts: the files as they are shipped, and what is different for it.
pub struct Plan {
    name: &'static str,
    place: Place,
    envoy: Vec<(String, String)>,
    quotad: Vec<(String, String)>,
}

/// All of it, running.
pub struct Bed {
    pub quotad: Option<Quotad>,
    pub app: App,
    pub envoy: Proxy,
    pub redis: Option<Server>,
    bootstrap: String,
    address: String,
    config: PathBuf,
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/envoy").join(file)
}

/// Replaces what must be there, so that no test runs on a change that was not made.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in:\n{text}");
    text.replace(from, to)
}

/// quotad serves before its store is there, and counts by itself until then.
async fn connected(quotad: &Quotad) {
    let mut client = quotad.client().await;
    until("the store is connected", async || {
        let ask = check("login-per-ip", &[("ip", "192.0.2.1")]);
        decide(&mut client, ask).await.mode() == Mode::Exact
    })
    .await;
}

impl Plan {
    /// `docs/envoy/NAME.yaml` and `docs/envoy/quotad-NAME.yaml`.
    pub fn of(name: &'static str) -> Self {
        Self { name, place: Place::Memory, envoy: Vec::new(), quotad: Vec::new() }
    }

    pub fn on(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// Changes the bootstrap.
    pub fn envoy(mut self, from: &str, to: &str) -> Self {
        self.envoy.push((from.to_owned(), to.to_owned()));
        self
    }

    /// Changes quotad's file.
    pub fn quotad(mut self, from: &str, to: &str) -> Self {
        self.quotad.push((from.to_owned(), to.to_owned()));
        self
    }

    pub async fn start(self) -> Bed {
        let redis = match self.place {
            Place::Memory => None,
            Place::Redis => Some(Server::start(Kind::Redis7)),
            Place::KeptRedis => {
                let options = ["--appendonly", "yes", "--appendfsync", "always"];
                Some(Server::start_with(Kind::Redis7, &options))
            }
        };
        let file = shipped(&format!("quotad-{}.yaml", self.name));
        let mut config = std::fs::read_to_string(file).unwrap();
        for (from, to) in &self.quotad {
            config = replaced(&config, from, to);
        }
        config = replaced(&config, "admin: 127.0.0.1:50052", "admin: null");
        if let Some(redis) = &redis {
            config = replaced(&config, "url: \"memory:\"", &format!("url: {}", redis.url()));
            // A machine that builds something else beside is not a store that is away.
            config = replaced(&config, "  data_dir: data\n", "  timeout: 2s\n");
            // One thread has one client of the store, so that one answer tells that it is there.
            config.push_str("threads: 1\n");
            // What `connected` asks.
            let probe = "{name: login-per-ip, partition: [ip], limit: 9, window: 1m}";
            if !config.contains("\npolicies:") {
                config.push_str(&format!("policies: [{probe}]\n"));
            } else if !config.contains("name: login-per-ip") {
                config = replaced(&config, "\npolicies:\n", &format!("\npolicies:\n  - {probe}\n"));
            }
        }
        // The folder is named as it stands in the tree: the files that are shipped are those that are tried.
        let limits = shipped("ratelimit");
        config =
            config.replace("ratelimit_config: ratelimit", &format!("ratelimit_config: {}", limits.display()));
        let quotad = Start::with(&config).start();
        if redis.is_some() {
            connected(&quotad).await;
        }
        let app = App::start().await;
        let port = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
        let mut bootstrap = std::fs::read_to_string(shipped(&format!("{}.yaml", self.name))).unwrap();
        for (from, to) in &self.envoy {
            bootstrap = replaced(&bootstrap, from, to);
        }
        // Nor is it a quotad that is away: but where a test is about the time that Envoy waits.
        bootstrap = bootstrap.replace(" timeout: 0.25s  ", " timeout: 4s  ");
        bootstrap = bootstrap.replace("message_timeout: 0.25s", "message_timeout: 4s");
        for (from, to) in [
            ("address: 0.0.0.0, port_value: 8080", "address: 127.0.0.1, port_value: 0"),
            ("port_value: 9901", "port_value: 0"),
            ("port_value: 50051", &format!("port_value: {}", port(&quotad.address))),
            ("port_value: 8000", &format!("port_value: {}", app.address.port())),
        ] {
            bootstrap = replaced(&bootstrap, from, to);
        }
        let envoy = Proxy::start(&bootstrap).await;
        let (address, config) = (quotad.address.clone(), quotad.config_path());
        let bed = Bed { quotad: Some(quotad), app, envoy, redis, bootstrap, address, config };
        bed.healthy().await;
        bed
    }
}

impl Bed {
    pub async fn send(&self, ask: &Ask) -> Answer {
        send(self.envoy.address, ask).await
    }

    pub async fn status(&self, ask: &Ask) -> u16 {
        self.send(ask).await.status
    }

    pub async fn open(&self, ask: &Ask) -> Socket {
        Socket::open(self.envoy.address, ask).await
    }

    /// A good token.
    pub fn token(&self, subject: &str) -> String {
        let mut mint = quotad();
        mint.args(["token", "mint", "--subject", subject, "--config"]).arg(&self.config);
        let output = output_in_time(&mut mint);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until Envoy finds quotad healthy.
    pub async fn healthy(&self) {
        until("Envoy finds quotad healthy", async || {
            self.envoy.stat("cluster.quotad.membership_healthy").await == 1
        })
        .await;
    }

    pub fn kill_redis(&self) {
        self.redis.as_ref().unwrap().kill();
    }

    /// Starts Redis again, and waits until quotad has found it.
    pub async fn restart_redis(&self) {
        self.redis.as_ref().unwrap().restart();
        connected(self.quotad.as_ref().unwrap()).await;
    }

    /// Asks quotad to stop, which it must do well and in time.
    pub async fn drain_quotad(&mut self) -> tempfile::TempDir {
        let mut quotad = self.quotad.take().unwrap();
        let from = Instant::now();
        quotad.signal("TERM");
        assert_eq!(quotad.ended().await, Some(0));
        assert!(from.elapsed() < Duration::from_secs(5), "{:?}", from.elapsed());
        std::mem::replace(&mut quotad.folder, tempfile::tempdir().unwrap())
    }

    /// Kills quotad, and starts it again on its address later.
    pub async fn kill_quotad(&mut self) -> tempfile::TempDir {
        self.quotad.take().unwrap().stop("KILL").await
    }

    pub fn start_quotad(&mut self, folder: tempfile::TempDir) {
        let start = Start::again(folder).arg("--listen").arg(&self.address);
        let quotad = start.start();
        self.config = quotad.config_path();
        self.quotad = Some(quotad);
    }

    /// Starts it again, and waits until its store is there and Envoy has found it.
    pub async fn resume_quotad(&mut self, folder: tempfile::TempDir) {
        self.start_quotad(folder);
        connected(self.quotad.as_ref().unwrap()).await;
        self.healthy().await;
    }

    /// Another Envoy in place of the one that is gone.
    pub async fn start_envoy(&mut self) {
        self.envoy = Proxy::start(&self.bootstrap).await;
    }
}
