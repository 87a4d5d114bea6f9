//! A queue in memory, with the rules of the database's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::calls::{Claim, ExtendedLease, FetchOptions, Job, Outcome, Settled, Verdict};
use crate::error::{Error, Result};
use crate::hints::Hints;
use crate::json::Json;
use crate::source::{Backend, Connect, Source};

/// How long a lease of the queue in memory holds; nothing takes it back.
const LEASE: Duration = Duration::from_secs(300);

/// A queue in memory, for tests of handlers and pipelines. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct MemoryQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    jobs: BTreeMap<i64, MemoryJob>,
    max_attempts: i32,
    last_lease: i64,
    answers_to_lose: usize,
    fetches: usize,
}

/// A job of a [`MemoryQueue`].
#[derive(Clone, Debug)]
pub struct MemoryJob {
    /// Its number, from 1.
    pub id: i64,
    /// The payload.
    pub data: Json,
    /// What became of it.
    pub status: MemoryStatus,
    /// How often it was fetched.
    pub attempt: i32,
    /// Why its last attempt did not succeed.
    pub failure_reason: Option<String>,
    lease: i64,
    due: Instant,
}

/// The status of a [`MemoryJob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryStatus {
    /// It waits.
    Pending,
    /// Somebody has it.
    InProgress,
    /// It is done.
    Completed,
    /// It will not be done.
    Failed,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        MemoryQueue::new()
    }
}

impl MemoryQueue {
    /// An empty queue whose jobs are tried four times, without a delay between.
    pub fn new() -> Self {
        let state = State { jobs: BTreeMap::new(), max_attempts: 4, last_lease: 0, answers_to_lose: 0, fetches: 0 };
        MemoryQueue(Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Lets jobs be tried again so often.
    pub fn with_retries(self, retries: u16) -> Self {
        self.state().max_attempts = i32::from(retries) + 1;
        self
    }

    /// Adds a job and returns its id.
    pub fn push<T: Serialize + ?Sized>(&self, data: &T) -> Result<i64> {
        let data = Json::encode(data)?;
        let mut state = self.state();
        let id = state.jobs.last_key_value().map_or(1, |(id, _)| id + 1);
        let (status, due) = (MemoryStatus::Pending, Instant::now());
        state.jobs.insert(id, MemoryJob { id, data, status, attempt: 0, failure_reason: None, lease: 0, due });
        drop(state);
        self.0.changed.notify_waiters();
        Ok(id)
    }

    /// All jobs, by id.
    pub fn jobs(&self) -> Vec<MemoryJob> {
        self.state().jobs.values().cloned().collect()
    }

    /// The ids of completed jobs.
    pub fn completed(&self) -> Vec<i64> {
        self.with_status(MemoryStatus::Completed)
    }

    /// The ids of failed jobs.
    pub fn failed(&self) -> Vec<i64> {
        self.with_status(MemoryStatus::Failed)
    }

    /// How often somebody has fetched.
    pub fn fetches(&self) -> usize {
        self.state().fetches
    }

    /// Applies the next so many settles and lets their answers get lost, as when a connection breaks.
    pub fn lose_answers(&self, settles: usize) {
        self.state().answers_to_lose = settles;
    }

    /// Takes a lease away from who has it: its jobs are pending again.
    pub fn take_back(&self, id: i64) {
        if let Some(job) = self.state().jobs.get_mut(&id) {
            job.status = MemoryStatus::Pending;
            job.lease = -job.lease;
        }
        self.0.changed.notify_waiters();
    }

    /// Returns when every job is completed or failed.
    pub async fn idle(&self) {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let open = |job: &MemoryJob| matches!(job.status, MemoryStatus::Pending | MemoryStatus::InProgress);
            if !self.state().jobs.values().any(open) {
                return;
            }
            changed.await;
        }
    }

    fn with_status(&self, status: MemoryStatus) -> Vec<i64> {
        self.state().jobs.values().filter(|job| job.status == status).map(|job| job.id).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&MemoryQueue> for Source {
    fn from(queue: &MemoryQueue) -> Self {
        Source(Arc::new(queue.clone()))
    }
}

impl From<MemoryQueue> for Source {
    fn from(queue: MemoryQueue) -> Self {
        Source(Arc::new(queue))
    }
}

impl Connect for MemoryQueue {
    fn connect(&self, _: &str) -> Arc<dyn Backend> {
        Arc::new(self.clone())
    }

    fn connections(&self) -> Option<usize> {
        None
    }
}

impl Backend for MemoryQueue {
    fn fetch<'a>(&'a self, request: &'a FetchOptions) -> BoxFuture<'a, Result<Vec<Job>>> {
        let jobs = self.state().fetch(request.demand.unwrap_or(1));
        self.0.changed.notify_waiters();
        Box::pin(async { Ok(jobs) })
    }

    fn wait<'a>(&'a self, timeout: Duration, _: &'a Hints, stop: &'a CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let deadline = Instant::now() + timeout;
            loop {
                let mut changed = std::pin::pin!(self.0.changed.notified());
                changed.as_mut().enable();
                let due = self.state().next_due().unwrap_or(deadline).min(deadline);
                tokio::select! {
                    () = tokio::time::sleep_until(due) => return Ok(()),
                    () = stop.cancelled() => return Ok(()),
                    () = changed => {}
                }
            }
        })
    }

