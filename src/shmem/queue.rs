//! One slot for each queue: counters, claim floor, waiters, and what went wrong with it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::*};

use pgrx::pg_sys::Oid;

use super::floor::SharedFloor;
use super::known::Known;
use super::server::{server, SERVER};
use super::words::ErrorNote;
use crate::error;
use crate::guc;
use crate::host::latch::Latch;
use crate::host::shared::{Reading, Slots, Writing};
use crate::host::xact;

/// The slots.
pub static QUEUES: Slots<Notes, Marks> = Slots::new(c"qflow queues", guc::max_queues);

/// Most sessions that can wait for one queue and be woken; further ones look from time to time.
pub const MAX_WAITERS: usize = 256;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Jobs inserted, as far as the column default was evaluated.
    Enqueued,
    /// Jobs claimed.
    Claimed,
    /// Jobs acked.
    Acked,
    /// Jobs requeued by consumers.
    Requeued,
    /// Jobs failed: by consumers, for want of attempts, or reaped for the last time.
    Failed,
    /// Jobs released.
    Released,
    /// Jobs taken back from expired leases and ended sessions.
    Reaped,
    /// Settles that came too late.
    Stale,
}

/// How many counters there are.
pub const COUNTERS: usize = 8;

/// Which queue: numbers are unique in one registry, and there is one for each CREATE EXTENSION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its database.
    pub database: Oid,
    /// The table `qflow.queue` in which it is registered.
    pub registry: Oid,
    /// Its number there.
    pub number: i64,
}

/// A session that waits for jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// What wakes it.
    pub latch: Latch,
}

/// The locked part.
#[derive(Default)]
pub struct Notes {
    /// Who waits, the first come first.
    pub waiters: heapless::Vec<Waiter, MAX_WAITERS>,
    /// What went wrong the last time that the worker looked after it.
    pub trouble: Trouble,
    /// What is known of its jobs without looking at them.
    pub known: Known,
    /// Where its fetches begin to look.
    pub floor: SharedFloor,
}

/// What went wrong with a queue.
#[derive(Default)]
pub struct Trouble {
    /// How often in a row.
    pub failures: u32,
    /// When the worker tries again, microseconds.
    pub retry_at: i64,
    /// The error.
    pub error: ErrorNote,
}

/// The atomics.
#[derive(Default)]
pub struct Marks {
    database: AtomicU32,
    registry: AtomicU32,
    number: AtomicI64,
    counters: [AtomicI64; COUNTERS],
    waiters: AtomicU32,
    claims: AtomicU32,
    /// Whether the worker is at it: still true when it finds it so, it died there.
    pub in_hand: AtomicBool,
    /// Whether listeners are to be notified.
    pub is_news: AtomicBool,
    /// When jobs were last enqueued, claimed or settled, microseconds.
    pub last_activity: AtomicI64,
    /// When a fetch last looked from the floor on, microseconds.
    pub looked_at: AtomicI64,
    /// When one last looked for due jobs from the beginning, microseconds, and what that cost, buffers.
    pub looked_for_due_at: AtomicI64,
    pub look_for_due_cost: AtomicI64,
    /// When the floor was last saved, microseconds.
    pub floor_saved_at: AtomicI64,
}

/// A queue's slot, found again when it was given to another queue since.
#[derive(Debug)]
pub struct Slot {
    key: Key,
    at: Cell<usize>,
}

impl Slot {
    /// That of a queue of this database, if it has one.
    pub fn known(registry: Oid, number: i64) -> Self {
        Self::of(Key { database: xact::database(), registry, number })
    }

    /// That of any queue.
    pub fn of(key: Key) -> Self {
        Self { key, at: Cell::new(usize::MAX) }
    }

    /// The same; takes a free one where it has none yet.
    pub fn taken(registry: Oid, number: i64) -> Self {
        let slot = Self::known(registry, number);
        if super::is_there() && slot.marks().is_none() {
            claim(&slot.key);
        }
        slot
    }

