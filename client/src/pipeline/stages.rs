//! A job's way through the handlers.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::batcher::{Batching, Entrance, Entry};
use super::failure::{Cause, FailedJob, Failure, OnFailure};
use super::guard::{guarded, Ended};
use super::handler::{FailedHandler, Handlers, MessageHandler, Next, PartitionBy};
use super::message::Message;
use super::processors::dispatch;
use super::report::Tally;
use super::settings::Settings;
use crate::calls::Outcome;
use crate::consumer::{Consumer, Delivery};
use crate::telemetry;

/// Dropped when its holder has nothing left to do.
pub(crate) type Alive = tokio::sync::mpsc::Sender<()>;

/// Handlers of some types, without the types.
pub(crate) trait Work: Send + Sync {
    /// Starts the tasks that work off what the consumer brings.
    ///
    /// They hold `alive` for as long as one of them works.
    fn start(&self, consumer: Consumer, run: Arc<Run>, settings: &Settings, alive: Alive);
    /// For the failures' handler.
    fn failed_handler(&self) -> Option<FailedHandler>;
}

/// What all stages of one running pipeline share.
pub(crate) struct Run {
    pub workflow: Arc<str>,
    pub policy: OnFailure,
    pub handler_timeout: Option<Duration>,
    pub failed: Option<FailedHandler>,
    pub tally: Tally,
    /// What has not been started goes back.
    pub release: CancellationToken,
    /// No more messages come to the batchers.
    pub flush: CancellationToken,
    /// Handlers are dropped.
    pub interrupt: CancellationToken,
}

impl Run {
    pub(crate) async fn done(&self, delivery: Delivery) {
        self.settle(delivery, Outcome::Ack, &self.tally.completed).await;
    }

    pub(crate) fn lost(&self, delivery: Delivery) {
        Tally::one(&self.tally.lost);
        delivery.give_up();
    }

    /// A shutdown does not fail a job for good: after the last attempt it is given back as if never started.
    pub(crate) async fn interrupted(&self, delivery: Delivery) {
        let outcome = match delivery.job().attempt < delivery.job().max_attempts {
            true => {
                Outcome::Requeue { reason: Some("interrupted by a shutdown".to_owned()), delay: Some(Duration::ZERO) }
            }
            false => Outcome::Release,
        };
        self.settle(delivery, outcome, &self.tally.interrupted).await;
    }

    pub(crate) async fn failed(&self, delivery: Delivery, cause: Cause, failure: Failure) {
        let reason = failure.reason.clone();
        let outcome = failure.outcome(self.policy);
        let no_more = delivery.job().attempt >= delivery.job().max_attempts;
        let is_final = no_more || matches!(outcome, Outcome::Fail { .. });
        tracing::warn!(workflow = %self.workflow, job = delivery.job().id, ?cause, is_final, "an attempt failed");
        if let Some(handler) = &self.failed {
            let failed = FailedJob { job: delivery.shared_job().clone(), cause, reason, is_final };
            let lost = delivery.lease().lost();
            let told = guarded(|| handler(failed), self.handler_timeout, lost, &self.interrupt).await;
            if !matches!(told, Ended::Returned(())) {
                tracing::error!(workflow = %self.workflow, end = told.word(), "handle_failed did not return");
            }
        }
        let counter = if is_final { &self.tally.failed } else { &self.tally.requeued };
        self.settle(delivery, outcome, counter).await;
    }

    /// A call that did not return. `returned`, if it did.
    pub(crate) async fn unless_returned<T>(&self, delivery: Delivery, ended: Ended<T>) {
        match ended {
            Ended::Returned(_) => self.done(delivery).await,
            Ended::Panicked(text) => self.failed(delivery, Cause::Panic, Failure::new(text)).await,
            Ended::TimedOut => self.failed(delivery, Cause::Timeout, Failure::new("handler_timeout is over")).await,
            Ended::Lost => self.lost(delivery),
            Ended::Interrupted => self.interrupted(delivery).await,
        }
    }

    async fn settle(&self, delivery: Delivery, outcome: Outcome, counter: &AtomicU64) {
        match delivery.settle(outcome).await {
            Ok(_) => Tally::one(counter),
            Err(error) if error.is_lost() => Tally::one(&self.tally.lost),
            Err(_) => Tally::one(&self.tally.unsettled),
        }
    }
}

/// The handlers while they run.
pub(crate) struct Stages<In, Out> {
    pub run: Arc<Run>,
    pub message: MessageHandler<In, Out>,
    pub partition_by: Option<PartitionBy<In>>,
    pub batchers: Vec<Entrance<Out>>,
    _alive: Alive,
}

