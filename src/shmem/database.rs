//! One slot for each database that uses qflow: when its worker has something to do, and how it is.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use pgrx::pg_sys::Oid;

use super::server::{server, SERVER};
use super::words::ErrorNote;
use super::NEVER;
use crate::error;
use crate::guc;
use crate::host::latch::Latch;
use crate::host::shared::Slots;
use crate::host::xact;

/// The slots.
pub static DATABASES: Slots<Notes, Database> = Slots::new(c"qflow databases", guc::max_databases);

/// A session: process id and start, since process ids come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    /// Process id.
    pub pid: i32,
    /// When it started, microseconds.
    pub start: i64,
}

/// Sessions with bound leases that have ended and that the worker has not seen to yet.
const MAX_ENDED: usize = 128;

/// The locked part.
#[derive(Default)]
pub struct Notes {
    ended: heapless::Vec<Session, MAX_ENDED>,
    too_many_ended: bool,
    /// The worker's last error outside any queue.
    pub error: ErrorNote,
}

/// The atomics.
pub struct Database {
    oid: AtomicU32,
    wake_at: AtomicI64,
    news_at: AtomicI64,
    worker: AtomicUsize,
    worker_pid: AtomicI32,
    /// When the worker last gave a sign of life, microseconds.
    pub heartbeat: AtomicI64,
    /// Since when it has been in the transaction that it is in, microseconds; 0: in none.
    pub busy_since: AtomicI64,
    /// When it last looked through all queues, microseconds.
    pub last_pass: AtomicI64,
    /// How often it has done so.
    pub passes: AtomicU64,
    /// Whether transactions were prepared that may bring work when they commit, elsewhere.
    pub has_prepared: AtomicBool,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            oid: AtomicU32::new(0),
            wake_at: AtomicI64::new(NEVER),
            news_at: AtomicI64::new(NEVER),
            worker: AtomicUsize::new(0),
            worker_pid: AtomicI32::new(0),
            heartbeat: AtomicI64::new(0),
            busy_since: AtomicI64::new(0),
            last_pass: AtomicI64::new(0),
            passes: AtomicU64::new(0),
            has_prepared: AtomicBool::new(false),
        }
    }
}

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The slot of this session's database. `make`: takes a free one where there is none yet.
pub fn own(make: bool) -> Option<&'static Database> {
    let slot = own_quietly(make);
    if slot.is_none() && make {
        complain();
    }
    slot
}

/// The same for who must not raise, and so cannot log either.
fn own_quietly(make: bool) -> Option<&'static Database> {
    let oid = xact::database();
    let known = DATABASES.atomics(OWN.get()).filter(|slot| slot.is(oid));
    if known.is_some() {
        return known;
    }
    let at = find(oid).or_else(|| make.then(|| claim(oid)).flatten())?;
    OWN.set(at);
    DATABASES.atomics(at)
}

/// There is something to do in this session's database at a time, microseconds. Raises nothing. The slot may have been
/// given back since this session last used it, and may be given back just now: a worker that began before the extension
/// was committed has found none.
pub fn wake_own_by(at: i64) {
    let oid = xact::database();
    while let Some(slot) = own_quietly(true) {
        slot.wake_by(at);
        if slot.is(oid) {
            return;
        }
    }
}

/// Listeners are to be notified at a time, microseconds; false where nobody will. Raises nothing.
pub fn notify_own_by(at: i64) -> bool {
    let slot = own_quietly(false);
    slot.into_iter().for_each(|slot| slot.notify_by(at));
    slot.is_some()
}

/// The slot of a database.
pub fn of(oid: Oid) -> Option<&'static Database> {
    find(oid).and_then(|at| DATABASES.atomics(at))
}

/// How far behind a worker may be before sessions do its work, microseconds.
pub const LATE: i64 = 2_000_000;

/// Whether a worker looks after this database: then sessions need not.
pub fn is_served(now: i64) -> bool {
    let has_launcher = || server().is_some_and(|server| server.launcher_pid() != 0);
    guc::worker() && has_launcher() && own(false).is_some_and(|slot| slot.wake_at() > now - LATE)
}

/// The databases that have a slot.
pub fn all() -> Vec<(Oid, &'static Database)> {
    let used = |at| DATABASES.atomics(at).and_then(|slot| slot.oid().map(|oid| (oid, slot)));
    (0..DATABASES.len()).filter_map(used).collect()
}

/// Takes a slot for a database that the launcher found, if it has none.
pub fn note(oid: Oid) -> Option<&'static Database> {
    let at = find(oid).or_else(|| claim(oid));
    if at.is_none() {
        complain();
    }
    at.and_then(|at| DATABASES.atomics(at))
}

/// How many slots are in use, and how many there are.
pub fn room() -> (usize, usize) {
    (all().len(), DATABASES.len())
}

/// The worker's last error outside any queue: when, microseconds, SQLSTATE, message.
pub fn last_error() -> Option<(i64, String, String)> {
    own(false)?;
    let notes = DATABASES.read(OWN.get())?;
    let error = &notes.error;
    (error.at != 0).then(|| (error.at, error.sqlstate.as_str().to_owned(), error.message.as_str().to_owned()))
}

/// Frees the slot of a database that is gone.
pub fn forget(oid: Oid) {
    give_back(oid, |_| true);
}

/// Frees the slot of a database that has no qflow, unless somebody has asked for work there since the worker began to look.
pub fn forget_unless_asked(oid: Oid) {
    give_back(oid, |slot| slot.wake_at() == NEVER);
}

