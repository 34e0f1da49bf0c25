//! Starts a real Envoy on free ports, and stops it by its id.

use crate::client::{Ask, send};
use crate::harness::until;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The process ends when the guard's input does, however the test's process ends.
const GUARD: &str = r#""$@" >log 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait"#;

/// A running Envoy.
pub struct Proxy {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    id: u32,
    guard: Child,
    folder: TempDir,
}

/// The program; a test without it fails, it is not skipped.
fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("QUOTAD_ENVOY") {
        return path.into();
    }
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/envoy/lib");
    let pythons = std::fs::read_dir(packages).into_iter().flatten().flatten();
    let mut places = pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    places
        .find(|path| path.is_file())
        .expect("no Envoy: set QUOTAD_ENVOY, or run scripts/test, which installs it")
}

impl Proxy {
    /// Starts one with this bootstrap, whose listener and admin have port 0, and waits until it serves.
    pub async fn start(bootstrap: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("envoy.yaml"), bootstrap).unwrap();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(binary())
            .args(["--config-path", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id"])
            .args(["--log-level", "warning", "--admin-address-path", "admin", "--drain-time-s", "1"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut id = String::new();
        BufReader::new(guard.stdout.as_mut().unwrap()).read_line(&mut id).unwrap();
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let id = id.trim().parse().unwrap();
        let mut proxy = Self { address: unknown, admin: unknown, id, guard, folder };
        proxy.settle().await;
        proxy
    }

    async fn settle(&mut self) {
        let admin = self.folder.path().join("admin");
        let log = self.folder.path().join("log");
        until("Envoy tells its admin address", async || {
            let ended = !Path::new(&format!("/proc/{}/exe", self.id)).exists();
            assert!(!ended, "Envoy ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            std::fs::read_to_string(&admin).is_ok_and(|address| address.contains(':'))
        })
        .await;
        self.admin = std::fs::read_to_string(&admin).unwrap().trim().parse().unwrap();
        let address = self.admin;
        until("Envoy is ready", async || send(address, &Ask::get("/ready")).await.status == 200).await;
        self.address = self.listener("public").await;
    }

    /// The address of a listener.
    pub async fn listener(&self, name: &str) -> SocketAddr {
        let listeners = self.ask_admin("/listeners").await;
        let named = listeners.lines().find_map(|line| line.strip_prefix(&format!("{name}::")));
        named.expect("the listener").trim().parse().unwrap()
    }

    /// A page of the admin interface.
    pub async fn ask_admin(&self, path: &str) -> String {
        send(self.admin, &Ask::get(path)).await.body
    }

    /// A counter or gauge, 0 when Envoy has none of that name.
    pub async fn stat(&self, name: &str) -> u64 {
        let page = self.ask_admin(&format!("/stats?filter=^{}$", name.replace('.', "\\."))).await;
        page.trim().rsplit_once(": ").map_or(0, |(_, value)| value.parse().unwrap())
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.id.to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Envoy's log:\n{}", self.log());
        }
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
