//! An internal subtransaction: work whose failure must not take the caller's transaction with it.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};

use super::passing::{self, Raised};
use super::value;
use crate::error::Result;

/// The message and SQLSTATE of an error that was caught.
#[derive(Debug, Clone)]
pub struct Caught {
    /// Message of the error.
    pub message: String,
    /// Its SQLSTATE.
    pub sqlstate: String,
}

impl Caught {
    /// What came of a body that was watched, with what it raised.
    pub fn of<R>(outcome: std::result::Result<Result<R>, Raised>) -> std::result::Result<R, Self> {
        match outcome {
            Ok(done) => done.map_err(|error| caught_here(&error)),
            Err(raised) => Err(caught_of_server(&raised)),
        }
    }
}

/// Runs `work` in a subtransaction: committed when it returns `Ok`, else rolled back and the error handed out. A
/// cancelled or terminated statement is not caught.
pub fn attempt<R>(
    work: impl FnOnce() -> Result<R> + std::panic::UnwindSafe + std::panic::RefUnwindSafe,
) -> std::result::Result<R, Caught> {
    let outer = Outer::begin();
    let outcome = passing::watch(work);
    // Closed in any case, before a cancel goes on its way: else the session would stay in this level for ever.
    outer.finish(matches!(outcome, Ok(Ok(_))));
    match outcome {
        Err(raised) if is_cancel(report_of(&raised.error)) => raised.error.rethrow(),
        other => Caught::of(other),
    }
}

/// Runs `work`, which only looks, in a subtransaction that is rolled back whatever happens, so that the locks it took are
/// gone with it. `None` when a lock could not be had in the time given by `lock_timeout`; other errors pass.
pub fn look<R>(work: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
    let outer = Outer::begin();
    let outcome = passing::watch(work);
    outer.finish(false);
    match outcome {
        Ok(done) => done.map(Some),
        Err(raised) if is_lock_timeout(report_of(&raised.error)) => Ok(None),
        Err(raised) => raised.error.rethrow(),
    }
}

fn is_lock_timeout(report: &ErrorReportWithLevel) -> bool {
    report.sql_error_code() == pgrx::PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
}

fn caught_here(error: &crate::error::Error) -> Caught {
    Caught { message: error.message().to_owned(), sqlstate: error.code().to_owned() }
}

/// As the server raised it where that is known: what Rust knows of it has lost the bytes that are not UTF-8.
fn caught_of_server(raised: &Raised) -> Caught {
    let report = report_of(&raised.error);
    match raised.original {
        // SAFETY: the copy is of this call's memory; its message ends in NUL, which was seen when it was compared.
        Some(original) => unsafe {
            let message = value::from_server(std::ffi::CStr::from_ptr((*original).message));
            Caught { message, sqlstate: sqlstate_text((*original).sqlerrcode) }
        },
        None => {
            Caught { message: report.message().to_owned(), sqlstate: sqlstate_text(report.sql_error_code() as i32) }
        }
    }
}

fn report_of(error: &CaughtError) -> &ErrorReportWithLevel {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    }
}

/// Whether the server itself ends the statement. The SQLSTATE alone says nothing: anybody's trigger can raise it, and
/// must not stop the work on other people's tables with it. The function where the error arose cannot be forged.
fn is_cancel(report: &ErrorReportWithLevel) -> bool {
    use pgrx::PgSqlErrorCode as Code;
    const INTERRUPT: &str = "ProcessInterrupts";
    let code = report.sql_error_code();
    matches!(code, Code::ERRCODE_QUERY_CANCELED | Code::ERRCODE_ADMIN_SHUTDOWN | Code::ERRCODE_CRASH_SHUTDOWN)
        && report.function_name().is_none_or(|function| function == INTERRUPT)
}

fn sqlstate_text(code: i32) -> String {
    // SAFETY: answers a pointer to a static buffer of five characters and NUL, copied at once.
    unsafe { std::ffi::CStr::from_ptr(pg_sys::unpack_sql_state(code)) }.to_string_lossy().into_owned()
}

struct Outer {
    context: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Outer {
    fn begin() -> Self {
        // SAFETY: remembers where we are and opens a level that `finish` closes.
        unsafe {
            let outer = Self { context: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(outer.context);
            outer
        }
    }

    fn finish(self, commit: bool) {
        // SAFETY: closes the level opened by `begin` and goes back to where it found us.
        unsafe {
            if commit {
                pg_sys::ReleaseCurrentSubTransaction();
            } else {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
            pg_sys::MemoryContextSwitchTo(self.context);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}
