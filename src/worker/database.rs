//! The worker of one database: passes when there is something to do, sleep on the latch between them.

use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::Ordering::Relaxed;

use pgrx::{pg_sys, FromDatum};

use super::notices;
use super::pass::{self, Found};
use crate::compat;
use crate::guc;
use crate::host::{background, exit, latch, value, xact};
use crate::shmem::{database, line, queue};

/// What holds in a worker, whatever ALTER DATABASE and ALTER ROLE say.
const SETTINGS: &[(&CStr, &CStr)] = &[
    (c"role", c"none"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"session_replication_role", c"origin"),
    (c"row_security", c"on"),
    (c"lock_timeout", c"1s"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"statement_timeout", c"0"),
    (c"client_min_messages", c"error"),
];

/// Notifications that could not be sent are sent so much later, microseconds.
const AFTER_FAILURE: i64 = 1_000_000;
/// Sleeps no longer than this at a time, microseconds.
const ROUND: i64 = 60_000_000;

thread_local! {
    /// Whether the database has no qflow, as was found.
    static FORSAKEN: Cell<bool> = const { Cell::new(false) };
    /// Whether a pass has begun and not come to its end: what was due is noted nowhere else meanwhile.
    static IN_PASS: Cell<bool> = const { Cell::new(false) };
    /// The same for notifications.
    static IN_NEWS: Cell<bool> = const { Cell::new(false) };
}

/// The process.
#[pgrx::pg_guard]
#[no_mangle]
pub extern "C-unwind" fn qflow_worker_main(argument: pg_sys::Datum) {
    // SAFETY: the launcher passes an oid.
    let oid = unsafe { pg_sys::Oid::from_datum(argument, false) }.unwrap_or(pg_sys::InvalidOid);
    background::connect_to(oid, SETTINGS);
    background::set(compat::WORKER_SETTINGS);
    let Some(slot) = database::own(true) else {
        return;
    };
    if !slot.enter(xact::backend_pid()) {
        return;
    }
    exit::at_exit(leave);
    let mut worker = pass::Worker::default();
    let mut busy_at = value::now();
    while guc::worker() {
        background::refresh();
        let now = value::now();
        slot.heartbeat.store(now, Relaxed);
        if worker.is_rested(now) && (slot.wake_at() <= now || worker.has_own_work(now)) {
            IN_PASS.set(true);
            let found = worker.pass(slot);
            IN_PASS.set(false);
            match found {
                Found::NoQflow => {
                    FORSAKEN.set(true);
                    return;
                }
                Found::Work => busy_at = now,
                Found::Nothing => {}
            }
            continue;
        }
        if slot.news_at() <= now {
            slot.begin_news();
            IN_NEWS.set(true);
            if !notices::send() {
                slot.notify_by(now + AFTER_FAILURE);
            }
            IN_NEWS.set(false);
            busy_at = now;
            continue;
        }
        let leave_at = busy_at + guc::worker_idle_ms() * 1_000;
        if now >= leave_at {
            return;
        }
        let next = slot.wake_at().min(worker.next_own_work()).max(worker.rested_at()).min(slot.news_at());
        let next = next.min(leave_at).min(now + ROUND);
        latch::sleep(Some((next - now).max(0) / 1_000 + 1));
    }
}

/// The launcher starts another worker when there is something to do again.
fn leave() {
    let Some(slot) = database::own(false) else {
        return;
    };
    if IN_NEWS.get() {
        slot.notify_by(0);
    }
    slot.leave();
    if FORSAKEN.get() {
        let oid = xact::database();
        queue::forget(oid, |_| false);
        line::forget(oid);
        database::forget_unless_asked(oid);
    } else if IN_PASS.get() {
        slot.wake_by(0);
    }
}
