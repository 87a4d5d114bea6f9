//! Where waking comes in: a waiter stands in the queue's list in shared memory, and whoever commits jobs sets the latch of
//! the first in it. Without shared memory, and for whom there is no room, nobody does: he looks again often instead.

use std::cell::RefCell;
use std::rc::Rc;

use crate::guc;
use crate::host::exit;
use crate::shmem::queue::Slot;

/// A waiter who is woken looks again by himself after this long, milliseconds, because some inserts wake nobody.
pub const LOOK_AGAIN_MS: i64 = 1_000;

thread_local! {
    /// Where this session is listed, for the end of the process: nothing is dropped then.
    static LISTED: RefCell<Option<Rc<Slot>>> = const { RefCell::new(None) };
}

/// A place among those who are woken when a queue may have a job for them; given up when dropped.
pub struct Seat {
    slot: Rc<Slot>,
}

impl Seat {
    /// Takes a place at a queue; keeps the one that is there if it is at that queue. Without room there is none.
    pub fn take(seat: &mut Option<Self>, slot: &Rc<Slot>) {
        if seat.as_ref().is_some_and(|seat| seat.slot.key() == slot.key() && slot.is_enlisted()) {
            return;
        }
        *seat = None; // leaves before it enters: one session has one place
        *seat = enlist(slot);
    }
}

impl Seat {
    /// Leaves with what one was woken for: the fetch that follows wakes the next.
    pub fn leave_for_fetch(self) {
        LISTED.take().into_iter().for_each(|slot| slot.delist());
    }
}

impl Drop for Seat {
    /// Who leaves otherwise may have been woken and has not looked since: then the next one does.
    fn drop(&mut self) {
        pass_on();
    }
}

fn enlist(slot: &Rc<Slot>) -> Option<Seat> {
    exit::at_exit(pass_on);
    LISTED.set(Some(slot.clone()));
    let seat = Seat { slot: slot.clone() };
    slot.enlist().then_some(seat)
}

fn pass_on() {
    LISTED.take().into_iter().for_each(|slot| {
        slot.delist();
        slot.wake_first();
    });
}

/// How long a waiter sleeps at most before he looks again, milliseconds.
pub fn look_again_ms(is_woken: bool) -> i64 {
    match is_woken {
        true => LOOK_AGAIN_MS,
        false => guc::poll_interval_ms(),
    }
}