    /// Which queue it is.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The atomics; none without preload, or when all slots are taken. Raises nothing.
    pub fn marks(&self) -> Option<&'static Marks> {
        let known = QUEUES.atomics(self.at.get()).filter(|marks| marks.is(&self.key));
        known.or_else(|| {
            self.at.set(find(&self.key)?);
            QUEUES.atomics(self.at.get())
        })
    }

    /// The locked part, to be read.
    pub fn read(&self) -> Option<Reading<Notes>> {
        self.marks()?;
        QUEUES.read(self.at.get()).filter(|_| self.is_still_its())
    }

    /// The locked part, to be changed.
    pub fn write(&self) -> Option<Writing<Notes>> {
        self.marks()?;
        QUEUES.write(self.at.get()).filter(|_| self.is_still_its())
    }

    /// While the slot's lock is held nobody gives it to another queue.
    fn is_still_its(&self) -> bool {
        QUEUES.atomics(self.at.get()).is_some_and(|marks| marks.is(&self.key))
    }

    /// From a time on, microseconds, there may be due jobs again. Raises nothing.
    pub fn look_for_due_from(&self, at: i64) {
        if let Some(mut notes) = self.write() {
            notes.floor.due_from = at.min(notes.floor.due_from);
            notes.floor.due_version += 1;
        }
    }

    /// Notes that a fetch of a workflow runs; to a tenth of a second, so that fetches do not wait for each other here.
    pub fn fetched(&self, workflow: &str, now: i64) {
        const PRECISION: i64 = 100_000;
        let is_recent = |at: i64| at <= now && now - at < PRECISION;
        let known = self.read().and_then(|notes| notes.known.consumers.get(workflow).map(|known| known.fetched_at));
        if known.is_some_and(is_recent) {
            return;
        }
        self.write().into_iter().for_each(|mut notes| notes.known.consumers.fetched(workflow, now));
    }

    /// Wakes who has waited longest. Raises nothing.
    pub fn wake_first(&self) {
        if self.marks().is_none_or(|marks| marks.waiters.load(SeqCst) == 0) {
            return;
        }
        let first = self.read().and_then(|notes| notes.waiters.first().copied());
        first.into_iter().for_each(|waiter| waiter.latch.set());
    }

    /// Puts the own session at the end of those that wait; false when there is no room. Whoever enlists sees to it that
    /// he is taken off however his process ends.
    pub fn enlist(&self) -> bool {
        self.change_waiters(|waiters| waiters.push(Waiter { latch: Latch::own() }).is_ok())
    }

    /// Whether the own session is among them still: a slot that was given back and taken anew has forgotten it.
    pub fn is_enlisted(&self) -> bool {
        let own = Latch::own();
        self.read().is_some_and(|notes| notes.waiters.iter().any(|waiter| waiter.latch == own))
    }

    /// The opposite.
    pub fn delist(&self) {
        let own = Latch::own();
        self.change_waiters(|waiters| {
            waiters.retain(|waiter| waiter.latch != own);
            true
        });
    }

    /// The number is kept beside the list, so that producers need no lock to see that nobody waits.
    fn change_waiters(&self, change: impl FnOnce(&mut heapless::Vec<Waiter, MAX_WAITERS>) -> bool) -> bool {
        let Some(mut notes) = self.write() else {
            return false;
        };
        let done = change(&mut notes.waiters);
        if let Some(marks) = QUEUES.atomics(self.at.get()) {
            marks.waiters.store(notes.waiters.len() as u32, SeqCst);
        }
        done
    }
}

impl Marks {
    fn is(&self, key: &Key) -> bool {
        self.number.load(Acquire) == key.number
            && self.registry.load(Acquire) == key.registry.to_u32()
            && self.database.load(Acquire) == key.database.to_u32()
    }

    fn key(&self) -> Key {
        Key {
            database: Oid::from(self.database.load(Acquire)),
            registry: Oid::from(self.registry.load(Acquire)),
            number: self.number.load(Acquire),
        }
    }

    fn name(&self, key: &Key) {
        self.number.store(key.number, Release);
        self.registry.store(key.registry.to_u32(), Release);
        self.database.store(key.database.to_u32(), Release);
    }

    /// A transaction claims jobs.
    pub fn begin_claim(&self) {
        self.claims.fetch_add(1, SeqCst);
    }

    /// It has ended.
    pub fn end_claim(&self) {
        let _ = self.claims.fetch_update(SeqCst, SeqCst, |claims| claims.checked_sub(1));
    }

    /// Whether a transaction that claimed jobs is still open.
    pub fn is_being_claimed(&self) -> bool {
        self.claims.load(SeqCst) > 0
    }

    /// How many sessions wait.
    pub fn waiting(&self) -> u32 {
        self.waiters.load(SeqCst)
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, by: i64) {
        self.counters[counter as usize].fetch_add(by, Relaxed);
    }

    /// Reads a counter.
    pub fn count(&self, counter: Counter) -> i64 {
        self.counters[counter as usize].load(Relaxed)
    }

    fn clear(&self) {
        let Self { database, registry, number, counters, waiters, in_hand, is_news, .. } = self;
        database.store(0, Release);
        registry.store(0, Release);
        number.store(0, Release);
        let times = [
            &self.last_activity,
            &self.looked_at,
            &self.looked_for_due_at,
            &self.look_for_due_cost,
            &self.floor_saved_at,
        ];
        counters.iter().chain(times).for_each(|counter| counter.store(0, Relaxed));
        waiters.store(0, SeqCst);
        self.claims.store(0, SeqCst);
        in_hand.store(false, Relaxed);
        is_news.store(false, Relaxed);
    }
}

/// How many slots are in use, and how many there are.
pub fn room() -> (usize, usize) {
    let is_used = |at: &usize| QUEUES.atomics(*at).is_some_and(|marks| !marks.is(&FREE));
    ((0..QUEUES.len()).filter(is_used).count(), QUEUES.len())
}

const FREE: Key = Key { database: Oid::INVALID, registry: Oid::INVALID, number: 0 };

fn find(key: &Key) -> Option<usize> {
    (0..QUEUES.len()).find(|at| QUEUES.atomics(*at).is_some_and(|marks| marks.is(key)))
}

fn claim(key: &Key) {
    let is_claimed = {
        let _turn = SERVER.write(0);
        let place = find(key).or_else(|| find(&FREE)).and_then(|at| QUEUES.atomics(at));
        place.is_some_and(|marks| {
            marks.name(key);
            true
        })
    };
    if !is_claimed && server().is_some_and(|server| server.is_first_queue_left_out()) {
        error::log(
            "qflow has no room in shared memory for another queue: it works without counters and wake-ups",
            "Raise qflow.max_queues, and restart the server.",
        );
    }
}

/// Frees the slots of a database's queues but those to be kept.
pub fn forget(database: Oid, is_kept: impl Fn(&Key) -> bool) {
    for at in 0..QUEUES.len() {
        let Some(marks) = QUEUES.atomics(at).filter(|marks| marks.key().database == database) else {
            continue;
        };
        if is_kept(&marks.key()) {
            continue;
        }
        let _turn = SERVER.write(0);
        if let Some(mut notes) = QUEUES.write(at) {
            marks.clear();
            // Whoever waits finds out for himself, when he next looks.
            notes.waiters.iter().for_each(|waiter| waiter.latch.set());
            *notes = Notes::default();
        }
    }
}
