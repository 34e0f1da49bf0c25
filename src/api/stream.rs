//! `CheckLimits`: many checks over one stream.
//!
//! Promise: answers flow while checks still arrive; a slow check holds up none. How many checks are under way is bounded
//! for the connection, however many streams it has ([`crate::budget`]); a message is read when all checks of the one before
//! are under way, and a check begins when answers are asked for, so that HTTP/2's windows slow a caller that does not read.

use crate::api::bounds::MAX_CHECKS;
use crate::budget::{Account, Wait};
use crate::pb::quotad::v1 as pb;
use crate::pb::quotad::v1::check_limits_request::Check;
use crate::service::{Deadline, Service};
use crate::store::Store;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;
use tonic::{Code, Request, Status, Streaming};

/// Most checks of one stream under way: half of what its connection may have, so that one stream whose answers nobody
/// reads leaves room for the others.
const IN_FLIGHT: usize = 512;
/// Most answers of one message: so few that one message, and what is made at once, is little memory.
const ANSWERS: usize = 32;

type Running = Pin<Box<dyn Future<Output = pb::check_limits_response::Result> + Send>>;

/// The answers of one stream.
pub struct CheckStream<S> {
    service: Arc<Service<S>>,
    checks: Option<Streaming<pb::CheckLimitsRequest>>,
    /// Of the message that was read last.
    next: vec::IntoIter<Check>,
    account: Arc<Account>,
    room: Wait,
    running: FuturesUnordered<Running>,
    deadline: Deadline,
    failure: Option<Status>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<S> fmt::Debug for CheckStream<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CheckStream").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

impl<S: Store> CheckStream<S> {
    pub(super) fn new(
        service: Arc<Service<S>>,
        request: Request<Streaming<pb::CheckLimitsRequest>>,
        deadline: Deadline,
        draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Self {
        let account = request.extensions().get::<Arc<Account>>().cloned().unwrap_or_default();
        Self {
            draining,
            service,
            checks: Some(request.into_inner()),
            next: Vec::new().into_iter(),
            account,
            room: Wait::default(),
            running: FuturesUnordered::new(),
            deadline,
            failure: None,
        }
    }

    /// Starts every check that has arrived, while there is room.
    fn read(&mut self, context: &mut Context<'_>) {
        if self.checks.is_some() && self.draining.as_mut().poll(context).is_ready() {
            self.checks = None;
        }
        loop {
            while !self.next.as_slice().is_empty() {
                if self.running.len() >= IN_FLIGHT
                    || self.account.checks.poll_room(1, &mut self.room, context).is_pending()
                {
                    return;
                }
                self.next.next().into_iter().for_each(|check| self.start(check));
            }
            let Some(checks) = &mut self.checks else { return };
            match checks.poll_next_unpin(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(message))) if message.checks.len() <= MAX_CHECKS => {
                    self.next = message.checks.into_iter();
                }
                Poll::Ready(Some(Ok(message))) => {
                    let count = message.checks.len();
                    self.end(Status::invalid_argument(format!("checks: {count}, at most {MAX_CHECKS}")));
                }
                Poll::Ready(Some(Err(status))) => self.end(status),
                Poll::Ready(None) => self.checks = None,
            }
        }
    }

    fn start(&mut self, check: Check) {
        let (service, deadline) = (Arc::clone(&self.service), self.deadline);
        let counted = Counted::new(&self.account);
        self.running.push(Box::pin(async move {
            let result = run(&service, check, deadline).await;
            drop(counted);
            result
        }));
    }

    /// The stream ends with `status` once what is under way has been answered.
    fn end(&mut self, status: Status) {
        // tonic's word for a message over its bound.
        let status = match status.code() {
            Code::OutOfRange => Status::invalid_argument("checks: a message over 1 MiB"),
            _ => status,
        };
        self.failure = Some(status);
        self.checks = None;
    }
}

impl<S: Store> Stream for CheckStream<S> {
    type Item = Result<pb::CheckLimitsResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.read(context);
        let mut results = Vec::new();
        while results.len() < ANSWERS {
            match this.running.poll_next_unpin(context) {
                Poll::Ready(Some(result)) => results.push(result),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if !results.is_empty() {
            return Poll::Ready(Some(Ok(pb::CheckLimitsResponse { results })));
        }
        if this.checks.is_some() || !this.running.is_empty() || !this.next.as_slice().is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(this.failure.take().map(Err))
    }
}

/// A check under way, counted until it is answered or given up.
struct Counted(Arc<Account>);

impl Counted {
    fn new(account: &Arc<Account>) -> Self {
        account.checks.add(1);
        Self(Arc::clone(account))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.checks.remove(1);
    }
}

async fn run<S: Store>(
    service: &Service<S>,
    check: Check,
    deadline: Deadline,
) -> pb::check_limits_response::Result {
    use pb::check_limits_response::result::Result as Outcome;
    let answered = match &check.request {
        Some(request) => super::check(service, request, deadline).await,
        None => Err(Status::invalid_argument("checks.request: missing")),
    };
    let result = match answered {
        Ok(decision) => Outcome::Decision(decision),
        Err(status) => Outcome::Error(pb::check_limits_response::Error {
            code: status.code().into(),
            message: status.message().to_owned(),
        }),
    };
    pb::check_limits_response::Result { id: check.id, result: Some(result) }
}
