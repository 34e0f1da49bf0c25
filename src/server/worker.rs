//! Worker threads: each a current-thread runtime with a service of its own.

use super::DRAIN_TIMEOUT;
use super::arriving::MESSAGE;
use super::connection::{Lives, serve};
use super::dispatch::Dispatch;
use super::listener::{Face, Listener, Socket};
use crate::shutdown::{Stop, spawn_local};
use std::fmt::Display;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

/// Most gRPC connections of one thread; beyond it they are closed at once.
const MAX_GRPC: usize = 16_384;
/// Most HTTP/1.1 connections of one thread. A bound of their own, so that silent ones take no place of gRPC's.
const MAX_HTTP: usize = 4_096;
/// Each thread has a timer that ends sooner than that of any message under way. A timer that is the next to end makes
/// tokio wake its own thread by a system call, and some clients send each message a moment after its headers.
const PULSE: Duration = Duration::from_secs(MESSAGE.as_secs() / 2);

/// A worker that could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No thread or runtime to be had.
    #[error("cannot start a worker thread: {0}")]
    Start(#[from] io::Error),
    /// It panicked.
    #[error("a worker thread ended unasked")]
    Ended,
}

/// The worker threads.
#[derive(Debug)]
pub struct Pool {
    workers: Vec<Worker>,
    stop: Stop,
}

#[derive(Debug)]
struct Worker {
    sockets: mpsc::UnboundedSender<Socket>,
    held: Arc<Held>,
    thread: JoinHandle<()>,
}

/// How many connections a thread holds. Only the acceptor adds, so that what has room for one keeps it until then.
#[derive(Debug, Default)]
struct Held {
    grpc: AtomicUsize,
    http: AtomicUsize,
}

impl Held {
    fn of(&self, face: Face) -> &AtomicUsize {
        match face {
            Face::Grpc => &self.grpc,
            Face::Http => &self.http,
        }
    }

    fn has_room(&self, face: Face) -> bool {
        let most = match face {
            Face::Grpc => MAX_GRPC,
            Face::Http => MAX_HTTP,
        };
        self.of(face).load(Ordering::Relaxed) < most
    }

    fn all(&self) -> usize {
        self.grpc.load(Ordering::Relaxed).saturating_add(self.http.load(Ordering::Relaxed))
    }
}

impl Pool {
    /// Starts `threads` workers, whose connections take new streams up to the age of `max_connection_age`. `make` runs on each
    /// inside its runtime, to build that thread's service.
    ///
    /// # Errors
    /// No thread or runtime to be had.
    pub fn start<M, F, E>(
        threads: usize,
        max_connection_age: Duration,
        stop: &Stop,
        make: M,
    ) -> Result<Self, WorkerError>
    where
        M: Fn(usize) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Dispatch, E>> + 'static,
        E: Display,
    {
        let lives = Lives::of_age(max_connection_age);
        let workers = (0..threads.max(1)).map(|index| start(index, lives, stop.clone(), make.clone()));
        Ok(Self { workers: workers.collect::<Result<_, _>>()?, stop: stop.clone() })
    }

    /// Accepts on every listener until the drain begins. A listener that fails ends it too.
    ///
    /// # Errors
    /// A worker ended, or a listener failed.
    pub async fn accept(&self, listeners: &[Listener]) -> Result<(), WorkerError> {
        let each = listeners.iter().map(|listener| listener.accept_each(|socket| self.deal(socket)));
        tokio::select! {
            // Workers that drain end too: the drain is looked at first.
            biased;
            () = self.stop.draining() => Ok(()),
            accepted = futures_util::future::try_join_all(each) => Ok(accepted.map(|_| ())?),
            () = self.one_ended() => Err(WorkerError::Ended),
        }
    }

    /// Waits for every worker to finish its drain.
    ///
    /// # Errors
    /// A worker panicked.
    pub fn join(self) -> Result<(), WorkerError> {
        self.stop.drain();
        let mut ended = Ok(());
        for worker in self.workers {
            drop(worker.sockets);
            if worker.thread.join().is_err() {
                ended = Err(WorkerError::Ended);
            }
        }
        ended
    }

    /// Gives a socket to the thread that holds fewest, of those with room for one of its kind.
    fn deal(&self, socket: Socket) {
        let face = socket.face;
        let with_room = self.workers.iter().filter(|worker| worker.held.has_room(face));
        let Some(worker) = with_room.min_by_key(|worker| worker.held.all()) else { return };
        worker.held.of(face).fetch_add(1, Ordering::Relaxed);
        if worker.sockets.send(socket).is_err() {
            worker.held.of(face).fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn one_ended(&self) {
        let closed = self.workers.iter().map(|worker| Box::pin(worker.sockets.closed()));
        futures_util::future::select_all(closed).await;
    }
}

fn start<M, F, E>(index: usize, lives: Lives, stop: Stop, make: M) -> Result<Worker, WorkerError>
where
    M: Fn(usize) -> F + Send + 'static,
    F: Future<Output = Result<Dispatch, E>> + 'static,
    E: Display,
{
    let (sockets, arriving) = mpsc::unbounded_channel();
    let held = Arc::new(Held::default());
    let counted = Arc::clone(&held);
    let thread = std::thread::Builder::new().name(format!("quotad-{index}")).spawn(move || {
        // Such a runtime stays on the thread that makes it. A `LocalSet` would cost every request a write to wake its
        // own thread and one more wait.
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            // The pool sees that this worker has ended.
            Err(error) => return tracing::error!(%error, "a worker has no runtime"),
        };
        runtime.block_on(async move {
            match make(index).await {
                Ok(dispatch) => run(lives, dispatch, arriving, stop, counted).await,
                // The pool sees that this worker has ended.
                Err(error) => tracing::error!(%error, "a worker cannot serve"),
            }
        });
    })?;
    Ok(Worker { sockets, held, thread })
}

async fn run(
    lives: Lives,
    dispatch: Dispatch,
    mut arriving: mpsc::UnboundedReceiver<Socket>,
    stop: Stop,
    held: Arc<Held>,
) {
    // Counts this thread's connections without an atomic: they all end here.
    let live = Rc::new(());
    let take = |socket: Socket| {
        let (dispatch, stop, held, live) =
            (dispatch.clone(), stop.clone(), Arc::clone(&held), Rc::clone(&live));
        spawn_local(async move {
            let face = socket.face;
            serve(lives, socket, dispatch, stop).await;
            held.of(face).fetch_sub(1, Ordering::Relaxed);
            drop(live);
        });
    };
    let mut pulse = tokio::time::interval(PULSE);
    loop {
        tokio::select! {
            socket = arriving.recv() => match socket {
                Some(socket) => take(socket),
                None => break,
            },
            () = stop.draining() => break,
            _ = pulse.tick() => {}
        }
    }
    // Accepted before the drain began: their requests may have arrived.
    while let Ok(socket) = arriving.try_recv() {
        take(socket);
    }
    let drained = async {
        while Rc::strong_count(&live) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!(connections = Rc::strong_count(&live) - 1, "connections cut at the end of the drain");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_kind_take_no_place_of_the_other() {
        let held = Held::default();
        held.http.store(MAX_HTTP, Ordering::Relaxed);
        assert!(!held.has_room(Face::Http) && held.has_room(Face::Grpc));
        held.http.fetch_sub(1, Ordering::Relaxed);
        held.grpc.store(MAX_GRPC, Ordering::Relaxed);
        assert!(held.has_room(Face::Http) && !held.has_room(Face::Grpc));
        assert_eq!(held.all(), MAX_GRPC + MAX_HTTP - 1);
    }
}
