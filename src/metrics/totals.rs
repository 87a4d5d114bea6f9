//! What was counted since the server started.

use crate::host::xact;
use crate::shmem::queue::{Counter, Slot, COUNTERS};

/// All counters, in the order in which they are shown.
pub const ALL: [Counter; COUNTERS] = [
    Counter::Enqueued,
    Counter::Claimed,
    Counter::Acked,
    Counter::Requeued,
    Counter::Failed,
    Counter::Released,
    Counter::Reaped,
    Counter::Stale,
];

/// The counters of a queue, in the order of `ALL`; nothing without shared memory, where the queue has no place in it, and
/// on a standby, whose memory knows nothing of what the primary does.
pub fn totals(slot: &Slot) -> Option<[i64; COUNTERS]> {
    let marks = slot.marks().filter(|_| !xact::is_standby())?;
    Some(ALL.map(|counter| marks.count(counter)))
}
