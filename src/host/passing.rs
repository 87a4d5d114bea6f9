//! Errors of the server that pass through qflow reach the user as they were raised. On its way through Rust an error
//! keeps only what pgrx knows of: an SQLSTATE of the user's own becomes XX000, and names of constraints and tables, and
//! the lines of context, are gone. So a copy is taken while the error is raised, and thrown in its place.

use std::ffi::{c_void, CStr};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::PgTryBuilder;

// Not pgrx's binding, which would take the error into Rust again.
extern "C-unwind" {
    fn ThrowErrorData(error: *mut pg_sys::ErrorData);
}

/// How the body of an entry point ended.
pub enum End {
    /// With an answer.
    Answer(pg_sys::Datum),
    /// With an error of the server's, to be thrown.
    Error(*mut pg_sys::ErrorData),
}

impl End {
    /// The answer, or the error on its way to the user.
    ///
    /// # Safety
    /// No caller up to the server's may own anything that is to be dropped: the server jumps over them.
    pub unsafe fn unwrap_or_throw(self) -> pg_sys::Datum {
        match self {
            Self::Answer(answer) => answer,
            // SAFETY: the copy is of this call's memory; the server copies what it needs of it, and does not return.
            Self::Error(error) => unsafe {
                ThrowErrorData(error);
                pg_sys::Datum::from(0usize)
            },
        }
    }
}

/// Runs the body of an entry point. Rust's own errors go on as they do.
pub fn through(body: impl FnOnce() -> End) -> End {
    watch(body).unwrap_or_else(|raised| match raised.original {
        Some(copy) => End::Error(copy),
        None => raised.error.rethrow(),
    })
}

/// An error that was raised and caught.
pub struct Raised {
    /// As Rust knows it.
    pub error: Box<CaughtError>,
    /// As the server raised it, if it did: a copy in the memory that was current before.
    pub original: Option<*mut pg_sys::ErrorData>,
}

/// Runs `body`, and catches whatever is raised in it.
pub fn watch<R>(body: impl FnOnce() -> R) -> Result<R, Raised> {
    // SAFETY: reads the own backend's state.
    let mut witness = Witness { memory: unsafe { pg_sys::CurrentMemoryContext }, last: std::ptr::null_mut() };
    let told: *mut Witness = &mut witness;
    let mut line = pg_sys::ErrorContextCallback {
        // SAFETY: as above.
        previous: unsafe { pg_sys::error_context_stack },
        callback: Some(note),
        arg: told.cast(),
    };
    // SAFETY: taken off again below, before `line` is gone, whatever happens in between: every error is caught here.
    unsafe { pg_sys::error_context_stack = &mut line };
    let outcome =
        PgTryBuilder::new(AssertUnwindSafe(|| Ok(body()))).catch_others(|error| Err(Box::new(error))).execute();
    // SAFETY: as above.
    unsafe { pg_sys::error_context_stack = line.previous };
    // SAFETY: `told` points to `witness`, which nobody else uses any more.
    outcome.map_err(|error| Raised { original: unsafe { (*told).testimony(&error) }, error })
}

/// What was seen of errors while a body ran: the last one. Others before it were caught on the way.
struct Witness {
    memory: pg_sys::MemoryContext,
    last: *mut pg_sys::ErrorData,
}

impl Witness {
    /// The copy of an error that the server raised, if it is the one seen last.
    fn testimony(&self, error: &CaughtError) -> Option<*mut pg_sys::ErrorData> {
        let CaughtError::PostgresError(report) = error else {
            return None;
        };
        if self.last.is_null() {
            return None;
        }
        // SAFETY: the copy lives in memory of this call; its message is NULL or ends in NUL.
        let is_it = unsafe {
            let message = (*self.last).message;
            !message.is_null() && CStr::from_ptr(message).to_string_lossy() == report.message()
        };
        is_it.then_some(self.last)
    }
}

/// Called by the server while it raises anything, a notice included, in its own memory for errors.
unsafe extern "C-unwind" fn note(witness: *mut c_void) {
    // SAFETY: the argument is the witness of `through`, which runs below on the stack; the copy is made in memory that
    // outlives the raising.
    unsafe {
        let witness = witness.cast::<Witness>();
        let before = pg_sys::MemoryContextSwitchTo((*witness).memory);
        let copy = pg_sys::CopyErrorData();
        if (*copy).elevel >= pgrx::PgLogLevel::ERROR as i32 {
            (*witness).last = copy;
        } else {
            pg_sys::FreeErrorData(copy);
        }
        pg_sys::MemoryContextSwitchTo(before);
    }
}
