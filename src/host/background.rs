//! Processes in the background: how they are registered, connect, run transactions of their own, and what they see of
//! the cluster without being in a database.

use std::ffi::{c_int, CStr};
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::{pg_sys, IntoDatum};

use super::passing;
use super::subtransaction::Caught;
use crate::compat;
use crate::error::Result;

/// The library, as the server loads it for a background process.
const LIBRARY: &str = "qflow";
/// `datconnlimit` of a database whose DROP DATABASE did not come to its end.
const BEING_DROPPED: i32 = -2;
/// `enable_timeout_after`'s number of the statement timeout, the same in all versions.
const STATEMENT_TIMEOUT: c_int = 3;

// Not among pgrx's bindings.
extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

/// Registers a process that the postmaster starts once recovery is over, and again a second after it ended.
pub fn register_permanent(name: &str, function: &str) {
    BackgroundWorkerBuilder::new(name)
        .set_type(name)
        .set_library(LIBRARY)
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// A process that was started for a database.
pub struct Started(DynamicBackgroundWorker);

impl Started {
    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        !matches!(self.0.pid(), Ok(_) | Err(BackgroundWorkerStatus::NotYetStarted))
    }
}

/// Starts a process for a database that is never started again by itself; none when the server has no slot left. This
/// process is woken when it has started and when it has ended.
pub fn start(name: &str, kind: &str, function: &str, database: pg_sys::Oid) -> Option<Started> {
    let worker = BackgroundWorkerBuilder::new(name)
        .set_type(kind)
        .set_library(LIBRARY)
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .set_argument(database.into_datum())
        .set_notify_pid(super::xact::backend_pid())
        .load_dynamic();
    worker.ok().map(Started)
}

/// Which signals a background process obeys: SIGTERM also inside a running statement, SIGHUP at its next `refresh`.
fn obey_signals() {
    compat::set_signal_handler(pg_sys::SIGTERM as c_int, terminate);
    compat::set_signal_handler(pg_sys::SIGHUP as c_int, reload);
    // SAFETY: called once, at the start of the process.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
}

unsafe extern "C-unwind" fn terminate(signal: c_int) {
    // SAFETY: the server's own handler: it only sets flags.
    unsafe { pg_sys::die(signal) };
}

/// Ends another process of the server, as pg_terminate_backend does.
pub fn terminate_process(pid: i32) {
    // SAFETY: a signal; the process is one that has said that it runs, and takes that back when it ends.
    unsafe { kill(pid, pg_sys::SIGTERM as c_int) };
}

unsafe extern "C-unwind" fn reload(signal: c_int) {
    // SAFETY: as above.
    unsafe { pg_sys::SignalHandlerForConfigReload(signal) };
}

/// Begins a process that sees what the cluster has, but is in no database.
pub fn connect_to_cluster() {
    obey_signals();
    // SAFETY: called once, in a background process registered for it.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
}

/// Begins a process in a database, as the cluster's first superuser; ends it when the database is gone. `settings` hold
/// whatever the database or the role say.
pub fn connect_to(database: pg_sys::Oid, settings: &[(&CStr, &CStr)]) {
    obey_signals();
    // SAFETY: as above.
    unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0) };
    set(settings);
}

/// Settings that hold in this process whatever the database or the role say.
pub fn set(settings: &[(&CStr, &CStr)]) {
    for (name, value) in settings {
        let (context, source) = (pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_OVERRIDE);
        // SAFETY: both strings end in NUL and are copied.
        unsafe { pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), context, source) };
    }
}

/// Reads the configuration again if the server was told to.
pub fn refresh() {
    // SAFETY: a flag of the own process, set by its signal handler.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Runs `work` in a transaction of its own, of at most `limit_ms` milliseconds: committed when it returns `Ok`, rolled
/// back and the error handed out else. Also a cancelled statement is caught; a terminated process ends.
pub fn transaction<R>(limit_ms: i64, doing: &CStr, work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Caught> {
    let memory = Memory::begin();
    // SAFETY: `doing` ends in NUL; times are below the limits of the type.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, doing.as_ptr());
        enable_timeout_after(STATEMENT_TIMEOUT, limit_ms.clamp(1, i64::from(c_int::MAX)) as c_int);
    }
    let outcome = passing::watch(|| {
        // SAFETY: a whole transaction; when it raises, it is aborted below.
        unsafe {
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let done = work()?;
        // SAFETY: as above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(done)
    });
    // SAFETY: ends what was begun above.
    unsafe {
        disable_timeout(STATEMENT_TIMEOUT, false);
        // A timeout or a cancel that came too late, or for nothing, must not end the process at its next rest.
        pg_sys::QueryCancelPending = 0;
        if !matches!(outcome, Ok(Ok(_))) {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(false);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
    let outcome = Caught::of(outcome);
    drop(memory);
    outcome
}

/// What a transaction leaves behind, the copy of its error included, is freed when this is dropped.
struct Memory {
    own: pg_sys::MemoryContext,
    before: pg_sys::MemoryContext,
}

impl Memory {
    fn begin() -> Self {
        // SAFETY: makes a context that `drop` deletes.
        unsafe {
            let own = pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"qflow background".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            Self { own, before: pg_sys::MemoryContextSwitchTo(own) }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nothing of it is used any more.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.before);
            pg_sys::MemoryContextDelete(self.own);
        }
    }
}

/// The databases of the cluster that one can connect to. Without a database of one's own only the shared catalogs can be
/// read, and not with SQL.
pub fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: reads pg_database from end to end under ACCESS SHARE, as the server's own launchers do; a tuple lives until
    // the next is asked for.
    unsafe {
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let row: pg_sys::Form_pg_database = pg_sys::GETSTRUCT(tuple).cast();
            if (*row).datallowconn && (*row).datconnlimit != BEING_DROPPED {
                found.push((*row).oid);
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    found
}
