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
