//! The transaction that a call runs in.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;

use pgrx::pg_sys;

use crate::compat;
use crate::error::Result;

/// The own top-level transaction id in 64 bits, if one was assigned.
pub fn own_xid() -> Option<u64> {
    // SAFETY: reads the state of the own transaction.
    let full = unsafe { pg_sys::GetTopFullTransactionIdIfAny() };
    (full.value != 0).then_some(full.value)
}

/// The own top-level transaction id in 64 bits; assigns one.
pub fn assign_xid() -> u64 {
    // SAFETY: assigns an id, or raises as any writing command would.
    unsafe { pg_sys::GetTopFullTransactionId() }.value
}

/// The next transaction id that the server will give out, in 64 bits.
pub fn next_xid() -> u64 {
    // SAFETY: reads shared memory under the server's own lock.
    unsafe { pg_sys::ReadNextFullTransactionId() }.value
}

/// True at READ COMMITTED, where each statement sees what was committed before it.
pub fn is_read_committed() -> bool {
    // SAFETY: a plain integer of the own backend.
    unsafe { pg_sys::XactIsoLevel < pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// True where transactions are READ COMMITTED unless they say otherwise.
pub fn is_read_committed_by_default() -> bool {
    // SAFETY: a plain integer of the own backend.
    unsafe { pg_sys::DefaultXactIsoLevel < pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Whether this backend keeps the dead rows that some snapshot of its own may show (`backend_xmin`).
pub fn holds_snapshot() -> bool {
    // SAFETY: the own entry among the server's processes, which only this backend writes.
    unsafe { (*pg_sys::MyProc).xmin != pg_sys::InvalidTransactionId }
}

/// Raises 25006 in a read-only transaction and on a standby, 25000 in a parallel worker, as the executor would.
pub fn require_writable(function: &'static std::ffi::CStr) {
    // SAFETY: the functions only read the transaction's state and raise.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(function.as_ptr());
        pg_sys::PreventCommandIfParallelMode(function.as_ptr());
    }
}

/// Identifies the cluster: set at initdb, new after dump and restore.
pub fn system_identifier() -> i64 {
    // SAFETY: reads the control file's copy in shared memory.
    unsafe { pg_sys::GetSystemIdentifier() as i64 }
}

/// The database of this session.
pub fn database() -> pg_sys::Oid {
    // SAFETY: a plain value of the own backend.
    unsafe { pg_sys::MyDatabaseId }
}

/// The process id of this backend.
pub fn backend_pid() -> i32 {
    // SAFETY: a plain value of the own backend.
    unsafe { pg_sys::MyProcPid }
}

/// When this backend started, microseconds since 2000-01-01 UTC; tells one use of a process id from the next.
pub fn backend_start() -> i64 {
    // SAFETY: a plain value of the own backend.
    unsafe { pg_sys::MyStartTimestamp }
}

/// Whether the server only replays what another one writes.
pub fn is_standby() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// How a transaction, or a part of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Committed, and visible to others.
    Committed,
    /// Prepared: it will be committed, or not, by another session.
    Prepared,
    /// Rolled back.
    Aborted,
    /// The subtransaction with this id was rolled back, and all that began in it.
    PartAborted(u32),
    /// The subtransaction with this id has become part of the one with the other.
    PartCommitted(u32, u32),
}

/// What is about to be done with a transaction that still can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It is to be committed.
    Commit,
    /// It is to be prepared.
    Prepare,
}

/// What has the last word on a transaction.
type LastWord = fn(Closing) -> Result<()>;

thread_local! {
    static HOOKS: RefCell<Vec<fn(Ending)>> = const { RefCell::new(Vec::new()) };
    static LAST_WORD: Cell<Option<LastWord>> = const { Cell::new(None) };
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Has a function told of the end of this and of all further transactions; those that came later are told first. It must
/// not raise, nor touch a table. A function given twice is told once.
pub fn watch_endings(hook: fn(Ending)) {
    HOOKS.with_borrow_mut(|hooks| {
        if !hooks.iter().any(|known| std::ptr::fn_addr_eq(*known, hook)) {
            hooks.insert(0, hook);
        }
    });
    watch();
}

/// Has a function asked before this and all further transactions are committed or prepared; its error rolls them back.
/// There is one for the whole library.
pub fn watch_closing(hook: LastWord) {
    LAST_WORD.set(Some(hook));
    watch();
}

fn watch() {
    if !IS_WATCHED.replace(true) {
        // SAFETY: the callbacks stay valid for the life of the process.
        unsafe {
            pg_sys::RegisterXactCallback(Some(on_end), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(on_part_end), std::ptr::null_mut());
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_end(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::*;
    let ending = match event {
        XACT_EVENT_COMMIT => Ending::Committed,
        XACT_EVENT_PREPARE => Ending::Prepared,
        XACT_EVENT_ABORT => Ending::Aborted,
        XACT_EVENT_PRE_COMMIT => return ask(Closing::Commit),
        XACT_EVENT_PRE_PREPARE => return ask(Closing::Prepare),
        _ => return,
    };
    tell(ending);
}

fn tell(ending: Ending) {
    // A copy: a hook may bring in another.
    HOOKS.with_borrow(Vec::clone).into_iter().for_each(|hook| hook(ending));
}

fn ask(closing: Closing) {
    if let Some(Err(error)) = LAST_WORD.get().map(|hook| hook(closing)) {
        error.report().send();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_part_end(
    event: pg_sys::SubXactEvent::Type,
    part: u32,
    parent: u32,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    let ending = match event {
        SUBXACT_EVENT_ABORT_SUB => Ending::PartAborted(part),
        SUBXACT_EVENT_COMMIT_SUB => Ending::PartCommitted(part, parent),
        _ => return,
    };
    tell(ending);
}

/// Tells one transaction of this session from the next.
pub fn local_id() -> u32 {
    // SAFETY: the own process's entry, of which this number is changed by this process only.
    unsafe { compat::local_transaction_id(pg_sys::MyProc) }
}

/// The id of the current subtransaction, or of the transaction itself: grows with each one that begins.
pub fn part() -> u32 {
    // SAFETY: reads the state of the own transaction.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}