/// First the name is taken off, so that whoever asks for work (`wake_own_by`) sees that, or is seen here.
fn give_back(oid: Oid, may_go: impl Fn(&Database) -> bool) {
    let _turn = SERVER.write(0);
    let Some(at) = find(oid) else {
        return;
    };
    if let (Some(slot), Some(mut notes)) = (DATABASES.atomics(at), DATABASES.write(at)) {
        slot.oid.store(0, SeqCst);
        if !may_go(slot) {
            slot.oid.store(oid.to_u32(), SeqCst);
            return;
        }
        slot.wake_at.store(NEVER, SeqCst);
        slot.news_at.store(NEVER, SeqCst);
        slot.passes.store(0, Relaxed);
        slot.has_prepared.store(false, Relaxed);
        *notes = Notes::default();
    }
}

fn find(oid: Oid) -> Option<usize> {
    (0..DATABASES.len()).find(|at| DATABASES.atomics(*at).is_some_and(|slot| slot.is(oid)))
}

/// Raises nothing.
fn claim(oid: Oid) -> Option<usize> {
    // Sessions of databases that are left out come here often.
    find(Oid::INVALID)?;
    let _turn = SERVER.write(0);
    let at = find(oid).or_else(|| find(Oid::INVALID));
    if let Some(slot) = at.and_then(|at| DATABASES.atomics(at)) {
        slot.oid.store(oid.to_u32(), SeqCst);
    }
    at
}

/// Says once that there is no slot left.
fn complain() {
    if super::is_there() && server().is_some_and(|server| server.is_first_database_left_out()) {
        error::log(
            "qflow has no room in shared memory for another database: no worker serves it",
            "Raise qflow.max_databases, and restart the server.",
        );
    }
}

impl Database {
    fn is(&self, oid: Oid) -> bool {
        self.oid.load(SeqCst) == oid.to_u32()
    }

    fn oid(&self) -> Option<Oid> {
        Some(Oid::from(self.oid.load(Acquire))).filter(|oid| *oid != Oid::INVALID)
    }

    /// When the worker has something to do, microseconds.
    pub fn wake_at(&self) -> i64 {
        self.wake_at.load(SeqCst)
    }

    /// Process id of the worker, 0 for none.
    pub fn worker_pid(&self) -> i32 {
        self.worker_pid.load(SeqCst)
    }

    /// There is something to do at a time, microseconds: whoever has to know it earlier than before is woken. Raises
    /// nothing.
    pub fn wake_by(&self, at: i64) {
        if at < self.wake_at.fetch_min(at, SeqCst) {
            self.wake();
        }
    }

    /// When listeners are to be notified, microseconds.
    pub fn news_at(&self) -> i64 {
        self.news_at.load(SeqCst)
    }

    /// The same as `wake_by`, for a notification.
    pub fn notify_by(&self, at: i64) {
        if at < self.news_at.fetch_min(at, SeqCst) {
            self.wake();
        }
    }

    /// For the worker, before it looks for news.
    pub fn begin_news(&self) {
        self.news_at.store(NEVER, SeqCst);
    }

    fn wake(&self) {
        match Latch::from_number(self.worker.load(SeqCst)) {
            Some(latch) => latch.set(),
            None => server().into_iter().for_each(|server| server.wake_launcher()),
        }
    }

    /// For the worker, before it looks: from here on whatever comes up is noted anew.
    pub fn begin_pass(&self) {
        self.wake_at.store(NEVER, SeqCst);
    }

    /// Makes the own process known as the worker; false when there is one.
    pub fn enter(&self, pid: i32) -> bool {
        let is_free = self.worker_pid.compare_exchange(0, pid, SeqCst, SeqCst).is_ok();
        if is_free {
            self.worker.store(Latch::own().to_number(), SeqCst);
        }
        is_free
    }

    /// The opposite. The launcher looks whether something came up meanwhile.
    pub fn leave(&self) {
        self.busy_since.store(0, Relaxed);
        self.worker.store(0, SeqCst);
        self.worker_pid.store(0, SeqCst);
        server().into_iter().for_each(|server| server.wake_launcher());
    }
}

/// Notes that a transaction of this database was prepared that may bring work. Raises nothing.
pub fn note_prepared() {
    own_quietly(true).into_iter().for_each(|slot| slot.has_prepared.store(true, SeqCst));
    wake_own_by(0);
}

/// Notes that a session of this database has ended whose leases end with it, and wakes the worker.
pub fn session_ended(session: Session) {
    let Some(slot) = own(true) else {
        return;
    };
    if let Some(mut notes) = DATABASES.write(OWN.get()) {
        let is_noted = notes.ended.push(session).is_ok();
        notes.too_many_ended |= !is_noted;
    }
    slot.wake_by(0);
}

/// Keeps the worker's last error for `health()`.
pub fn keep_error(at: i64, sqlstate: &str, message: &str) {
    if own(false).is_some() {
        DATABASES.write(OWN.get()).into_iter().for_each(|mut notes| notes.error.keep(at, sqlstate, message));
    }
}

/// The sessions that have ended since, and whether there were too many to be noted.
pub fn take_ended() -> (Vec<Session>, bool) {
    if own(false).is_none() {
        return (Vec::new(), false);
    }
    DATABASES.write(OWN.get()).map_or((Vec::new(), false), |mut notes| {
        let ended = notes.ended.iter().copied().collect();
        notes.ended.clear();
        (ended, std::mem::take(&mut notes.too_many_ended))
    })
}
