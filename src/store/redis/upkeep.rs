//! Keeps the client of everything but decisions connected, and has the server looked at after every connect.
//!
//! Must never: end, or outlive the driver that runs it.

use crate::store::redis::Shared;
use crate::store::redis::options::{Purpose, connection_name};
use fred::interfaces::{ClientInterface, ClientLike, EventInterface};
use fred::prelude::{Client, Error};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// Pause before a client that stopped for good is started again: no busy loop over an error that lasts, and
/// soon enough after it was mended.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Does so for ever.
pub(super) async fn keep_client(shared: &Shared) {
    let client = shared.connection.client().clone();
    let mut reconnected = Some(client.reconnect_rx());
    let mut connection = pin!(stay_connected(client));
    let mut checks = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = &mut connection => {}
            () = next_reconnect(&mut reconnected) => {
                if checks.is_empty() {
                    checks.push(check(shared));
                }
            }
            Some(()) = checks.next() => {}
        }
    }
}

/// A client stops for good on some errors of configuration; what was wrong may have been mended since.
/// It never ends: the driver's loop would poll it again.
async fn stay_connected(client: Client) {
    loop {
        let mut task = ClientTask(client.connect());
        // Whatever it ended with, the answer is the same.
        let _ = (&mut task.0).await;
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

/// The client's own task; it ends with the driver. A bare handle would leave it running when dropped.
struct ClientTask(JoinHandle<Result<(), Error>>);

impl Drop for ClientTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The next time that a connection stands. Missed events count as one: one look at the server is enough. After
/// the last event it waits for ever, for an end that is always ready would spin the driver's loop.
async fn next_reconnect<T: Clone>(events: &mut Option<broadcast::Receiver<T>>) {
    if let Some(receiver) = events {
        match receiver.recv().await {
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => *events = None,
        }
    }
    pending().await
}

/// The event comes a moment before calls can be sent, so this waits for the connection. If it fails there will
/// be another event, and the old findings stand until then.
async fn check(shared: &Shared) {
    let client = shared.connection.client();
    if client.wait_for_connect().await.is_ok() {
        // A name is a help for operators: a user who may not set one is served all the same.
        if let Err(error) = client.client_setname(connection_name(Purpose::Control)).await {
            tracing::debug!(%error, "the connection stays without a name");
        }
        shared.check().await;
    }
}
