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
use crate::shmem::{queue, NEVER};

/// How long the launcher waits before it tries again to start a worker that could not be, or that ended with its work
/// undone, microseconds.
const PATIENCE: i64 = 1_000_000;
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
    /// Workers that it started, with when.
    started: HashMap<Oid, (Started, i64)>,
    /// When a database may be tried again.
    not_before: HashMap<Oid, i64>,
    /// Databases still to be looked into; nothing: they were not listed yet.
    unseen: Option<Vec<Oid>>,
    /// The one looked into.
    looking: Option<Oid>,
    cleaned_at: i64,
}

/// The databases that one can connect to.
fn connectable() -> Option<Vec<Oid>> {
    const FOR_EVER: i64 = i32::MAX as i64;
    background::transaction(FOR_EVER, c"qflow: listing databases", || Ok(background::databases())).ok()
}

fn forget(oid: Oid) {
    queue::forget(oid, |_| false);
    database::forget(oid);
}

impl Launcher {
    /// Starts what is needed; when to look around again, microseconds.
    fn look_around(&mut self, now: i64) -> i64 {
        self.started.retain(|_, (started, _)| !started.is_gone());
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
        let is_under_way = self.looking.is_some_and(|oid| {
            self.started.contains_key(&oid) && database::of(oid).is_some_and(|slot| slot.passes.load(Relaxed) == 0)
        });
        let unseen = self.unseen.get_or_insert_default();
        if !is_under_way {
            self.looking = unseen.pop();
            let slot = self.looking.and_then(database::note);
            slot.into_iter().for_each(|slot| slot.wake_by(now));
        }
        is_under_way || !unseen.is_empty()
    }

    /// Starts the worker of a database when it has something to do; when to look at it again.
    fn serve(&mut self, oid: Oid, database: &Database, now: i64) -> i64 {
        if database.worker_pid() != 0 || self.started.contains_key(&oid) {
            return NEVER;
        }
        let at = database.wake_at().max(self.not_before.get(&oid).copied().unwrap_or(0));
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
                self.started.insert(oid, (started, now));
                NEVER
            }
            None => {
                complain(now);
                now + PATIENCE
            }
        }
    }
}

/// Says once, until it is mended, that no worker can be started.
fn complain(now: i64) {
    let is_first =
        server().is_some_and(|server| server.no_worker_slot_since.compare_exchange(0, now, Relaxed, Relaxed).is_ok());
    if is_first {
        error::log(
            format!("{LAUNCHER}: no slot is left for a background worker: jobs are taken back by fetches only"),
            "Raise max_worker_processes, and restart the server.",
        );
    }
}
