//! What a pipeline has done.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of the jobs of a pipeline, from its start to its end. `println!("{report}")` shows it in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Completed.
    pub completed: u64,
    /// To be tried again.
    pub requeued: u64,
    /// Failed for good: as asked, or because no attempt was left.
    pub failed: u64,
    /// Given back with their attempt, since they were never started.
    pub released: u64,
    /// Taken back by the database while they were worked on.
    pub lost: u64,
    /// Given up in the middle when the time of a shutdown was over; they are pending again.
    pub interrupted: u64,
    /// Jobs whose end the database has not confirmed: they come back when their lease ends.
    pub unsettled: u64,
}

impl Report {
    /// Whether nothing was cut off: no handler was interrupted, and the database knows how each job ended.
    pub fn is_clean(&self) -> bool {
        self.interrupted == 0 && self.unsettled == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { completed, requeued, failed, released, lost, interrupted, unsettled } = self;
        write!(
            f,
            "{completed} completed, {requeued} requeued, {failed} failed, {released} released, {lost} lost, \
             {interrupted} interrupted, {unsettled} unsettled"
        )
    }
}

/// Counts while the pipeline runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub completed: AtomicU64,
    pub requeued: AtomicU64,
    pub failed: AtomicU64,
    pub lost: AtomicU64,
    pub interrupted: AtomicU64,
    pub unsettled: AtomicU64,
}

impl Tally {
    pub(crate) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn report(&self, released: u64, in_flight: usize) -> Report {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Report {
            completed: count(&self.completed),
            requeued: count(&self.requeued),
            failed: count(&self.failed),
            released,
            lost: count(&self.lost),
            interrupted: count(&self.interrupted),
            unsettled: count(&self.unsettled) + in_flight as u64,
        }
    }
}
