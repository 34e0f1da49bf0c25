//! `CheckLimits`: many checks over one stream.
//!
//! Promise: answers flow while checks still arrive; a slow check holds up none; at most [`IN_FLIGHT`] checks (and
//! one message more) are under way, and beyond that the stream is not read, so HTTP/2's windows slow the caller.

use crate::api::bounds::MAX_CHECKS;
use crate::pb::quotad::v1 as pb;
use crate::service::{Deadline, Service};
use crate::store::Store;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::{Code, Status, Streaming};

/// Checks under way after which no more are read.
const IN_FLIGHT: usize = 1_024;

type Running = Pin<Box<dyn Future<Output = pb::check_limits_response::Result> + Send>>;

/// The answers of one stream.
pub struct CheckStream<S> {
    service: Arc<Service<S>>,
    checks: Option<Streaming<pb::CheckLimitsRequest>>,
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
        checks: Streaming<pb::CheckLimitsRequest>,
        deadline: Deadline,
        draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Self {
        Self {
            draining,
            service,
            checks: Some(checks),
            running: FuturesUnordered::new(),
            deadline,
            failure: None,
        }
    }

    /// Starts every check that has arrived, up to the bound.
    fn read(&mut self, context: &mut Context<'_>) {
        if self.checks.is_some() && self.draining.as_mut().poll(context).is_ready() {
            self.checks = None;
        }
        while self.running.len() < IN_FLIGHT {
            let Some(checks) = &mut self.checks else { return };
            match checks.poll_next_unpin(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(message))) if message.checks.len() <= MAX_CHECKS => self.start(message),
                Poll::Ready(Some(Ok(message))) => {
                    let count = message.checks.len();
                    self.end(Status::invalid_argument(format!("checks: {count}, at most {MAX_CHECKS}")));
                }
                Poll::Ready(Some(Err(status))) => self.end(status),
                Poll::Ready(None) => self.checks = None,
            }
        }
    }

    fn start(&mut self, message: pb::CheckLimitsRequest) {
        for check in message.checks {
            let (service, deadline) = (Arc::clone(&self.service), self.deadline);
            self.running.push(Box::pin(async move { run(&service, check, deadline).await }));
        }
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
        while results.len() < MAX_CHECKS {
            match this.running.poll_next_unpin(context) {
                Poll::Ready(Some(result)) => results.push(result),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if !results.is_empty() {
            return Poll::Ready(Some(Ok(pb::CheckLimitsResponse { results })));
        }
        if this.checks.is_some() || !this.running.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(this.failure.take().map(Err))
    }
}

async fn run<S: Store>(
    service: &Service<S>,
    check: pb::check_limits_request::Check,
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
