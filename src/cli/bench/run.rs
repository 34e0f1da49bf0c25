//! One run of a bench: starts its threads together, marks where measuring begins and ends, and gathers the numbers.
//!
//! Promise: it ends. Answers that do not come are waited for a bounded time, and a server that stops answering
//! altogether ends the run.

use super::BenchError;
use super::course::Course;
use super::frames::{Depth, Frames};
use super::keys::Picker;
use super::oracle::{self, Verdict};
use super::plan::{Plan, Until};
use super::tally::Tally;
use super::usage::cpu_time;
use super::worker::{self, News, Order};
use crate::clock;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How long answers are waited for after the last request.
const DRAIN: Duration = Duration::from_secs(5);
/// A server that answers nothing for so long is taken for dead.
const STALL: Duration = Duration::from_secs(30);
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Answered requests, warm-up included.
    pub done: u64,
    /// Measured so far, in thousandths of the whole.
    pub permille: u64,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was counted.
    pub tally: Tally,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// Processor time of the server and of Redis between the marks, each for one request.
    pub server_cpu: Option<Duration>,
    /// The same of Redis.
    pub redis_cpu: Option<Duration>,
    /// Of the oracle, if it was asked for.
    pub verdict: Option<Verdict>,
}

/// Where the numbers of other processes stood.
#[derive(Clone, Copy, Debug)]
struct Mark {
    done: u64,
    server: Option<Duration>,
    redis: Option<Duration>,
}

/// Runs a bench.
///
/// # Errors
/// It cannot begin: no connection, no such process, too many keys.
pub async fn run(plan: Plan, progress: &mut dyn FnMut(Progress)) -> Result<Outcome, BenchError> {
    let plan = Arc::new(plan);
    let frames = Arc::new(Frames::encode(&plan.question, plan.keys).map_err(BenchError::Keys)?);
    // Before anything is sent: a wrong process id should not cost a whole run.
    mark(&plan, 0)?;
    let (start, started) = watch::channel(None);
    let (abort, aborted) = watch::channel(false);
    let (news, mut heard) = mpsc::channel(usize::try_from(plan.threads).unwrap_or(1) * 2 + 1);
    let picker = Picker::new(plan.distribution, plan.keys);
    for number in 0..plan.threads {
        let order = Order {
            number,
            plan: Arc::clone(&plan),
            frames: Arc::clone(&frames),
            picker: picker.clone(),
            start: started.clone(),
            abort: aborted.clone(),
            news: news.clone(),
        };
        let builder = std::thread::Builder::new().name(format!("bench-{number}"));
        builder.spawn(move || worker::run(order)).map_err(BenchError::Thread)?;
    }
    drop(news);
    for _ in 0..plan.threads {
        match heard.recv().await {
            Some(News::Ready | News::Done(_)) => {}
            Some(News::Failed(error)) => return Err(error),
            None => return Err(BenchError::Died),
        }
    }
    let course = Arc::new(Course::start(&plan));
    start.send_replace(Some(Arc::clone(&course)));
    let mut run = Run { plan, course, abort, heard, tallies: Vec::new() };
    let (from, to) = run.supervise(progress).await?;
    run.conclude(from, to)
}

struct Run {
    plan: Arc<Plan>,
    course: Arc<Course>,
    abort: watch::Sender<bool>,
    heard: mpsc::Receiver<News>,
    tallies: Vec<Tally>,
}

impl Run {
    /// Waits for the end; the marks at the begin and the end of measuring.
    async fn supervise(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(Mark, Mark), BenchError> {
        let (begins, ends) = self.course.bounds();
        let (mut from, mut to) = (None, None);
        let mut alive = (0, clock::monotonic());
        while !self.is_complete() {
            let now = clock::monotonic();
            if from.is_none() && now >= begins {
                from = Some(mark(&self.plan, self.course.done())?);
            }
            if to.is_none() && ends.is_some_and(|ends| now >= ends) {
                to = Some(mark(&self.plan, self.course.done())?);
            }
            let done = self.course.done();
            if done != alive.0 {
                alive = (done, now);
            }
            let late = ends.is_some_and(|ends| now >= ends + DRAIN);
            if late || now.duration_since(alive.1) >= STALL {
                self.course.stop();
                self.abort.send_replace(true);
            }
            progress(Progress { done, permille: self.permille(now, begins, from) });
            let next = [Some(begins), ends].into_iter().flatten().filter(|mark| *mark > now).min();
            let wait = next.map_or(TICK, |mark| mark.duration_since(now).min(TICK));
            if let Ok(news) = tokio::time::timeout(wait, self.heard.recv()).await {
                self.hear(news)?;
            }
        }
        let last = mark(&self.plan, self.course.done())?;
        Ok((from.unwrap_or(last), to.unwrap_or(last)))
    }

    fn is_complete(&self) -> bool {
        u32::try_from(self.tallies.len()).is_ok_and(|threads| threads >= self.plan.threads)
    }

    fn hear(&mut self, news: Option<News>) -> Result<(), BenchError> {
        match news {
            Some(News::Done(tally)) => self.tallies.push(*tally),
            Some(News::Failed(error)) => return Err(error),
            Some(News::Ready) => {}
            None => return Err(BenchError::Died),
        }
        Ok(())
    }

    fn permille(&self, now: Instant, begins: Instant, from: Option<Mark>) -> u64 {
        let (part, whole) = match self.plan.until {
            Until::Elapsed(span) => (now.saturating_duration_since(begins).as_millis(), span.as_millis()),
            Until::Requests(requests) => {
                let before = from.map_or(self.course.done(), |from| from.done);
                (u128::from(self.course.done().saturating_sub(before)), u128::from(requests))
            }
        };
        u64::try_from((part * 1_000 / whole.max(1)).min(1_000)).unwrap_or(1_000)
    }

    fn conclude(self, from: Mark, to: Mark) -> Result<Outcome, BenchError> {
        let mut tally = Tally::new()?;
        let witnesses = self.tallies.into_iter().map(|one| tally.add(one)).collect();
        let verdict = (self.plan.depth == Depth::Whole).then(|| oracle::judge(witnesses));
        let warmup = super::course::nanos(self.plan.warmup);
        let elapsed = Duration::from_nanos(tally.last.saturating_sub(warmup));
        let requests = to.done.saturating_sub(from.done);
        let each = |to: Option<Duration>, from: Option<Duration>| {
            let used = to?.checked_sub(from?)?;
            // Sums of hundredths of a second over at most 2^32 requests at a time: exact enough in doubles.
            let requests = u32::try_from(requests).ok().filter(|requests| *requests > 0)?;
            Some(used.div_f64(f64::from(requests)))
        };
        Ok(Outcome {
            elapsed,
            server_cpu: each(to.server, from.server),
            redis_cpu: each(to.redis, from.redis),
            verdict,
            tally,
        })
    }
}

fn mark(plan: &Plan, done: u64) -> Result<Mark, BenchError> {
    let read = |pid: Option<u32>| match pid {
        None => Ok(None),
        Some(pid) => cpu_time(pid).map(Some).map_err(|source| BenchError::Process { pid, source }),
    };
    Ok(Mark { done, server: read(plan.server)?, redis: read(plan.redis)? })
}
