//! How long the oldest pending job waits, and how many wait for their time: looked up in the indexes, not counted.

use crate::error::Result;
use crate::host::snapshot::Latest;
use crate::host::spi::connected;
use crate::host::value;
use crate::host::xact;
use crate::job::floor_store;
use crate::queue::cache::Queue;

/// Delayed jobs counted at most.
pub const MOST_DELAYED: usize = 10_000;
/// Due jobs looked at at most.
const MOST_DUE: usize = 1_000;

/// What is pending.
pub struct Pending {
    /// Jobs that wait for their time, at most `MOST_DELAYED`.
    pub delayed: i64,
    /// When the oldest of the others was inserted, microseconds: the first job of each priority, and the jobs that are
    /// due longest.
    pub oldest_at: Option<i64>,
}

/// Looks what is pending. For whoever may plan queries on the table: as a rule its owner.
pub fn look(queue: &Queue) -> Result<Pending> {
    let now = value::now();
    // The floor before the snapshot: what was claimed in between is passed, what came is above.
    let floor = floor_store::current(queue, now)?;
    connected(|spi| {
        let latest = Latest::take();
        let stretches = floor.segments(&latest.horizon(), xact::next_xid() + 1);
        let fresh = queue.jobs.oldest_fresh(spi, &stretches)?;
        let due = queue.jobs.oldest_due(spi, now, MOST_DUE)?;
        let delayed = queue.jobs.delayed(spi, now, MOST_DELAYED)?;
        Ok(Pending { delayed, oldest_at: fresh.into_iter().chain(due).min() })
    })
}
