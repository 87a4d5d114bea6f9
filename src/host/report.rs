//! Errors and notices of qflow's own on their way to the user. The server takes them as bytes in its encoding, which
//! pgrx, whose texts are UTF-8, does not give it.

use pgrx::pg_sys;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use super::encoding;

/// Where they come from, in the log at `log_error_verbosity = verbose`.
const FUNCTION: &std::ffi::CStr = c"qflow";

/// What the user is told.
pub struct Report<'a> {
    /// How bad it is.
    pub level: PgLogLevel,
    /// Its SQLSTATE.
    pub sqlstate: PgSqlErrorCode,
    /// The message.
    pub message: &'a str,
    /// A full sentence on what was found.
    pub detail: Option<&'a str>,
    /// A full sentence on what can be done.
    pub hint: Option<&'a str>,
}

impl Report<'_> {
    /// As the server throws it, in the current memory.
    pub fn data(&self) -> *mut pg_sys::ErrorData {
        self.filled(encoding::to_server)
    }

    /// Sends it; what is an error does not return. What the client's encoding lacks is replaced too: a name must not keep the work from going
    /// on.
    pub fn send(&self) {
        let data = self.filled(|text| encoding::for_client(encoding::to_server(text)));
        // SAFETY: the server copies what it needs; below the level of errors it returns.
        unsafe {
            pg_sys::ThrowErrorData(data);
            pg_sys::FreeErrorData(data);
        }
    }

    fn filled(&self, bytes: impl Fn(&str) -> Vec<u8>) -> *mut pg_sys::ErrorData {
        let copy = |text: &str| {
            let bytes = bytes(text);
            // SAFETY: pointer and length describe the bytes; the copy ends in NUL.
            unsafe { pg_sys::pnstrdup(bytes.as_ptr().cast(), bytes.len()) }
        };
        // SAFETY: zeroed, as the server's own are; the texts are copies of their own, as `FreeErrorData` asks.
        unsafe {
            let data = pg_sys::palloc0(std::mem::size_of::<pg_sys::ErrorData>()).cast::<pg_sys::ErrorData>();
            (*data).elevel = self.level as i32;
            (*data).sqlerrcode = self.sqlstate as i32;
            (*data).message = copy(self.message);
            (*data).detail = self.detail.map_or(std::ptr::null_mut(), copy);
            (*data).hint = self.hint.map_or(std::ptr::null_mut(), copy);
            (*data).funcname = FUNCTION.as_ptr();
            data
        }
    }
}
