//! Counting jobs, so that whoever looks at the numbers need not.

use super::pass::transaction;
use crate::host::{relation, value};
use crate::metrics::depths::{self, For};
use crate::queue::registry::QueueRow;
use crate::shmem::queue::Slot;

/// Longer than this a pass does not count jobs, if one count does not take longer, microseconds.
const MOST_COUNTING: i64 = 500_000;

/// Counts the jobs of queues of which nobody knows how many there are, or whose numbers are old; false when some are left
/// for the next pass, so that what is due has not to wait.
pub fn count<'a>(queues: impl Iterator<Item = (&'a QueueRow, &'a Slot)>) -> bool {
    let begun_at = value::now();
    for (row, slot) in queues {
        let now = value::now();
        if depths::count_at(slot).is_none_or(|at| at > now) {
            continue;
        }
        if now - begun_at > MOST_COUNTING {
            return false;
        }
        // What cannot be counted, or not in time, is counted by who looks.
        let counted = transaction(c"qflow: counting jobs", || {
            if relation::lock_extension(c"qflow") {
                depths::counted(row, For::Memory)?;
            }
            Ok(())
        });
        if counted.is_err() {
            depths::put_off(slot, now);
        }
    }
    true
}
