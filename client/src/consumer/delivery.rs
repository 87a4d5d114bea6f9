//! A job that was handed out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::lease::Lease;
use super::ledger::Ledger;
use super::settler::Settles;
use crate::calls::{Claim, Job, Outcome, Verdict};
use crate::error::{Error, Result};

/// A job of a [`Consumer`](crate::Consumer), to be settled in one of five ways.
///
/// Each of them returns when the database has confirmed it; until then the job counts against the consumer's capacity,
/// and afterwards it is somebody else's. Settles are repeated while the database is away, also when the future is
/// dropped. [`Error::is_lost`] says that the lease had ended before: what was done for the job must not count.
///
/// To commit the effects of a job together with its ack, ack its [`claim`](Delivery::claim) on your own transaction
/// with `strict`, commit, and then call [`ack`](Delivery::ack), which the database answers with "already". Ack late in such
/// a transaction: until it ends, other settles of the same lease wait for it, and those of other leases behind them.
///
/// A delivery that is dropped goes back: with its attempt if it never left the stream, else as a failed attempt.
#[derive(Debug)]
pub struct Delivery {
    job: Arc<Job>,
    lease: Lease,
    settles: Settles,
    started: bool,
    stage: StageExit,
    open: bool,
}

impl Delivery {
    pub(crate) fn new(job: Job, lease: Lease, settles: Settles) -> Self {
        let stage = StageExit { ledger: settles.ledger().clone(), left: Arc::default() };
        Delivery { job: Arc::new(job), lease, settles, started: false, stage, open: true }
    }

    /// The job as it was fetched.
    pub fn job(&self) -> &Job {
        &self.job
    }

    pub(crate) fn shared_job(&self) -> &Arc<Job> {
        &self.job
    }

    /// The payload, read as a value.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T> {
        self.job.data.decode()
    }

    /// The job and its lease, for calls of your own.
    pub fn claim(&self) -> Claim {
        self.job.claim()
    }

    /// The hold on the job: whether it is lost.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The job is done.
    pub async fn ack(self) -> Result<()> {
        self.settle(Outcome::Ack).await.map(drop)
    }

    /// The job could not be done: again after the workflow's back-off, or failed when no attempt is left.
    pub async fn nack(self, reason: impl Into<String>) -> Result<()> {
        self.settle(Outcome::Requeue { reason: Some(reason.into()), delay: None }).await.map(drop)
    }

    /// As [`nack`](Delivery::nack), again after `delay`.
    pub async fn retry_in(self, reason: impl Into<String>, delay: Duration) -> Result<()> {
        self.settle(Outcome::Requeue { reason: Some(reason.into()), delay: Some(delay) }).await.map(drop)
    }

    /// The job will never be done, whatever attempts are left.
    pub async fn fail(self, reason: impl Into<String>) -> Result<()> {
        self.settle(Outcome::Fail { reason: Some(reason.into()) }).await.map(drop)
    }

    /// The job was not started: pending again at once, the attempt given back.
    pub async fn release(self) -> Result<()> {
        self.settle(Outcome::Release).await.map(drop)
    }

    /// Moves the deadline of the lease, and so of all jobs of its fetch, to `timeout` from now. Heartbeats do this by
    /// themselves; this is for a longer time in which the program cannot run them.
    pub async fn extend(&self, timeout: Duration) -> Result<()> {
        match self.settles.extend(self.lease.id, timeout).await? {
            true => Ok(()),
            false => Err(Error::lost()),
        }
    }

    pub(crate) async fn settle(mut self, outcome: Outcome) -> Result<Verdict> {
        self.open = false;
        match self.settles.send(self.claim(), outcome, self.stage.clone()).await {
            Ok(verdict) => verdict,
            Err(_) => Err(Error::stopped()),
        }
    }

    /// The program begins to work on it: from now on going back costs its attempt.
    pub(crate) fn start(&mut self) {
        self.started = true;
    }

    /// What makes room in the first stage of a pipeline, before the delivery is settled.
    pub(crate) fn stage_exit(&self) -> StageExit {
        self.stage.clone()
    }

    /// Its lease is lost: nothing more is said about it.
    pub(crate) fn give_up(mut self) {
        self.open = false;
    }
}

/// Leaves the first stage of a pipeline, once however often it is asked to.
#[derive(Clone, Debug)]
pub(crate) struct StageExit {
    ledger: Arc<Ledger>,
    left: Arc<AtomicBool>,
}

impl StageExit {
    pub(crate) fn leave(&self) {
        if !self.left.swap(true, Ordering::Relaxed) {
            self.ledger.leave_stage();
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.open && !self.lease.is_lost() {
            let outcome = match self.started {
                true => Outcome::Requeue { reason: Some("dropped without an outcome".to_owned()), delay: None },
                false => {
                    self.settles.ledger().count_released();
                    Outcome::Release
                }
            };
            drop(self.settles.send(self.claim(), outcome, self.stage.clone()));
        } else {
            self.stage.leave();
        }
    }
}
