//! The variables of Redis, and the one URL of ours that they mean.
//!
//! Must never: reach a server in clear when TLS is asked for; show a password.

use super::super::super::diagnostic::{Place, elsewhere};
use super::super::super::settings::Settings;
use super::super::super::{show, store};
use super::Reader;
use crate::engine::mistake::Mistake;

/// Schemes of a unix socket; the first is written.
const SOCKETS: [&str; 2] = ["redis+unix", "unix"];

/// What `REDIS_TLS` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    On,
    AsInUrl,
}

/// What `REDIS_SOCKET_TYPE` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
    Unsaid,
}

impl Reader<'_, '_> {
    pub(super) fn store(&mut self, settings: &mut Settings) {
        // Said also without a URL: who names a cluster does not mean the embedded store.
        let (single, kind) = (self.is_single(), self.kind());
        let tls = if self.flag("REDIS_TLS") { Tls::On } else { Tls::AsInUrl };
        let login = self.text("REDIS_AUTH");
        let Some(written) = self.text("REDIS_URL") else { return self.warn_without_url(tls) };
        let (Some(()), Some(kind)) = (single, kind) else { return };
        let is_socket = is_socket(&written, kind);
        if tls == Tls::On && is_socket {
            let hint = "unset it, or name a server: REDIS_SOCKET_TYPE=tcp and REDIS_URL=HOST:PORT";
            return self.wrong("REDIS_TLS", "there is no TLS on a unix socket", hint);
        }
        let login = login.as_deref();
        let url = if is_socket { socket_url(&written, login) } else { server_url(&written, login, tls) };
        match store::parse_url(&url) {
            Ok(url) => settings.store_url = url,
            Err((message, hint)) => self.wrong("REDIS_URL", &message, &hint),
        }
    }

    /// None: it is not, and that has been said.
    fn is_single(&mut self) -> Option<()> {
        match self.text("REDIS_TYPE") {
            Some(kind) if !kind.eq_ignore_ascii_case("single") => {
                let message = format!("{} is not supported yet", show(&kind));
                self.wrong("REDIS_TYPE", &message, "name one server: REDIS_TYPE=SINGLE");
                None
            }
            _ => Some(()),
        }
    }

    /// None: there is no such kind, and that has been said.
    fn kind(&mut self) -> Option<Kind> {
        match self.text("REDIS_SOCKET_TYPE").as_deref() {
            None => Some(Kind::Unsaid),
            Some("tcp") => Some(Kind::Tcp),
            Some("unix") => Some(Kind::Unix),
            Some(other) => {
                let message = format!("{} is no kind of socket", show(other));
                self.wrong("REDIS_SOCKET_TYPE", &message, "write tcp or unix");
                None
            }
        }
    }

    fn warn_without_url(&mut self, tls: Tls) {
        let mut names = vec!["REDIS_AUTH", "REDIS_SOCKET_TYPE", "REDIS_TYPE"];
        names.retain(|name| self.environment.get(name).is_some_and(|value| !value.is_empty()));
        names.extend((tls == Tls::On).then_some("REDIS_TLS"));
        if !names.is_empty() {
            let hint = "set REDIS_URL=HOST:PORT; without it the embedded store counts, in this process alone";
            let mistake = Mistake::new("", "it has no effect without REDIS_URL", hint);
            self.out.warn(elsewhere(Place::Variable(names.join(", ")), mistake));
        }
    }
}

fn is_socket(written: &str, kind: Kind) -> bool {
    match written.split_once("://") {
        Some((scheme, _)) => kind == Kind::Unix || SOCKETS.contains(&scheme),
        None => kind == Kind::Unix || (kind == Kind::Unsaid && written.starts_with('/')),
    }
}

/// A URL of ours from the address of a server, or a URL of theirs.
fn server_url(written: &str, login: Option<&str>, tls: Tls) -> String {
    let (scheme, place) = written.split_once("://").unwrap_or(("redis", written));
    let scheme = if tls == Tls::On && scheme == "redis" { "rediss" } else { scheme };
    let login = login.filter(|_| !place.contains('@')).map(user_and_password);
    format!("{scheme}://{}{place}", login.unwrap_or_default())
}

/// A URL of ours from the path of a socket, or a URL of one. Its path may have an `@`; a login stands before it.
fn socket_url(written: &str, login: Option<&str>) -> String {
    let place = match written.split_once("://") {
        Some((scheme, place)) if SOCKETS.contains(&scheme) => place,
        _ => written,
    };
    let has_login = place.split('/').next().is_some_and(|before| before.contains('@'));
    let login = login.filter(|_| !has_login).map(user_and_password);
    format!("{}://{}{place}", SOCKETS[0], login.unwrap_or_default())
}

/// A password, or a user and a password, as a URL begins with them.
fn user_and_password(login: &str) -> String {
    match login.split_once(':') {
        Some((user, password)) => format!("{}:{}@", escape(user), escape(password)),
        None => format!(":{}@", escape(login)),
    }
}

/// What a URL can hold between `//` and `@`.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
