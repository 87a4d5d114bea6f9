//! The second stage: messages gathered into batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::Instrument;

use super::failure::{Cause, Failure};
use super::guard::{guarded, Ended};
use super::handler::{BatchHandler, BatchOutcome};
use super::message::{Batch, Message};
use super::stages::{Alive, Run};
use crate::consumer::Delivery;
use crate::telemetry;

/// Gathers what `handle_message` sends to it by name, and calls `handle_batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batcher {
    pub(crate) name: String,
    pub(crate) size: Option<usize>,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: usize,
}

impl Batcher {
    /// A batcher with batches of 16 (or `BROADWAY_BATCH_SIZE`), a timeout of one second, one batch at a time.
    pub fn new(name: impl Into<String>) -> Self {
        Batcher { name: name.into(), size: None, timeout: Duration::from_secs(1), concurrency: 1 }
    }

    /// Messages in a full batch, 1 or more.
    pub fn size(mut self, messages: usize) -> Self {
        self.size = Some(messages);
        self
    }

    /// How long the first message of a batch waits for the others, more than zero.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Batches that run at a time, 1 or more.
    pub fn concurrency(mut self, batches: usize) -> Self {
        self.concurrency = batches;
        self
    }
}

/// A message with the job that it is for.
pub(crate) struct Entry<T> {
    pub message: Message<T>,
    pub delivery: Delivery,
    pub key: Option<Arc<str>>,
}

/// The way into a batcher, for the processors.
pub(crate) struct Entrance<T> {
    pub name: Arc<str>,
    places: Arc<Semaphore>,
    sender: UnboundedSender<Placed<T>>,
}

/// An entry and its place, which is free again when the database has confirmed the job's end.
type Placed<T> = (Entry<T>, OwnedSemaphorePermit);

impl<T> Entrance<T> {
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.places.clone().acquire_owned().await
    }

    pub(crate) fn enter(&self, entry: Entry<T>, place: OwnedSemaphorePermit) {
        // The job may leave the first stage only when the batcher can see it: it flushes when that stage is empty.
        let stage = entry.delivery.stage_exit();
        let _ended = self.sender.send((entry, place));
        stage.leave();
    }
}

/// One batcher at work.
pub(crate) struct Batching<T> {
    name: Arc<str>,
    size: usize,
    timeout: Duration,
    runners: Arc<Semaphore>,
    handler: BatchHandler<T>,
    run: Arc<Run>,
    _alive: Alive,
}

/// A batch that fills.
struct Open<T> {
    entries: Vec<Placed<T>>,
    deadline: Instant,
}

type OpenBatches<T> = HashMap<Option<Arc<str>>, Open<T>>;

