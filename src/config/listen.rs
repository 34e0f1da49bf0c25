//! `listen` and `threads`: which addresses the server opens, how long a connection lives, and on how many cores.

use super::diagnostic::Findings;
use super::document::Document;
use super::duration;
use super::fields::{Fields, Scope, text};
use super::settings::Settings;
use super::show;
use super::tree::Node;
use crate::engine::units::Micros;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More threads than any machine has cores: a slip.
pub(super) const MAX_THREADS: usize = 1_024;
/// Longest path of a unix socket on Linux, without its final zero.
pub(super) const MAX_SOCKET_PATH: usize = 107;
/// Least age of a connection: below it, callers would do little else than open new ones.
const MIN_CONNECTION_AGE: Micros = Micros(1_000_000);
/// Load spreads over a new replica within this time; opening a connection so seldom costs nothing.
const USUAL_CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
const USUAL_ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 50_052);
const HINT: &str = "write an address and a port, such as 127.0.0.1:50051 or [::1]:50051";
const UNIX_HINT: &str = "or unix:/run/quotad.sock";

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// What the server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The decision service; at least one.
    pub grpc: Vec<Bind>,
    /// HTTP/1.1: `/json` and `/healthcheck` of envoyproxy/ratelimit; empty: not served.
    pub http: Vec<Bind>,
    /// The admin service; none: not served.
    pub admin: Option<SocketAddr>,
    /// From this age on a connection takes no new streams; at least a second.
    pub max_connection_age: Duration,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            grpc: vec![Bind::Tcp(SocketAddr::from(([127, 0, 0, 1], 50_051)))],
            http: Vec::new(),
            admin: Some(SocketAddr::from(USUAL_ADMIN)),
            max_connection_age: USUAL_CONNECTION_AGE,
        }
    }
}

impl Listen {
    /// The first address that cannot be opened beside the others, by its key, and why. The usual address of the admin
    /// service is left out: nobody asked for it.
    pub(super) fn clash(&self) -> Option<(&'static str, (String, String))> {
        let mut binds = self.grpc.clone();
        for http in &self.http {
            if let Err(wrong) = add(&mut binds, http.clone()) {
                return Some(("listen.http", wrong));
            }
        }
        let admin = self.admin.filter(|admin| !is_usual_admin(admin))?;
        apart(&binds, &Bind::Tcp(admin)).err().map(|wrong| ("listen.admin", wrong))
    }
}

fn is_usual_admin(admin: &SocketAddr) -> bool {
    *admin == SocketAddr::from(USUAL_ADMIN)
}

/// A key of `listen` (`listen.grpc`) in the file; none when it has its default there.
pub(super) fn written<'d>(document: &'d Document, key: &str) -> Option<&'d Node> {
    let key = key.strip_prefix("listen.")?;
    let node = &document.root.as_ref()?.get("listen")?.value.get(key)?.value;
    (!node.is_null()).then_some(&**node)
}

impl fmt::Display for Bind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Reads `listen`. What it has is compared with itself alone: a later layer may replace what is not there.
pub(super) fn read(node: &Node, settings: &mut Settings, out: &mut Findings<'_>) {
    let scope = Scope { prefix: "listen.", ..Scope::ROOT };
    let known = ["grpc", "http", "admin", "max_connection_age"];
    let Some(fields) = Fields::read(node, scope, &known, out) else { return };
    let mut opened = Vec::new();
    if let Some(items) = fields.list("grpc", out) {
        opened = read_binds(&fields, "grpc", Vec::new(), out);
        settings.listen.grpc.clone_from(&opened);
        if let (true, Some(list)) = (items.is_empty(), fields.get("grpc")) {
            let wrong = ("a server without an address answers nobody".to_owned(), HINT.to_owned());
            fields.wrong("grpc", list, wrong, out);
        }
    }
    if fields.get("http").is_some() {
        let grpc = opened.len();
        opened = read_binds(&fields, "http", opened, out);
        settings.listen.http = opened.get(grpc..).unwrap_or_default().to_vec();
    }
    // `admin:` with nothing behind it switches the admin service off.
    if let Some(entry) = fields.entry("admin") {
        settings.listen.admin = None;
        if let (Some(node), Some(text)) = (fields.get("admin"), fields.text("admin", out)) {
            let beside = |admin: SocketAddr| match is_usual_admin(&admin) {
                true => Ok(admin),
                false => apart(&opened, &Bind::Tcp(admin)).map(|()| admin),
            };
            match parse_tcp(&text).and_then(beside) {
                Ok(admin) => settings.listen.admin = Some(admin),
                Err(wrong) => fields.wrong(&entry.key.text, node, wrong, out),
            }
        }
    }
    read_age(&fields, settings, out);
}

