//! Programs that are started for tests, on free ports, and stopped by their process ids.

use super::{SECRET, contract};
use quotad_tower::v1::{CheckLimitRequest, Mode, decision_service_client::DecisionServiceClient};
use regex::Regex;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// A machine that builds four things at once starts nothing quickly.
const START: Duration = Duration::from_secs(60);

/// A program that says in a line of its output that it is ready. To drop it kills it.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    pub(crate) seen: String,
}

impl Program {
    pub(crate) fn start(command: &mut Command, ready: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let errors = sender.clone();
        thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        thread::spawn(move || {
            BufReader::new(err).lines().map_while(Result::ok).try_for_each(|line| errors.send(line))
        });
        let mut program = Self { child, lines, seen: String::new() };
        program.wait_for(ready);
        program
    }

    pub(crate) fn wait_for(&mut self, pattern: &str) -> String {
        let pattern = Regex::new(pattern).unwrap();
        loop {
            let line = self.lines.recv_timeout(START);
            let line = line.unwrap_or_else(|_| panic!("no {pattern} in:\n{}", self.seen));
            self.seen.push_str(&line);
            self.seen.push('\n');
            if pattern.is_match(&line) {
                return line;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(status.unwrap().success(), "{name}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real service; `start` after `stop` keeps its port.
pub(crate) struct Quotad {
    folder: TempDir,
    port: u16,
    program: Option<Program>,
}

impl Quotad {
    /// With the contract's configuration.
    pub(crate) async fn memory() -> Self {
        Self::new("memory:", |config| config).await
    }

    /// With the contract's configuration, changed.
    pub(crate) async fn new(store: &str, change: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("quotad.yaml"), change(config(folder.path(), store))).unwrap();
        let mut quotad = Self { folder, port: 0, program: None };
        quotad.start().await;
        quotad
    }

    pub(crate) async fn start(&mut self) {
        let binary = std::env::var_os("QUOTAD_BIN").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug/quotad"),
            PathBuf::from,
        );
        let mut command = Command::new(binary);
        command.arg("--config").arg(self.folder.path().join("quotad.yaml"));
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        let program = Program::start(&mut command, "^ready in");
        let port = Regex::new(r"gRPC +127\.0\.0\.1:(\d+)").unwrap();
        self.port = port.captures(&program.seen).unwrap()[1].parse().unwrap();
        self.program = Some(program);
        super::eventually("every worker reaches its store", async || self.is_exact().await).await;
    }

    pub(crate) fn target(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Over several connections, which go to the workers in turn.
    async fn is_exact(&self) -> bool {
        for _ in 0..4 {
            let Ok(mut client) = DecisionServiceClient::connect(format!("http://{}", self.target())).await
            else {
                return false;
            };
            let asked = CheckLimitRequest {
                policies: vec!["closed".to_owned()],
                entries: [("ip".to_owned(), "127.0.0.1".to_owned())].into(),
                cost: Some(0),
                ..CheckLimitRequest::default()
            };
            match client.check_limit(asked).await {
                Ok(answer) if answer.get_ref().decision.as_ref().unwrap().mode == i32::from(Mode::Exact) => {}
                _ => return false,
            }
        }
        true
    }

    /// The next start reads it.
    pub(crate) fn change(&self, change: impl FnOnce(String) -> String) {
        let file = self.folder.path().join("quotad.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let changed = change(text.clone());
        assert_ne!(text, changed);
        fs::write(file, changed).unwrap();
    }

    pub(crate) fn stop(&mut self) {
        self.program = None;
    }

    /// Returns when every thread stands still.
    pub(crate) async fn stall(&self) {
        let program = self.program.as_ref().unwrap();
        program.signal("STOP");
        let tasks = format!("/proc/{}/task", program.id());
        let stands = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        super::eventually("every thread stands still", async || {
            fs::read_dir(&tasks).unwrap().map(Result::unwrap).all(stands)
        })
        .await;
    }

    pub(crate) fn go_on(&self) {
        self.program.as_ref().unwrap().signal("CONT");
    }
}

fn config(folder: &Path, store: &str) -> String {
    let key = folder.join("token.key");
    fs::write(&key, SECRET).unwrap();
    let mut text = fs::read_to_string(contract().join("quotad.yaml")).unwrap();
    if store != "memory:" {
        // A busy machine must be no outage: these tests are not about 5 ms.
        text = text.replace("\"@STORE@\"", "\"@STORE@\", timeout: 5s");
    }
    text.replace("@STORE@", store).replace("@KEY@", key.to_str().unwrap())
}

/// Debian's redis-server on a free port, without files.
pub(crate) struct Redis {
    pub(crate) url: String,
    _folder: TempDir,
    _program: Program,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let binary = std::env::var_os("QUOTAD_REDIS7").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(binary);
        command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(folder.path());
        let program = Program::start(&mut command, "Ready to accept connections");
        Self { url: format!("redis://127.0.0.1:{port}"), _folder: folder, _program: program }
    }
}
