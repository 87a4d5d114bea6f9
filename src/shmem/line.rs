//! Who waits for a resource: one line for each resource of each database, in the order in which they came.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::*};

use pgrx::pg_sys::Oid;

use super::server::{server, SERVER};
use crate::guc;
use crate::host::latch::Latch;
use crate::host::shared::Slots;
use crate::host::xact;

/// The lines.
pub static LINES: Slots<Places, Marks> = Slots::new(c"qflow resources", guc::max_resources);

/// Most consumers in one line; further ones take what is free without a place in it.
const MAX_WAITING: usize = 256;

/// A consumer in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Who it is.
    pub who: u64,
    /// What wakes it.
    pub latch: Latch,
    /// The slots that would do, as bits.
    pub slots: u64,
    /// Since when it waits, microseconds.
    pub since: i64,
    /// Until when others let it go first, microseconds.
    pub until: i64,
}

/// The locked part.
#[derive(Default)]
pub struct Places(heapless::Vec<Waiting, MAX_WAITING>);

/// The atomics.
#[derive(Default)]
pub struct Marks {
    database: AtomicU32,
    name: AtomicU64,
    /// How many stand in line, or have.
    places: AtomicU32,
    /// How often somebody got what he had waited for, how often not, and how long all that took, microseconds.
    pub served: AtomicI64,
    pub timeouts: AtomicI64,
    pub waited_us: AtomicI64,
}

/// The line of one resource of this database; nobody is in it where it has no place in shared memory.
pub struct Line {
    name: u64,
    at: Option<usize>,
}

impl Line {
    /// That of a resource.
    pub fn of(resource: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        resource.hash(&mut hasher);
        let name = hasher.finish();
        Self { name, at: find(xact::database(), name) }
    }

