//! The launcher: which databases need a worker now. After a server start it has one look into each, one at a time; from
//! then on sessions make their database known when they use qflow.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use pgrx::pg_sys::{self, Oid};

use super::{LAUNCHER, WORKER};
use crate::error;
use crate::guc;
use crate::host::background::{self, Started};
use crate::host::{exit, latch, value, xact};
use crate::shmem::database::{self, Database};
use crate::shmem::server::server;
use crate::shmem::{line, queue, NEVER};

/// How long the launcher waits before it tries again to start a worker that could not be, or that ended with its work
/// undone, microseconds.
const PATIENCE: i64 = 1_000_000;
/// How long it waits for the look into one database before it turns to the next, microseconds.
const LOOK: i64 = 5_000_000;
/// It says so often at most that there is no slot for a worker, microseconds.
const COMPLAINTS: i64 = 3_600_000_000;
/// A worker is taken for stuck in a transaction that has lasted this many times the limit.
const STUCK: i64 = 3;
/// How long it sleeps at most, microseconds: databases that were dropped give their places back then.
const ROUND: i64 = 60_000_000;

/// The process.
#[pgrx::pg_guard]
#[no_mangle]
pub extern "C-unwind" fn qflow_launcher_main(_argument: pg_sys::Datum) {
    background::connect_to_cluster();
    let Some(server) = server() else {
        return;
    };
    server.enter(xact::backend_pid());
    exit::at_exit(leave);
    let mut launcher = Launcher::default();
    loop {
        background::refresh();
        let now = value::now();
        server.heartbeat.store(now, Relaxed);
        let next = launcher.look_around(now).min(now + ROUND);
        latch::sleep(Some((next - value::now()).clamp(0, ROUND) / 1_000 + 1));
    }
}

fn leave() {
    server().into_iter().for_each(|server| server.leave());
}

/// What the launcher remembers.
#[derive(Default)]
struct Launcher {
    /// Workers that it started.
    started: HashMap<Oid, Started>,
    /// When a database may be tried again.
    not_before: HashMap<Oid, i64>,
    /// Databases still to be looked into; nothing: they were not listed yet.
    unseen: Option<Vec<Oid>>,
    /// The one looked into, with since when.
    looking: Option<(Oid, i64)>,
    cleaned_at: i64,
    /// When it was last said that no worker could be started.
    complained_at: Option<i64>,
}

/// The databases that one can connect to.
fn connectable() -> Option<Vec<Oid>> {
    const FOR_EVER: i64 = i32::MAX as i64;
    background::transaction(FOR_EVER, c"qflow: listing databases", || Ok(background::databases())).ok()
}

fn forget(oid: Oid) {
    queue::forget(oid, |_| false);
    line::forget(oid);
    database::forget(oid);
}

/// Ends a worker that goes on although its transaction was cancelled, as a trigger that catches that can make it. It
/// remembers what it was at, so that the next one leaves that alone for a while. When to look again, microseconds.
fn end_stuck(database: &Database, now: i64) -> i64 {
    let limit = guc::worker_statement_timeout_ms().saturating_mul(STUCK * 1_000);
    let (pid, since) = (database.worker_pid(), database.busy_since.load(Relaxed));
    if pid != 0 && since != 0 && now.saturating_sub(since) > limit {
        background::terminate_process(pid);
    }
    now.saturating_add(limit)
}

impl Launcher {
    /// Starts what is needed; when to look around again, microseconds.
    fn look_around(&mut self, now: i64) -> i64 {
        self.started.retain(|_, started| !started.is_gone());
        if self.unseen.is_none() || now - self.cleaned_at >= ROUND {
            self.list(now);
        }
        if !guc::worker() {
            return NEVER;
        }
        let look = self.look_into_next(now);
        let mut next = if look { now + PATIENCE } else { NEVER };
        for (oid, database) in database::all() {
            next = next.min(self.serve(oid, database, now));
        }
        next
    }

    /// Lists the databases: at first to look into each, later to forget those that are gone.
    fn list(&mut self, now: i64) {
        self.cleaned_at = now;
        let Some(found) = connectable() else {
            return;
        };
        for (oid, database) in database::all() {
            if !found.contains(&oid) && database.worker_pid() == 0 {
                forget(oid);
            }
        }
        self.not_before.retain(|oid, _| found.contains(oid));
        self.unseen.get_or_insert(found);
    }

    /// Looks into one database more, unless such a look is under way; true while some are left.
    fn look_into_next(&mut self, now: i64) -> bool {
        // Also while there is no slot to look with: else all would be looked into at once when there is one.
        let is_held_up = server().is_some_and(|server| server.no_worker_slot_since.load(Relaxed) != 0);
        let is_under_way = self.looking.is_some_and(|(oid, since)| {
            (is_held_up || now - since < LOOK) && database::of(oid).is_some_and(|slot| slot.passes.load(Relaxed) == 0)
        });
        let unseen = self.unseen.get_or_insert_default();
        if !is_under_way {
            self.looking = unseen.pop().map(|oid| (oid, now));
            let slot = self.looking.and_then(|(oid, _)| database::note(oid));
            slot.into_iter().for_each(|slot| slot.wake_by(now));
        }
        is_under_way || !unseen.is_empty()
    }

    /// Starts the worker of a database when it has something to do; when to look at it again.
    fn serve(&mut self, oid: Oid, database: &Database, now: i64) -> i64 {
        if database.worker_pid() != 0 || self.started.contains_key(&oid) {
            return end_stuck(database, now);
        }
        let at = database.wake_at().min(database.news_at()).max(self.not_before.get(&oid).copied().unwrap_or(0));
        if at > now {
            return at;
        }
        // Whatever comes of it, the next try is not made at once.
        self.not_before.insert(oid, now + PATIENCE);
        if connectable().is_some_and(|found| !found.contains(&oid)) {
            forget(oid);
            return NEVER;
        }
        match background::start(WORKER, WORKER, "qflow_worker_main", oid) {
            Some(started) => {
                server().into_iter().for_each(|server| server.no_worker_slot_since.store(0, Relaxed));
                self.started.insert(oid, started);
                NEVER
            }
            None => {
                self.complain(now);
                now + PATIENCE
            }
        }
    }

    /// Says that no worker can be started: once, and not again with each database that takes its turn in the slots there
    /// are.
    fn complain(&mut self, now: i64) {
        if let Some(server) = server() {
            let _ = server.no_worker_slot_since.compare_exchange(0, now, Relaxed, Relaxed);
        }
        if self.complained_at.is_none_or(|at| now - at >= COMPLAINTS) {
            self.complained_at = Some(now);
            error::log(
                format!("{LAUNCHER}: no slot is left for a background worker: jobs are taken back by fetches only"),
                "Raise max_worker_processes, and restart the server.",
            );
        }
    }
}
