//! An internal subtransaction: work whose failure must not take the caller's transaction with it.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::PgTryBuilder;

use crate::error::Result;

/// The message and SQLSTATE of an error that was caught.
#[derive(Debug, Clone)]
pub struct Caught {
    /// Message of the error.
    pub message: String,
    /// Its SQLSTATE.
    pub sqlstate: String,
}

/// Runs `work` in a subtransaction: committed when it returns `Ok`, else rolled back and the error handed out. A
/// cancelled or terminated statement is not caught.
pub fn attempt<R>(
    work: impl FnOnce() -> Result<R> + std::panic::UnwindSafe + std::panic::RefUnwindSafe,
) -> std::result::Result<R, Caught> {
    let outer = Outer::begin();
    let outcome = PgTryBuilder::new(|| work().map_err(|error| End::Caught(caught_here(error))))
        .catch_others(|error| Err(end_of(error)))
        .execute();
    // Closed in any case, before a cancel goes on its way: else the session would stay in this level for ever.
    outer.finish(outcome.is_ok());
    outcome.map_err(|end| match end {
        End::Caught(caught) => caught,
        End::Rethrow(error) => error.rethrow(),
    })
}

/// How work failed.
enum End {
    Caught(Caught),
    Rethrow(Box<CaughtError>),
}

fn caught_here(error: crate::error::Error) -> Caught {
    Caught { message: error.message().to_owned(), sqlstate: error.code().to_owned() }
}

fn end_of(error: CaughtError) -> End {
    let report = match &error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    };
    if is_cancel(report) {
        return End::Rethrow(Box::new(error));
    }
    End::Caught(Caught { message: report.message().to_owned(), sqlstate: sqlstate_text(report.sql_error_code()) })
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

fn sqlstate_text(code: pgrx::PgSqlErrorCode) -> String {
    // SAFETY: answers a pointer to a static buffer of five characters and NUL, copied at once.
    unsafe { std::ffi::CStr::from_ptr(pg_sys::unpack_sql_state(code as i32)) }.to_string_lossy().into_owned()
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
