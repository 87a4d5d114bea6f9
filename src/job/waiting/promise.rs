//! A wait that returns early promises rows, as far as one can see without locking anything. Where the fetch after it
//! comes back empty (its job is locked by an open transaction, for example) the next wait does not believe what it sees
//! until it is time to look again, or it is woken: wait and fetch would otherwise chase each other as fast as they can.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::waking;
use crate::shmem;

/// What the last wait of this session promised.
struct Promise {
    workflow: String,
    broken_at: Option<Instant>,
}

thread_local! {
    static LAST: RefCell<Option<Promise>> = const { RefCell::new(None) };
}

/// Notes that a wait of a workflow returned because there were jobs.
pub fn give(workflow: &str) {
    LAST.set(Some(Promise { workflow: workflow.to_owned(), broken_at: None }));
}

/// Notes what a fetch of a workflow brought.
pub fn fetched(workflow: &str, jobs: i64) {
    LAST.with_borrow_mut(|last| {
        if let Some(promise) = last.as_mut().filter(|promise| promise.workflow == workflow) {
            promise.broken_at = (jobs == 0).then(Instant::now);
        }
    });
}

/// Until when the next wait of a workflow does not believe that there are jobs.
pub fn rest(workflow: &str) -> Option<Instant> {
    let broken_at = LAST.with_borrow(|last| {
        last.as_ref().filter(|promise| promise.workflow == workflow).and_then(|promise| promise.broken_at)
    });
    broken_at.map(|at| at + Duration::from_millis(waking::look_again_ms(shmem::is_there()).unsigned_abs()))
}
