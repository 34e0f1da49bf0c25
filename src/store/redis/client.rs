//! The client, for everything but decisions: leases, revocations, the heartbeat, the start-up checks; and what Redis's
//! errors mean.
//!
//! Promise: a call says whether it may have been applied. While Redis is away a call fails at once.
//!
//! Must never: send a call twice, but for a script that Redis did not know and so did not run.

use crate::store::StoreError;
use crate::store::redis::options::{self, BadUrl, RedisOptions};
use crate::store::redis::script::Script;
use fred::clients::WithOptions;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, LuaInterface};
use fred::prelude::{Builder, Client, Config};
use fred::types::config::Options;
use fred::types::{ClusterHash, CustomCommand, FromValue, Key, Value};
use std::time::Duration;

/// Errors of Redis that mean: not now, and nothing was applied.
/// A server that is starting, has become a replica, or is busy with somebody's script gets well again by
/// itself, so the caller may fall back as for one that is away.
/// So does one whose password has changed.
const NOT_NOW: [&str; 8] =
    ["LOADING", "READONLY", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS"];

/// A connection that comes back by itself.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// For what is not a call: connecting, reconnect events, the ping that waits for stragglers.
    client: Client,
    /// The same client with one attempt and the configured timeout: every call goes through this.
    calls: WithOptions<Client>,
    /// The configured timeout, to be named in errors.
    timeout: Duration,
    /// Where Redis is, and as whom to log in.
    config: Config,
}

impl Connection {
    /// Prepares it; nothing is sent before its task runs.
    pub(super) fn new(from: &RedisOptions) -> Result<Self, BadUrl> {
        let config = options::parse_url(&from.url)?;
        let mut builder = Builder::from_config(config.clone());
        builder
            .set_connection_config(options::connection())
            .set_performance_config(options::performance())
            .set_policy(options::reconnect());
        let client = builder.build().map_err(|_| BadUrl::unusable())?;
        let calls = client.with_options(&Options {
            max_attempts: Some(1),
            // The client does not write a call any more whose time is over.
            timeout: Some(from.timeout),
            fail_fast: true,
            ..Options::default()
        });
        Ok(Self { client, calls, timeout: from.timeout, config })
    }

    /// The client, to run its task and hear of its reconnects.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Where Redis is, for the decisions' own connection.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether calls can be sent now, as far as is known: a connection that broke silently still counts as up.
    pub(super) fn is_up(&self) -> bool {
        self.client.is_connected()
    }

    /// Runs a script, by its name and, where Redis does not know it, once more by its text.
    pub(super) async fn run<R: FromValue>(
        &self,
        script: &Script,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<R, StoreError> {
        let known = self.calls.evalsha::<R, _, _, _>(script.sha.clone(), keys.clone(), args.clone()).await;
        let result = match known {
            // Redis lost the script (restart, SCRIPT FLUSH): it did not run. EVAL brings it along, so that no
            // second flush can come between loading and running.
            Err(error) if is_unknown_script(error.details()) => {
                self.calls.eval(script.source.clone(), keys, args).await
            }
            known => known,
        };
        result.map_err(|error| self.meaning(&error))
    }

    /// Sends a command that changes nothing.
    pub(super) async fn ask<R: FromValue>(
        &self,
        command: &'static str,
        args: Vec<Value>,
    ) -> Result<R, StoreError> {
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        self.calls.custom(command, args).await.map_err(|error| self.meaning(&error))
    }

    /// What an error says about the charge. In doubt it is a timeout: calling a charge unsent that was applied
    /// would charge twice, the other mistake only withholds a retry.
    fn meaning(&self, error: &Error) -> StoreError {
        let details = error.details();
        match error.kind() {
            ErrorKind::Timeout => StoreError::Timeout(self.timeout),
            // The connection broke while the call was under way: it may have arrived.
            ErrorKind::IO => StoreError::Timeout(self.timeout),
            // The client found no connection to write to.
            ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Auth | ErrorKind::Tls => {
                StoreError::Unreachable(details.to_owned())
            }
            ErrorKind::Unknown
                if details.contains("route command") || details.contains("not initialized") =>
            {
                StoreError::Unreachable(details.to_owned())
            }
            ErrorKind::Backpressure => StoreError::Overloaded,
            _ => refusal(details),
        }
    }
}

/// What Redis's own words mean. Whoever gets them knows that nothing was applied.
pub(super) fn refusal(words: &str) -> StoreError {
    if NOT_NOW.iter().any(|word| words.starts_with(word)) {
        return StoreError::Unreachable(words.to_owned());
    }
    StoreError::Refused(words.to_owned())
}

/// Whether Redis did not run a script because it does not know the name.
pub(super) fn is_unknown_script(words: &str) -> bool {
    words.starts_with("NOSCRIPT")
}
