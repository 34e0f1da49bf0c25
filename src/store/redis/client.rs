//! The connection: one script call at a time on it, and what its errors mean.
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
use fred::prelude::{Builder, Client};
use fred::types::config::Options;
use fred::types::{ClusterHash, CustomCommand, FromValue, Key, Value};
use std::time::Duration;

/// Errors of Redis that mean: not now, and nothing was applied.
/// A server that is starting, has become a replica, or is busy with somebody's script gets well again by
/// itself, so the caller may fall back as for one that is away.
const NOT_NOW: [&str; 6] = ["LOADING", "READONLY", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN"];

/// A connection that comes back by itself.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// For what is not a call: connecting, reconnect events, the ping that waits for stragglers.
    client: Client,
    /// The same client with one attempt and the configured timeout: every call goes through this.
    calls: WithOptions<Client>,
    /// The configured timeout, to be named in errors.
    timeout: Duration,
}

impl Connection {
    /// Prepares it; nothing is sent before its task runs.
    pub(super) fn new(from: &RedisOptions) -> Result<Self, BadUrl> {
        let mut builder = Builder::from_config(options::parse_url(&from.url)?);
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
        Ok(Self { client, calls, timeout: from.timeout })
    }

    /// The client, to run its task and hear of its reconnects.
    pub(super) fn client(&self) -> &Client {
        &self.client
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
            Err(error) if error.details().starts_with("NOSCRIPT") => {
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

    /// Waits until Redis has answered all that was sent before, or the connection is given up.
    /// Redis answers a connection in order, so a ping's answer comes after all of theirs. The client's own
    /// timeout bounds the wait.
    pub(super) async fn settle(&self) {
        // Either way there is nothing more to wait for.
        let _ = self.client.ping::<Value>(None).await;
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
            _ if NOT_NOW.iter().any(|word| details.starts_with(word)) => {
                StoreError::Unreachable(details.to_owned())
            }
            _ => StoreError::Refused(details.to_owned()),
        }
    }
}
