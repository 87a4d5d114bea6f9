//! Jobs that arrive, by whatever INSERT or COPY: told by the default of their column `enqueued_xid`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Result;
use crate::queue::registry;
use crate::shmem::queue::{Counter, Slot};
use crate::shmem::{self, at_commit};

thread_local! {
    /// The queue of the row before: those of a COPY come one after the other.
    static LAST: RefCell<Option<(u32, Rc<Slot>)>> = const { RefCell::new(None) };
}

/// Counts a job of the queue with this number, and wakes who waits for one, once the transaction commits. A number that
/// no queue has, counts nothing.
pub fn one(number: i64) -> Result<()> {
    count(number, 1)
}

/// The same for some jobs.
pub fn count(number: i64, jobs: usize) -> Result<()> {
    if !shmem::is_there() {
        return Ok(());
    }
    let slot = slot(number)?;
    // Also where the queue has no place yet: it may have one when the transaction commits, and be counted before.
    at_commit::count(&slot, Counter::Enqueued, jobs as i64);
    at_commit::change(&slot, |change| change.moves.pending += jobs as i64);
    at_commit::wake(&slot);
    Ok(())
}

/// Where a queue's counters are. Looked up once a transaction: the registry may be another one in the next.
fn slot(number: i64) -> Result<Rc<Slot>> {
    let transaction = crate::host::xact::local_id();
    let is_it = |(known, slot): &&(u32, Rc<Slot>)| *known == transaction && slot.key().number == number;
    if let Some(slot) = LAST.with_borrow(|last| last.as_ref().filter(is_it).map(|(_, slot)| slot.clone())) {
        return Ok(slot);
    }
    let slot = Rc::new(Slot::known(registry::table()?, number));
    LAST.set(Some((transaction, slot.clone())));
    Ok(slot)
}
