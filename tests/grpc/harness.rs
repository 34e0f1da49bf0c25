//! Starts a quotad of a test's own on a free port, and stops it by its id.

use quotad::pb::quotad::v1 as pb;
use quotad::pb::quotad::v1::decision_service_client::DecisionServiceClient;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::transport::Channel;

pub type Client = DecisionServiceClient<Channel>;

/// How long a condition may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running quotad.
pub struct Quotad {
    pub address: String,
    /// Of HTTP/1.1, where it is served.
    pub http: Option<String>,
    pub folder: TempDir,
    child: Child,
}

/// What a test starts.
pub struct Start {
    folder: TempDir,
    args: Vec<String>,
    variables: Vec<(String, String)>,
}

pub fn quotad() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quotad"))
}

impl Start {
    pub fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("quotad.yaml"), config).unwrap();
        Self { folder, args: Vec::new(), variables: Vec::new() }
    }

    /// On the folder of an earlier one.
    pub fn again(folder: TempDir) -> Self {
        Self { folder, args: Vec::new(), variables: Vec::new() }
    }

    /// With a file beside the configuration.
    pub fn file(self, path: &str, content: &str) -> Self {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Of a file beside the configuration.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self) -> Command {
        let mut command = quotad();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.arg("--config").arg(self.folder.path().join("quotad.yaml"));
        if !self.args.iter().any(|arg| arg == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(&self.args).stdin(Stdio::null());
        command
    }

    pub fn start(self) -> Quotad {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (mut address, mut http, mut line) = (None, None, String::new());
        loop {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "quotad ended before it was ready");
            if let Some(found) = line.trim().strip_prefix("gRPC") {
                address.get_or_insert_with(|| found.trim().to_owned());
            }
            if let Some(found) = line.trim().strip_prefix("HTTP") {
                http.get_or_insert_with(|| found.trim().to_owned());
            }
            if line.starts_with("ready") {
                break;
            }
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Quotad { address: address.expect("the address on the screen"), http, folder: self.folder, child }
    }

    /// A process that is not waited for.
    pub fn spawn(self) -> Quotad {
        let child = self.command().stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        Quotad { address: String::new(), http: None, folder: self.folder, child }
    }

    /// For a start that must fail: its exit code, standard output and error.
    pub fn fails(self) -> (i32, String) {
        let output = output_in_time(&mut self.command());
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        (output.status.code().expect("an exit code"), text)
    }
}

/// Runs a command that must end by itself.
pub fn output_in_time(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut stderr = Vec::new();
    let errors = std::thread::spawn(move || {
        err.read_to_end(&mut stderr).unwrap();
        stderr
    });
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("{command:?} did not end in {PATIENCE:?}");
        }
        // A poll of a condition with a deadline.
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: reader.join().unwrap(), stderr: errors.join().unwrap() }
}

impl Quotad {
    pub fn start(config: &str) -> Self {
        Start::with(config).start()
    }

    pub async fn client(&self) -> Client {
        connect(&self.address).await
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("quotad.yaml")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, while the clients of this test go on.
    pub async fn ended(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "quotad did not end in {PATIENCE:?}");
            // A poll of a condition with a deadline.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops it and keeps its folder.
    pub async fn stop(mut self, signal: &str) -> TempDir {
        self.signal(signal);
        self.ended().await;
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }
}

impl Drop for Quotad {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn connect(address: &str) -> Client {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    DecisionServiceClient::new(channel)
}

/// Waits until a condition holds.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        // A poll of a condition with a deadline.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn entries(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn check(policy: &str, pairs: &[(&str, &str)]) -> pb::CheckLimitRequest {
    pb::CheckLimitRequest {
        policies: if policy.is_empty() { Vec::new() } else { vec![policy.to_owned()] },
        entries: entries(pairs),
        ..Default::default()
    }
}

pub async fn decide(client: &mut Client, request: pb::CheckLimitRequest) -> pb::Decision {
    client.check_limit(request).await.unwrap().into_inner().decision.unwrap()
}

pub fn header<'a>(decision: &'a pb::Decision, name: &str) -> Option<&'a str> {
    let mut found = decision.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let first = found.next().map(|header| header.value.as_str());
    assert!(found.next().is_none(), "{name} stands twice");
    first
}

pub fn micros(span: &prost_types::Duration) -> u64 {
    u64::try_from(span.seconds).unwrap() * 1_000_000 + u64::try_from(span.nanos).unwrap() / 1_000
}

pub fn body(decision: &pb::Decision) -> serde_json::Value {
    serde_json::from_slice(&decision.body.as_ref().expect("a body").content).unwrap()
}

/// The shipped configuration.
pub fn shipped() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/quotad.yaml")).unwrap()
}
