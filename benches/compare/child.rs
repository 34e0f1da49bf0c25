//! The processes that are measured. Each ends with its handle, by its own id.

use anyhow::{Context as _, bail};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a process may take to listen.
const PATIENCE: u32 = 200;
const STEP: Duration = Duration::from_millis(50);

/// The policy that is measured: never in the way, so that every answer costs the same.
const POLICIES: &str = "\
policies:
  - name: api-per-user
    partition: [user]
    algorithm: token_bucket
    limit: 1000000
    window: 1s
    burst: 1000000
    on_store_error: error
";

/// A process that listens on an address.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A quotad with so many threads on the given store.
    pub(crate) fn quotad(folder: &Path, threads: u32, store: &str) -> anyhow::Result<Self> {
        Self::quotad_with(folder, threads, store, POLICIES)
    }

    /// The same with policies, routes and what else of its own.
    pub(crate) fn quotad_with(folder: &Path, threads: u32, store: &str, rest: &str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let file = folder.join(format!("quotad-{}.yaml", address.replace(':', "-")));
        // A wait that never ends the measurement early: what takes long shall show as latency.
        let settings = format!(
            "listen: {{grpc: [\"{address}\"], admin: null}}\nstore: {{url: \"{store}\", timeout: 1s}}\n{rest}"
        );
        fs::write(&file, settings)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotad"));
        command.arg("--config").arg(&file).args(["--log", "error", "--threads", &threads.to_string()]);
        Self::start(command, address)
    }

    /// A Redis that keeps nothing on disk.
    pub(crate) fn redis(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let mut command = Command::new(program);
        command.current_dir(folder).args([
            "--port",
            port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        Self::start(command, address)
    }

    /// An Envoy with this bootstrap, whose listener is `address`; one worker.
    pub(crate) fn envoy(program: &Path, bootstrap: &Path, address: String) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("-c").arg(bootstrap).args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]);
        Self::start(command, address)
    }

    /// The bare echo: this program again, with the answer it shall give.
    pub(crate) fn echo(answer: &Path) -> anyhow::Result<Self> {
        Self::echo_of("native", answer)
    }

    /// The same of another service.
    pub(crate) fn echo_of(kind: &str, answer: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--echo")
            .arg(answer)
            .args(["--echo-kind", kind])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the echo")?;
        let mut address = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut address)?;
        }
        let server = Self { child, address: address.trim().to_owned() };
        if server.address.is_empty() {
            bail!("the echo did not start");
        }
        Ok(server)
    }

    fn start(mut command: Command, address: String) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let mut server = Self { child, address };
        for _ in 0..PATIENCE {
            if let Some(status) = server.child.try_wait()? {
                bail!("{:?} ended at once: {status}", command.get_program());
            }
            if TcpStream::connect(&server.address).is_ok() {
                return Ok(server);
            }
            pause();
        }
        bail!("{:?} does not listen on {}", command.get_program(), server.address)
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread waits for a process and serves nobody")]
fn pause() {
    std::thread::sleep(STEP);
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