/// Handlers that `build` has found complete.
pub(crate) struct Complete<In, Out> {
    pub message: MessageHandler<In, Out>,
    pub handlers: Handlers<In, Out>,
}

impl<In: DeserializeOwned + Send + 'static, Out: Send + 'static> Work for Complete<In, Out> {
    fn start(&self, consumer: Consumer, run: Arc<Run>, settings: &Settings, alive: Alive) {
        let batchers = match &self.handlers.batch {
            Some(handler) => settings
                .batchers
                .iter()
                .map(|b| Batching::start(b, handler.clone(), run.clone(), alive.clone()))
                .collect(),
            None => Vec::new(),
        };
        let (message, partition_by) = (self.message.clone(), self.handlers.partition_by.clone());
        let stages = Arc::new(Stages { run, message, partition_by, batchers, _alive: alive });
        tokio::spawn(dispatch(consumer, stages, settings.concurrency()));
    }

    fn failed_handler(&self) -> Option<FailedHandler> {
        self.handlers.failed.clone()
    }
}

impl<In: DeserializeOwned + Send + 'static, Out: Send + 'static> Stages<In, Out> {
    /// Reads the payload. One that does not fit is failed: no retry would mend it.
    pub(crate) async fn read(&self, delivery: Delivery) -> Option<(Message<In>, Delivery)> {
        let read = catch_unwind(AssertUnwindSafe(|| delivery.payload::<In>()));
        let failure = match read {
            Ok(Ok(payload)) => {
                let message = Message::new(payload, delivery.shared_job().clone(), delivery.lease().clone());
                return Some((message, delivery));
            }
            Ok(Err(error)) => Failure::permanent(error.to_string()),
            Err(_) => Failure::permanent("panic: while the payload was read"),
        };
        self.run.failed(delivery, Cause::Payload, failure).await;
        None
    }

    /// The number of the line in which a message waits.
    pub(crate) async fn line(&self, message: Message<In>, delivery: Delivery) -> Option<(u64, Message<In>, Delivery)> {
        let line = self.partition_by.as_ref().map(|by| catch_unwind(AssertUnwindSafe(|| by(&message))));
        match line {
            Some(Ok(line)) => Some((line, message, delivery)),
            None => Some((0, message, delivery)),
            Some(Err(_)) => {
                self.run.failed(delivery, Cause::Panic, Failure::new("panic: in partition_by")).await;
                None
            }
        }
    }

    /// Runs `handle_message` and hands on, or settles, what becomes of it.
    pub(crate) async fn process(&self, message: Message<In>, delivery: Delivery) {
        let (run, start, lease) = (&self.run, Instant::now(), delivery.lease().clone());
        let job = delivery.job();
        let span = tracing::info_span!("qflow.message", workflow = %run.workflow, job = job.id, attempt = job.attempt);
        let call = guarded(|| (self.message)(message), run.handler_timeout, lease.lost(), &run.interrupt);
        let ended = call.instrument(span).await;
        let word = match &ended {
            Ended::Returned(result) => result.as_ref().map_or("error", |_| "ok"),
            other => other.word(),
        };
        telemetry::handled(&run.workflow, "message", word, start.elapsed());
        match ended {
            Ended::Returned(Ok(Next::Done)) => run.done(delivery).await,
            Ended::Returned(Ok(Next::Batch { batcher, key, value })) => {
                let message = Message::new(value, delivery.shared_job().clone(), lease);
                self.hand_over(batcher.as_deref(), Entry { message, delivery, key }).await;
            }
            Ended::Returned(Err(failure)) => run.failed(delivery, Cause::Error, failure).await,
            other => run.unless_returned(delivery, other).await,
        }
    }

    /// Gives a message to its batcher, when that has room: until then it keeps its processor, so that no more is fetched
    /// than the batches can take.
    async fn hand_over(&self, name: Option<&str>, entry: Entry<Out>) {
        let batcher = match name {
            Some(name) => self.batchers.iter().find(|batcher| &*batcher.name == name),
            None => self.batchers.first(),
        };
        let Some(batcher) = batcher else {
            let failure = Failure::new(format!("no batcher is named {:?}", name.unwrap_or_default()));
            return self.run.failed(entry.delivery, Cause::Error, failure).await;
        };
        let lease = entry.delivery.lease().clone();
        tokio::select! {
            biased;
            () = self.run.interrupt.cancelled() => self.run.interrupted(entry.delivery).await,
            () = lease.lost() => self.run.lost(entry.delivery),
            place = batcher.place() => match place {
                Ok(place) => batcher.enter(entry, place),
                Err(_closed) => self.run.interrupted(entry.delivery).await,
            },
        }
    }
}