    fn settle<'a>(&'a self, outcomes: &'a [(Claim, Outcome)]) -> BoxFuture<'a, Result<Vec<Settled>>> {
        let mut state = self.state();
        let settled = outcomes.iter().map(|(claim, outcome)| state.settle(*claim, outcome)).collect();
        let lost = state.answers_to_lose > 0;
        state.answers_to_lose = state.answers_to_lose.saturating_sub(1);
        drop(state);
        self.0.changed.notify_waiters();
        Box::pin(async move {
            match lost {
                true => Err(Error::no_connection("the answer was lost, as the test asked for")),
                false => Ok(settled),
            }
        })
    }

    fn extend<'a>(&'a self, leases: &'a [i64], timeout: Option<Duration>) -> BoxFuture<'a, Result<Vec<ExtendedLease>>> {
        let left = timeout.unwrap_or(LEASE);
        let state = self.state();
        let is_held = |lease: &&i64| state.jobs.values().any(|job| job.lease == **lease && job.is_held());
        let lease_until = SystemTime::now() + left;
        let held =
            leases.iter().filter(is_held).map(|lease| ExtendedLease { lease: *lease, lease_until, lease_left: left });
        let held = held.collect();
        Box::pin(async { Ok(held) })
    }
}

impl MemoryJob {
    fn is_held(&self) -> bool {
        self.status == MemoryStatus::InProgress
    }
}

impl State {
    fn next_due(&self) -> Option<Instant> {
        self.jobs.values().filter(|job| job.status == MemoryStatus::Pending).map(|job| job.due).min()
    }

    fn fetch(&mut self, demand: usize) -> Vec<Job> {
        let (now, lease, max_attempts) = (Instant::now(), self.last_lease + 1, self.max_attempts);
        let due = |job: &&mut MemoryJob| job.status == MemoryStatus::Pending && job.due <= now;
        let jobs: Vec<Job> =
            self.jobs.values_mut().filter(due).take(demand).map(|job| job.claim(lease, max_attempts)).collect();
        self.last_lease += i64::from(!jobs.is_empty());
        self.fetches += 1;
        jobs
    }

    /// The state table of `docs/sql-api.md`.
    fn settle(&mut self, claim: Claim, outcome: &Outcome) -> Settled {
        let max_attempts = self.max_attempts;
        let verdict = match self.jobs.get_mut(&claim.id) {
            None => Verdict::Unknown,
            Some(job) if job.lease != claim.lease => Verdict::Stale,
            Some(job) if job.is_held() => job.apply(outcome, max_attempts),
            Some(job) => job.repeated(outcome),
        };
        Settled { claim, verdict }
    }
}

impl MemoryJob {
    fn claim(&mut self, lease: i64, max_attempts: i32) -> Job {
        self.status = MemoryStatus::InProgress;
        self.lease = lease;
        self.attempt += 1;
        Job {
            batch_no: 1,
            id: self.id,
            data: self.data.clone(),
            metadata: None,
            attempt: self.attempt,
            max_attempts,
            lease,
            lease_until: SystemTime::now() + LEASE,
            lease_left: LEASE,
            inserted_at: None,
            failure_reason: self.failure_reason.clone(),
            resources: None,
        }
    }

    fn apply(&mut self, outcome: &Outcome, max_attempts: i32) -> Verdict {
        match outcome {
            Outcome::Ack => {
                self.status = MemoryStatus::Completed;
                Verdict::Acked
            }
            Outcome::Requeue { reason, delay } => {
                let is_spent = self.attempt >= max_attempts;
                self.status = if is_spent { MemoryStatus::Failed } else { MemoryStatus::Pending };
                self.failure_reason.clone_from(reason);
                self.due = Instant::now() + delay.unwrap_or_default();
                Verdict::Requeued
            }
            Outcome::Fail { reason } => {
                self.status = MemoryStatus::Failed;
                self.failure_reason.clone_from(reason);
                Verdict::Failed
            }
            Outcome::Release => {
                self.status = MemoryStatus::Pending;
                self.attempt -= 1;
                Verdict::Released
            }
        }
    }

    fn repeated(&self, outcome: &Outcome) -> Verdict {
        use MemoryStatus::{Completed, Failed, Pending};
        let already = match outcome {
            Outcome::Ack => self.status == Completed,
            Outcome::Requeue { .. } => matches!(self.status, Pending | Failed),
            Outcome::Fail { .. } => self.status == Failed,
            Outcome::Release => self.status == Pending,
        };
        if already {
            Verdict::Already
        } else {
            Verdict::Stale
        }
    }
}
