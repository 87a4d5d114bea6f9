//! Every difference between PostgreSQL versions.

use pgrx::pg_sys;

use crate::host::heap::entries::Wanted;

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

/// Begins a scan of an index with so many keys.
///
/// # Safety
/// Table and index must be open and belong together; the snapshot must outlive the scan.
pub unsafe fn index_beginscan(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: as demanded.
    #[cfg(not(feature = "pg18"))]
    return unsafe { pg_sys::index_beginscan(heap, index, snapshot, keys, 0) };
    // SAFETY: as demanded.
    #[cfg(feature = "pg18")]
    return unsafe { pg_sys::index_beginscan(heap, index, snapshot, std::ptr::null_mut(), keys, 0) };
}

/// Reads the version of a row at the place that stands in `tuple`, whoever sees it; pins its page where there is one.
///
/// # Safety
/// The table must be open.
pub unsafe fn heap_fetch_any(
    heap: pg_sys::Relation,
    tuple: &mut pg_sys::HeapTupleData,
    buffer: &mut pg_sys::Buffer,
) -> bool {
    // SAFETY: as demanded.
    #[cfg(feature = "pg14")]
    return unsafe { pg_sys::heap_fetch(heap, &raw mut pg_sys::SnapshotAnyData, tuple, buffer) };
    // SAFETY: as demanded.
    #[cfg(not(feature = "pg14"))]
    return unsafe { pg_sys::heap_fetch(heap, &raw mut pg_sys::SnapshotAnyData, tuple, buffer, false) };
}

/// Puts a new version of a row in the place of another; what became of it, and which indexes want to know.
///
/// # Safety
/// The table must be open and `new` a row of it, in memory of the caller's.
pub unsafe fn heap_update(
    heap: pg_sys::Relation,
    mut tid: pg_sys::ItemPointerData,
    new: pg_sys::HeapTuple,
    command: pg_sys::CommandId,
    wait: bool,
) -> (pg_sys::TM_Result::Type, Wanted) {
    let (mut failure, mut mode, none) = (pg_sys::TM_FailureData::default(), 0, std::ptr::null_mut());
    // SAFETY: as demanded; the server marks a version that is reached through the old one's index entries.
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    return unsafe {
        let result = pg_sys::heap_update(heap, &mut tid, new, command, none, wait, &mut failure, &mut mode);
        let is_heap_only = u32::from((*(*new).t_data).t_infomask2) & pg_sys::HEAP_ONLY_TUPLE != 0;
        (result, if is_heap_only { Wanted::None } else { Wanted::All })
    };
    // SAFETY: as demanded.
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    return unsafe {
        let mut wanted = pg_sys::TU_UpdateIndexes::TU_None;
        let result =
            pg_sys::heap_update(heap, &mut tid, new, command, none, wait, &mut failure, &mut mode, &mut wanted);
        let wanted = match wanted {
            pg_sys::TU_UpdateIndexes::TU_None => Wanted::None,
            pg_sys::TU_UpdateIndexes::TU_Summarizing => Wanted::Summaries,
            _ => Wanted::All,
        };
        (result, wanted)
    };
}

/// Makes the index entries of a row that was written.
///
/// # Safety
/// The indexes of `target` must be open, and `slot` hold the row with its place.
pub unsafe fn insert_index_entries(
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
    is_update: bool,
    summaries_only: bool,
) {
    let (nobody, none) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: as demanded. Up to 15 no index only summarises.
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    unsafe {
        let _ = summaries_only;
        pg_sys::ExecInsertIndexTuples(target, slot, state, is_update, false, nobody, none);
    }
    // SAFETY: as demanded.
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    unsafe {
        pg_sys::ExecInsertIndexTuples(target, slot, state, is_update, false, nobody, none, summaries_only);
    }
}