impl<T: Send + 'static> Batching<T> {
    pub(crate) fn start(batcher: &Batcher, handler: BatchHandler<T>, run: Arc<Run>, alive: Alive) -> Entrance<T> {
        let (sender, receiver) = unbounded_channel();
        let name: Arc<str> = batcher.name.as_str().into();
        let runners = Arc::new(Semaphore::new(batcher.concurrency.min(Semaphore::MAX_PERMITS)));
        let (size, timeout) = (batcher.batch_size(), batcher.timeout);
        let batching = Batching { name: name.clone(), size, timeout, runners, handler, run, _alive: alive };
        tokio::spawn(Arc::new(batching).gather(receiver));
        Entrance { name, places: Arc::new(Semaphore::new(batcher.places())), sender }
    }

    async fn gather(self: Arc<Self>, mut receiver: UnboundedReceiver<Placed<T>>) {
        let mut open = OpenBatches::new();
        loop {
            let first = open.values().map(|batch| batch.deadline).min();
            let timeout = async {
                match first {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                entry = receiver.recv() => match entry {
                    Some(entry) => self.add(entry, &mut open).await,
                    None => break,
                },
                () = timeout => self.launch_due(Instant::now(), &mut open).await,
                () = self.run.flush.cancelled() => break,
            }
        }
        while let Ok(entry) = receiver.try_recv() {
            self.add(entry, &mut open).await;
        }
        for (key, batch) in open {
            self.launch(key, batch).await;
        }
    }

    async fn add(self: &Arc<Self>, (entry, place): Placed<T>, open: &mut OpenBatches<T>) {
        let key = entry.key.clone();
        let empty = || Open { entries: Vec::new(), deadline: Instant::now() + self.timeout };
        let batch = open.entry(key.clone()).or_insert_with(empty);
        batch.entries.push((entry, place));
        if batch.entries.len() >= self.size {
            if let Some(batch) = open.remove(&key) {
                self.launch(key, batch).await;
            }
        }
    }

    async fn launch_due(self: &Arc<Self>, now: Instant, open: &mut OpenBatches<T>) {
        let due: Vec<_> = open.iter().filter(|(_, batch)| batch.deadline <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            if let Some(batch) = open.remove(&key) {
                self.launch(key, batch).await;
            }
        }
    }

    /// Runs a batch as soon as fewer than `concurrency` do.
    async fn launch(self: &Arc<Self>, key: Option<Arc<str>>, batch: Open<T>) {
        let Ok(runner) = self.runners.clone().acquire_owned().await else { return };
        let batching = self.clone();
        tokio::spawn(async move {
            batching.execute(key, batch.entries).await;
            drop(runner);
        });
    }

    async fn execute(&self, key: Option<Arc<str>>, entries: Vec<Placed<T>>) {
        let mut messages = Vec::with_capacity(entries.len());
        let mut waiting = Vec::with_capacity(entries.len());
        for (Entry { message, delivery, .. }, place) in entries {
            if delivery.lease().is_lost() {
                self.run.lost(delivery);
            } else {
                messages.push(message);
                waiting.push((delivery, place));
            }
        }
        if waiting.is_empty() {
            return;
        }
        let ended = match self.run.interrupt.is_cancelled() {
            true => Ended::Interrupted,
            false => self.call(Batch { batcher: self.name.clone(), key, messages }, &waiting).await,
        };
        self.settle(ended, waiting).await;
    }

    async fn call(
        &self,
        batch: Batch<T>,
        waiting: &[(Delivery, OwnedSemaphorePermit)],
    ) -> Ended<Result<BatchOutcome, Failure>> {
        let (run, start) = (&self.run, Instant::now());
        let leases: Vec<_> = waiting.iter().map(|(delivery, _)| delivery.lease().clone()).collect();
        let all_lost = async {
            for lease in &leases {
                lease.lost().await;
            }
        };
        let span =
            tracing::info_span!("qflow.batch", workflow = %run.workflow, batcher = %self.name, jobs = waiting.len());
        let call = guarded(|| (self.handler)(batch), run.handler_timeout, all_lost, &run.interrupt);
        let ended = call.instrument(span).await;
        let word = match &ended {
            Ended::Returned(result) => result.as_ref().map_or("error", |_| "ok"),
            other => other.word(),
        };
        telemetry::handled(&run.workflow, "batch", word, start.elapsed());
        ended
    }

    async fn settle(
        &self,
        ended: Ended<Result<BatchOutcome, Failure>>,
        waiting: Vec<(Delivery, OwnedSemaphorePermit)>,
    ) {
        let mut results = match &ended {
            Ended::Returned(Ok(BatchOutcome::Each(results))) => results.clone().into_iter(),
            _ => Vec::new().into_iter(),
        };
        let settled = waiting.into_iter().map(|(delivery, place)| {
            let result = match &ended {
                Ended::Returned(Ok(BatchOutcome::Done)) => Ended::Returned(Ok(())),
                Ended::Returned(Ok(BatchOutcome::Each(_))) => {
                    let missing = || Err(Failure::new("the batch handler gave no result for this job"));
                    Ended::Returned(results.next().unwrap_or_else(missing))
                }
                Ended::Returned(Err(failure)) => Ended::Returned(Err(failure.clone())),
                Ended::Panicked(text) => Ended::Panicked(text.clone()),
                Ended::TimedOut => Ended::TimedOut,
                Ended::Lost => Ended::Lost,
                Ended::Interrupted => Ended::Interrupted,
            };
            async move {
                match result {
                    Ended::Returned(Err(failure)) => self.run.failed(delivery, Cause::Error, failure).await,
                    other => self.run.unless_returned(delivery, other).await,
                }
                drop(place);
            }
        });
        join_all(settled).await;
    }
}
