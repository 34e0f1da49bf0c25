//! Warnings: each has a code and a section of docs/adapters/warnings.md, and is said once a Shield.

use std::sync::atomic::{AtomicU32, Ordering};

/// Where the codes are explained, in quotad's own tree.
const HELP: &str = "docs/adapters/warnings.md";

/// What an operator should know, and would not see otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Notice {
    ForwardedUntrusted,
    TrustsEverybody,
    EntryMissing,
    NoAddress,
    Open,
    SocketNotHeld,
    Away,
    Back,
    NotThereAtStart,
    NotConfigured,
}

impl Notice {
    const fn code(self) -> &'static str {
        match self {
            Self::ForwardedUntrusted => "W101",
            Self::TrustsEverybody => "W102",
            Self::EntryMissing => "W103",
            Self::NoAddress => "W104",
            Self::Open => "W109",
            Self::SocketNotHeld => "W113",
            Self::Away => "W201",
            Self::Back => "W202",
            Self::NotThereAtStart => "W203",
            Self::NotConfigured => "W204",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::ForwardedUntrusted => {
                "X-Forwarded-For came, and trusted_proxies is empty: every client counts as the proxy"
            }
            Self::TrustsEverybody => {
                "trusted_proxies trusts everybody: any client can choose its own address"
            }
            Self::EntryMissing => "the request lacks what it is counted by",
            Self::NoAddress => "a request without a client address: policies by `ip` refuse it",
            Self::Open => "on_unavailable is open: without an answer no token is checked either",
            Self::SocketNotHeld => {
                "a socket on a route that takes a lease was opened without SocketUpgrade: refused"
            }
            Self::Away => "quotad does not answer; each rule's on_unavailable holds",
            Self::Back => "quotad answers again",
            Self::NotThereAtStart => "quotad did not answer within a second of the start",
            Self::NotConfigured => "quotad does not know what was asked for",
        }
    }

    const fn bit(self) -> u32 {
        1 << match self {
            Self::ForwardedUntrusted => 0,
            Self::TrustsEverybody => 1,
            Self::EntryMissing => 2,
            Self::NoAddress => 3,
            Self::Open => 4,
            Self::SocketNotHeld => 5,
            Self::Away => 6,
            Self::Back => 7,
            Self::NotThereAtStart => 8,
            Self::NotConfigured => 9,
        }
    }
}

/// Says each code once; a change of state, such as the breaker's, each time it happens.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    said: AtomicU32,
}

impl Notices {
    /// `detail`: names of the configuration, never what a client sent.
    pub(crate) fn once(&self, notice: Notice, detail: &str) {
        if self.said.fetch_or(notice.bit(), Ordering::Relaxed) & notice.bit() == 0 {
            Self::change(notice, detail);
        }
    }

    pub(crate) fn change(notice: Notice, detail: &str) {
        let (code, text) = (notice.code(), notice.text());
        tracing::warn!(target: "quotad", code, detail, help = HELP, "{code}: {text}");
    }
}