fn read_age(fields: &Fields<'_>, settings: &mut Settings, out: &mut Findings<'_>) {
    const KEY: &str = "max_connection_age";
    let (Some(node), Some(age)) = (fields.get(KEY), fields.duration(KEY, out)) else { return };
    match check_age(age) {
        Ok(age) => settings.listen.max_connection_age = age,
        Err(wrong) => fields.wrong(KEY, node, wrong, out),
    }
}

/// An age of connections that makes sense.
pub(super) fn check_age(age: Micros) -> Result<Duration, (String, String)> {
    if age >= MIN_CONNECTION_AGE {
        return Ok(age.into());
    }
    let hint = format!("write at least {}", duration::write(MIN_CONNECTION_AGE));
    Err((format!("a connection's age of {} is too short", duration::write(age)), hint))
}

/// The addresses of a list, behind those that are `opened` already.
fn read_binds(fields: &Fields<'_>, key: &str, mut opened: Vec<Bind>, out: &mut Findings<'_>) -> Vec<Bind> {
    for item in fields.list(key, out).unwrap_or_default() {
        let bind = text(item).and_then(|text| parse_bind(text, &out.document().folder));
        if let Err(wrong) = bind.and_then(|bind| add(&mut opened, bind)) {
            fields.wrong(key, item, wrong, out);
        }
    }
    opened
}

/// Several addresses from one text with commas.
pub(super) fn parse_list(text: &str, folder: &Path) -> Result<Vec<Bind>, (String, String)> {
    let mut binds = Vec::new();
    for part in text.split(',') {
        add(&mut binds, parse_bind(part.trim(), folder)?)?;
    }
    Ok(binds)
}

/// One address.
pub(super) fn parse_bind(text: &str, folder: &Path) -> Result<Bind, (String, String)> {
    let Some(path) = text.strip_prefix("unix:") else {
        let tcp = parse_tcp(text).map(Bind::Tcp);
        return tcp.map_err(|(message, hint)| (message, format!("{hint}, {UNIX_HINT}")));
    };
    let path = folder.join(path.strip_prefix("//").unwrap_or(path));
    if path.file_name().is_none() || path.as_os_str().len() > MAX_SOCKET_PATH || text.contains('\0') {
        let hint = format!("write unix:/run/quotad.sock, at most {MAX_SOCKET_PATH} bytes");
        return Err((format!("{} is no path of a unix socket", show(text)), hint));
    }
    Ok(Bind::Unix(path))
}

/// One TCP address.
pub(super) fn parse_tcp(text: &str) -> Result<SocketAddr, (String, String)> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().unwrap_or_default();
        let is_port = port.parse::<u16>().is_ok();
        let hint = match text.rsplit_once(':') {
            Some(("", port)) if is_port => format!("write 0.0.0.0:{port} for every interface"),
            Some(("localhost", port)) if is_port => {
                format!("names are not looked up; write 127.0.0.1:{port}")
            }
            None if is_port => format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface"),
            _ => HINT.to_owned(),
        };
        (format!("{} is not an address", show(text)), hint)
    })
}

fn add(binds: &mut Vec<Bind>, bind: Bind) -> Result<(), (String, String)> {
    apart(binds, &bind)?;
    binds.push(bind);
    Ok(())
}

/// Whether an address can be opened beside others: no two alike, and none inside another's "every interface".
fn apart(binds: &[Bind], new: &Bind) -> Result<(), (String, String)> {
    let clash = binds.iter().find(|earlier| match (earlier, new) {
        (Bind::Tcp(one), Bind::Tcp(two)) => {
            // Port 0 is a free port each time.
            one.port() != 0
                && one.port() == two.port()
                && (one.ip() == two.ip() || takes_in(one, two) || takes_in(two, one))
        }
        (one, two) => *one == two,
    });
    match clash {
        None => Ok(()),
        Some(earlier) => {
            let message = format!("{new} is a duplicate of the listen address {earlier}");
            Err((message, "each listener needs an address of its own".to_owned()))
        }
    }
}

/// Whether one address is every interface of the other's family. On Linux `[::]` is every one of IPv4 too.
fn takes_in(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
}

/// `threads` from its text.
pub(super) fn parse_threads(text: &str) -> Result<usize, (String, String)> {
    let hint = || format!("write a number from 1 to {MAX_THREADS}, or 0 for one a core");
    let number = super::fields::number(text).map_err(|(message, _)| (message, hint()))?;
    match usize::try_from(number) {
        Ok(threads) if threads <= MAX_THREADS => Ok(threads),
        _ => Err((format!("{number} threads are too many"), hint())),
    }
}
