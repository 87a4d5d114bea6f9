//! What the worker does about a queue that fails: it says so in the log, leaves it alone for a while that doubles, and
//! goes on with the others.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;

use crate::error;
use crate::host::subtransaction::Caught;
use crate::shmem::queue::Slot;

thread_local! {
    /// How queues stand that have no place in shared memory, by number: when they may be tried again, how often they
    /// failed. A worker that begins anew tries them at once.
    static ELSEWHERE: RefCell<HashMap<i64, (i64, u32)>> = RefCell::new(HashMap::new());
}

/// The longest time that a failing queue is left alone, microseconds.
const MOST: i64 = 300_000_000;
const LEAST: i64 = 1_000_000;

/// How long a queue that failed so often in a row is left alone, microseconds.
pub fn rest(failures: u32) -> i64 {
    LEAST.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(MOST)
}

/// When a queue may be tried again, microseconds; a time in the past where nothing is wrong. How often it failed.
pub fn standing(slot: &Slot) -> (i64, u32) {
    let elsewhere = || ELSEWHERE.with_borrow(|known| known.get(&slot.key().number).copied().unwrap_or((0, 0)));
    slot.read().map_or_else(elsewhere, |notes| (notes.trouble.retry_at, notes.trouble.failures))
}

/// Notes that the worker begins with a queue. An earlier one that ended in the midst of it was stuck there: then it
/// counts as a failure, and is not begun.
pub fn begin(slot: &Slot, name: &str, now: i64) -> bool {
    let was_in_hand = slot.marks().is_some_and(|marks| marks.in_hand.swap(true, SeqCst));
    if was_in_hand {
        let message = "a worker ended while it worked on the queue".to_owned();
        failed(slot, name, now, &Caught { message, sqlstate: "57P01".to_owned() });
    }
    !was_in_hand
}

/// Notes whether a worker is at a queue: an end in the midst of it is seen by the next.
pub fn mark(slot: &Slot, is_in_hand: bool) {
    slot.marks().into_iter().for_each(|marks| marks.in_hand.store(is_in_hand, SeqCst));
}

/// Notes that all went well.
pub fn passed(slot: &Slot) {
    mark(slot, false);
    ELSEWHERE.with_borrow_mut(|known| known.remove(&slot.key().number));
    if standing(slot).1 > 0 {
        if let Some(mut notes) = slot.write() {
            notes.trouble = Default::default();
        }
    }
}

/// Notes that it did not, and says so.
pub fn failed(slot: &Slot, name: &str, now: i64, caught: &Caught) {
    mark(slot, false);
    let failures = standing(slot).1.saturating_add(1);
    let pause = rest(failures);
    match slot.write() {
        Some(mut notes) => {
            notes.trouble.failures = failures;
            notes.trouble.retry_at = now + pause;
            notes.trouble.error.keep(now, &caught.sqlstate, &caught.message);
        }
        None => {
            ELSEWHERE.with_borrow_mut(|known| known.insert(slot.key().number, (now + pause, failures)));
        }
    }
    let Caught { message, sqlstate } = caught;
    error::log(
        format!("qflow could not look after queue {name}: {message} ({sqlstate}); next try in {} s", pause / 1_000_000),
        "Jobs of this queue are not taken back meanwhile; qflow.health() and qflow.verify() say more.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_doubles_up_to_five_minutes() {
        assert_eq!(
            [0, 1, 2, 3, 9, 10, u32::MAX].map(rest).map(|micros| micros / 1_000_000),
            [1, 1, 2, 4, 256, 300, 300]
        );
    }
}
