//! Every difference between PostgreSQL versions.

use pgrx::pg_sys;

/// Whether a role has a right (an ACL bit) on a schema.
pub fn may_in_schema(schema: pg_sys::Oid, role: pg_sys::Oid, right: u32) -> bool {
    // SAFETY: reads the catalog.
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    let result = unsafe { pg_sys::pg_namespace_aclcheck(schema, role, right as _) };
    // SAFETY: as above.
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    let result = unsafe { pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, role, right as _) };
    result == pg_sys::AclResult::ACLCHECK_OK
}

/// What holds in a worker besides, of settings that not all versions have.
#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
pub const WORKER_SETTINGS: &[(&std::ffi::CStr, &std::ffi::CStr)] = &[];
/// As above.
#[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
pub const WORKER_SETTINGS: &[(&std::ffi::CStr, &std::ffi::CStr)] = &[(c"transaction_timeout", c"0")];

/// A handler of signals.
pub type SignalHandler = unsafe extern "C-unwind" fn(std::ffi::c_int);

/// Sets what a process does at a signal.
pub fn set_signal_handler(signal: std::ffi::c_int, handler: SignalHandler) {
    // SAFETY: the handlers are functions of this library, which stays loaded.
    #[cfg(not(feature = "pg18"))]
    unsafe {
        pg_sys::pqsignal(signal, Some(handler))
    };
    // SAFETY: as above.
    #[cfg(feature = "pg18")]
    unsafe {
        pg_sys::pqsignal_be(signal, Some(handler))
    };
}

/// The number of a process's current transaction, counted by the process itself.
///
/// # Safety
/// `process` must be an entry of the server's.
pub unsafe fn local_transaction_id(process: *const pg_sys::PGPROC) -> u32 {
    // SAFETY: as demanded.
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    return unsafe { (*process).lxid };
    // SAFETY: as demanded.
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    return unsafe { (*process).vxid.lxid };
}

/// Whether this session holds a lock, of the transaction or its own.
///
/// # Safety
/// `tag` must be that of a lock.
pub unsafe fn is_lock_held_by_me(tag: *const pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    // SAFETY: as demanded.
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    return unsafe { pg_sys::LockHeldByMe(tag, mode) };
    // SAFETY: as demanded.
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    return unsafe { pg_sys::LockHeldByMe(tag, mode, false) };
}
