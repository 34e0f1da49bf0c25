//! One thread of a bench: its connections, and the lanes that keep requests in flight on them.
//!
//! Promise: at the end every request that was sent is counted once, as answered, failed or unanswered.

use super::BenchError;
use super::course::{Course, Pacer, wait_until};
use super::frames::{Answer, Depth, Frames};
use super::keys::Picker;
use super::plan::{Call, Plan};
use super::stream;
use super::tally::{Tally, Times};
use super::wire::{Caller, Failure, Line};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

const CHECK_LIMIT: &str = "/quotad.v1.DecisionService/CheckLimit";
const CHECK_LIMITS: &str = "/quotad.v1.DecisionService/CheckLimits";

/// What a thread tells the run.
#[derive(Debug)]
pub enum News {
    /// Its connections are open.
    Ready,
    /// It has ended.
    Done(Box<Tally>),
    /// It cannot begin.
    Failed(BenchError),
}

/// What a thread is given.
#[derive(Debug)]
pub struct Order {
    /// Its number.
    pub number: u32,
    /// What the bench does.
    pub plan: Arc<Plan>,
    /// The encoded requests.
    pub frames: Arc<Frames>,
    /// Draws keys, once seeded.
    pub picker: Picker,
    /// Set when every thread is ready.
    pub start: watch::Receiver<Option<Arc<Course>>>,
    /// Set when answers are no longer waited for.
    pub abort: watch::Receiver<bool>,
    /// Where it reports.
    pub news: mpsc::Sender<News>,
}

/// Runs one thread to its end. Whatever happens is told through the order's channel; a run that does not listen any
/// more has given up.
pub fn run(order: Order) {
    let news = order.news.clone();
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(news.try_send(News::Failed(BenchError::Thread(error))));
            return;
        }
    };
    let outcome = runtime.block_on(drive(order));
    drop(news.try_send(match outcome {
        Ok(tally) => News::Done(Box::new(tally)),
        Err(error) => News::Failed(error),
    }));
}

async fn drive(mut order: Order) -> Result<Tally, BenchError> {
    let lines = open(&order).await?;
    drop(order.news.send(News::Ready).await);
    let course = match order.start.wait_for(Option::is_some).await.map(|course| course.clone()) {
        Ok(Some(course)) => course,
        // Another thread could not begin, so this one need not either.
        _ => return Ok(Tally::new()?),
    };
    let share = order.plan.connections_of(order.number);
    let worker = Rc::new(Worker {
        number: order.number,
        pacer: Pacer::of(&order.plan, share).map(Mutex::new),
        plan: Arc::clone(&order.plan),
        frames: Arc::clone(&order.frames),
        course,
        tally: RefCell::new(Tally::new()?),
        in_flight: Cell::new(0),
    });
    let mut running = start(&worker, &lines, &order.picker);
    tokio::select! {
        () = async { while running.join_next().await.is_some() {} } => {}
        _ = order.abort.wait_for(|abort| *abort) => running.abort_all(),
    }
    let mut tally = worker.tally.borrow().clone();
    tally.failed(Failure::UNANSWERED.0, worker.in_flight.get());
    Ok(tally)
}

async fn open(order: &Order) -> Result<Vec<Rc<Line>>, BenchError> {
    let path = match order.plan.call {
        Call::Unary => CHECK_LIMIT,
        Call::Stream { .. } => CHECK_LIMITS,
    };
    let mut lines = Vec::new();
    for _ in 0..order.plan.connections_of(order.number) {
        lines.push(Rc::new(Line::open(&order.plan.address, path).await?));
    }
    Ok(lines)
}

fn start(worker: &Rc<Worker>, lines: &[Rc<Line>], picker: &Picker) -> JoinSet<()> {
    let mut running = JoinSet::new();
    // No two lanes of a bench draw the same keys.
    let mut seed = u64::from(worker.number) << 32;
    let mut seeded = || {
        seed += 1;
        picker.seeded(seed)
    };
    for line in lines {
        match worker.plan.call {
            Call::Unary => {
                for _ in 0..worker.plan.lanes {
                    running.spawn_local(lane(Rc::clone(worker), Caller::new(line), seeded()));
                }
            }
            Call::Stream { .. } => {
                running.spawn_local(stream::converse(Rc::clone(worker), Caller::new(line), seeded()));
            }
        }
    }
    running
}

/// What the lanes of one thread share.
pub(super) struct Worker {
    number: u32,
    pub(super) plan: Arc<Plan>,
    pub(super) frames: Arc<Frames>,
    pub(super) course: Arc<Course>,
    pub(super) tally: RefCell<Tally>,
    /// One lane at a time waits for its moment, the others behind it in order.
    pacer: Option<Mutex<Pacer>>,
    in_flight: Cell<u64>,
}

impl Worker {
    /// Waits until requests may be sent: when they were due, and how many of the wanted. None: no more.
    pub(super) async fn turn(&self, wanted: u32) -> Option<(u64, u32)> {
        let due = match &self.pacer {
            None => self.course.now(),
            Some(pacer) => {
                let mut pacer = pacer.lock().await;
                let due = pacer.due(wanted);
                // What is due after the end is not waited for.
                if self.course.is_over(due) {
                    return None;
                }
                wait_until(&self.course, due).await;
                due
            }
        };
        match self.course.grant(due, wanted) {
            0 => None,
            granted => {
                self.in_flight.set(self.in_flight.get() + u64::from(granted));
                Some((due, granted))
            }
        }
    }

    /// Counts one answer.
    pub(super) fn settle(&self, key: u32, times: Times, answer: &Answer) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        let mut tally = self.tally.borrow_mut();
        if self.plan.depth == Depth::Whole {
            tally.witnessed(key, self.plan.question.known_cost(), times, answer);
        }
        tally.saw(key, answer);
        if self.course.measures(times.due) {
            tally.answered(times, answer);
        } else {
            tally.warmed_up(answer);
        }
        self.course.count(self.number, 1);
    }

    /// Counts requests that got no decision.
    pub(super) fn fail(&self, due: u64, failure: Failure, requests: u64) {
        self.in_flight.set(self.in_flight.get().saturating_sub(requests));
        if self.course.measures(due) {
            self.tally.borrow_mut().failed(failure.0, requests);
        }
    }
}

/// One request after the other.
async fn lane(worker: Rc<Worker>, mut caller: Caller, mut picker: Picker) {
    while let Some((due, _)) = worker.turn(1).await {
        let key = picker.pick();
        let sent = worker.course.now();
        let message = caller.unary(worker.frames.of(key), &worker.tally).await;
        let received = worker.course.now();
        let answer =
            message.and_then(|message| Answer::read(&message, worker.plan.depth).ok_or(Failure::MALFORMED));
        match answer {
            Ok(answer) => worker.settle(key, Times { due, sent, received }, &answer),
            Err(failure) => worker.fail(due, failure, 1),
        }
    }
}