    /// What is counted.
    pub fn marks(&self) -> Option<&'static Marks> {
        LINES.atomics(self.at?)
    }

    /// How many wait now.
    pub fn waiting(&self, now: i64) -> usize {
        let is_waiting = |other: &&Waiting| other.until > now;
        self.places().map_or(0, |places| places.0.iter().filter(is_waiting).count())
    }

    fn is_empty(&self) -> bool {
        self.marks().is_none_or(|marks| marks.places.load(SeqCst) == 0)
    }

    fn places(&self) -> Option<crate::host::shared::Reading<Places>> {
        LINES.read(self.at.filter(|_| !self.is_empty())?)
    }

    /// Those before `who`; all are before who is not in line.
    pub fn before(&self, who: u64) -> Vec<Waiting> {
        let of = |places: crate::host::shared::Reading<Places>| {
            places.0.iter().take_while(|other| other.who != who).copied().collect()
        };
        self.places().map(of).unwrap_or_default()
    }

    /// Whether any but `who` is so.
    pub fn any_other(&self, who: u64, is_so: impl Fn(&Waiting) -> bool) -> bool {
        self.places().is_some_and(|places| places.0.iter().filter(|other| other.who != who).any(is_so))
    }

    /// Since when `who` waits, if it has a place.
    pub fn since(&self, who: u64) -> Option<i64> {
        self.places()?.0.iter().find(|other| other.who == who).map(|own| own.since)
    }

    /// Makes sure that there is a line, and room in it for `who`: those go that nobody has waited for since `gone`. Whether
    /// there is.
    pub fn make_room(&mut self, who: u64, gone: i64) -> bool {
        if self.at.is_none() {
            self.at = claim(xact::database(), self.name);
        }
        let has_room = self.change(|places| {
            places.0.retain(|other| other.who == who || other.until > gone);
            !places.0.is_full() || places.0.iter().any(|other| other.who == who)
        });
        has_room.unwrap_or(false)
    }

    /// Puts `own` in line, or its place where it belongs: who waits for longer is before it, and of two since the same
    /// moment the smaller number.
    pub fn stand(&self, own: Waiting) {
        let place = |waiting: &Waiting| (waiting.since, waiting.who);
        self.change(|places| {
            places.0.retain(|other| other.who != own.who);
            let at = places.0.iter().take_while(|other| place(other) < place(&own)).count();
            places.0.insert(at, own).unwrap_or(());
        });
    }

    /// Takes `who` out of the line, who has got what he wanted.
    pub fn leave(&self, who: u64, now: i64) {
        if self.is_empty() {
            return;
        }
        let since = self.change(|places| {
            let own = places.0.iter().find(|other| other.who == who).map(|own| own.since);
            places.0.retain(|other| other.who != who);
            own
        });
        if let (Some(marks), Some(since)) = (self.marks(), since.flatten()) {
            marks.served.fetch_add(1, Relaxed);
            marks.waited_us.fetch_add((now - since).max(0), Relaxed);
        }
    }

    /// Lets the others go first from now on, though `who` keeps his place for a while.
    pub fn step_aside(&self, who: u64, now: i64, has_waited: bool) {
        if has_waited {
            self.marks().into_iter().for_each(|marks| {
                marks.timeouts.fetch_add(1, Relaxed);
            });
        }
        if !self.is_empty() {
            self.change(|places| {
                places.0.iter_mut().filter(|own| own.who == who).for_each(|own| own.until = own.until.min(now));
            });
        }
    }

    /// Wakes those before whom nobody stands who wants the same. Raises nothing.
    pub fn wake(&self, now: i64) {
        let Some(places) = self.places() else {
            return;
        };
        let mut before = 0;
        for waiting in places.0.iter().filter(|waiting| waiting.until > now) {
            if waiting.slots & before == 0 {
                waiting.latch.set();
            }
            before |= waiting.slots;
        }
    }

    /// Frees the line of a resource that is gone. Raises nothing.
    pub fn forget(&self) {
        let database = xact::database().to_u32();
        free(|marks| marks.name.load(Acquire) == self.name && marks.database.load(Acquire) == database);
    }

    /// The number of places stands beside the line, so that nobody needs a lock to see that it is empty.
    fn change<R>(&self, change: impl FnOnce(&mut Places) -> R) -> Option<R> {
        let at = self.at?;
        let mut places = LINES.write(at)?;
        let done = change(&mut places);
        LINES.atomics(at)?.places.store(places.0.len() as u32, SeqCst);
        Some(done)
    }
}

fn find(database: Oid, name: u64) -> Option<usize> {
    let is_it = |marks: &Marks| marks.name.load(Acquire) == name && marks.database.load(Acquire) == database.to_u32();
    (0..LINES.len()).find(|at| LINES.atomics(*at).is_some_and(is_it))
}

fn claim(database: Oid, name: u64) -> Option<usize> {
    let _turn = SERVER.write(0);
    let at = find(database, name).or_else(|| find(Oid::INVALID, 0));
    match at.and_then(|at| LINES.atomics(at)) {
        Some(marks) => {
            marks.name.store(name, Release);
            marks.database.store(database.to_u32(), Release);
        }
        None if server().is_some_and(|server| server.is_first_resource_left_out()) => crate::error::log(
            "qflow has no room in shared memory for another resource: who waits for it stands in no line",
            "Raise qflow.max_resources, and restart the server.",
        ),
        None => {}
    }
    at
}

/// Frees the lines of a database that is gone, or whose qflow is.
pub fn forget(database: Oid) {
    free(|marks| marks.database.load(Acquire) == database.to_u32());
}

fn free(is_it: impl Fn(&Marks) -> bool) {
    for at in 0..LINES.len() {
        let Some(marks) = LINES.atomics(at).filter(|marks| is_it(marks)) else {
            continue;
        };
        let _turn = SERVER.write(0);
        if let Some(mut places) = LINES.write(at) {
            *places = Places::default();
            marks.places.store(0, SeqCst);
            [&marks.served, &marks.timeouts, &marks.waited_us].iter().for_each(|counter| counter.store(0, Relaxed));
            marks.name.store(0, Release);
            marks.database.store(0, Release);
        }
    }
}
