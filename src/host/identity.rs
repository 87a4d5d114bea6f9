//! Acting as somebody else, the way `REINDEX` and `ANALYZE` do: as the owner of what is touched, in a security-restricted
//! operation, with a search_path in which nobody can plant anything. Undone on every way out.

use pgrx::pg_sys;

use crate::error::Result;

/// A search_path in which nobody can plant anything.
pub const PINNED_PATH: (&std::ffi::CStr, &std::ffi::CStr) = (c"search_path", c"pg_catalog, pg_temp");
const ROW_SECURITY: (&std::ffi::CStr, &std::ffi::CStr) = (c"row_security", c"off");

/// The role whose rights count now.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads the own backend's state.
    unsafe { pg_sys::GetUserId() }
}

/// Its name, for people to read.
pub fn current_user_name() -> String {
    // SAFETY: the current user exists, at least as long as nobody drops him; `true` asks for NULL then.
    let name = unsafe { pg_sys::GetUserNameFromId(current_user(), true) };
    if name.is_null() {
        return String::new();
    }
    // SAFETY: checked above; it ends in NUL.
    super::value::from_server(unsafe { std::ffi::CStr::from_ptr(name) })
}

/// Runs `work` as `user`, restricted, with a pinned search_path and row security that raises instead of hiding rows.
pub fn restricted_as<R>(user: pg_sys::Oid, work: impl FnOnce() -> Result<R>) -> Result<R> {
    let _identity = Identity::assume(user);
    let _settings = Settings::change(&[PINNED_PATH, ROW_SECURITY]);
    work()
}

/// Runs `work`, in which no SQL may be run, with the rights of `user`.
pub fn with_rights_of<R>(user: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    let _identity = Identity::assume(user);
    work()
}

struct Identity {
    user: pg_sys::Oid,
    context: i32,
}

impl Identity {
    fn assume(user: pg_sys::Oid) -> Self {
        let mut before = Self { user: pg_sys::InvalidOid, context: 0 };
        // SAFETY: reads and writes the own backend's state; `drop` puts back what stands here.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
            // As foreign key checks do: FORCE ROW LEVEL SECURITY does not stand between an owner's table and its upkeep.
            let flags = pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_NOFORCE_RLS;
            pg_sys::SetUserIdAndSecContext(user, before.context | flags as i32);
        }
        before
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // SAFETY: puts back what `assume` found; also runs while an error unwinds.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}

/// Settings changed for a while; the former values are back when this is dropped.
pub struct Settings {
    level: i32,
}

impl Settings {
    /// Sets each (name, value) as `SET LOCAL` in a function would.
    pub fn change(settings: &[(&std::ffi::CStr, &std::ffi::CStr)]) -> Self {
        // SAFETY: opens a nesting level that `drop` closes.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        let opened = Self { level };
        for (name, value) in settings {
            // SAFETY: both strings end in NUL and are copied.
            unsafe {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
        }
        opened
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // SAFETY: closes the level opened by `change`. After an abort that closed it already this does nothing.
        unsafe { pg_sys::AtEOXact_GUC(false, self.level) }
    }
}
