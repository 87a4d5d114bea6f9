//! Looking at relations without SQL.

use pgrx::pg_sys;

use super::value;
use crate::compat;
use crate::error::Result;

/// Takes ROW EXCLUSIVE on a table for the rest of the transaction and brings the caches up to date; false when the table
/// is gone.
pub fn lock_for_jobs(table: pg_sys::Oid) -> bool {
    lock(table, pg_sys::RowExclusiveLock)
}

/// The same with ACCESS SHARE, which blocks nothing but what nobody can look through.
pub fn lock_to_look(table: pg_sys::Oid) -> bool {
    lock(table, pg_sys::AccessShareLock)
}

/// The same with ACCESS EXCLUSIVE: nobody else can read, write or change it until the transaction ends.
pub fn lock_to_change(table: pg_sys::Oid) -> bool {
    lock(table, pg_sys::AccessExclusiveLock)
}

fn lock(table: pg_sys::Oid, mode: u32) -> bool {
    // SAFETY: opens and closes the relation, keeping the lock.
    unsafe {
        let relation = pg_sys::try_relation_open(table, mode as i32);
        if relation.is_null() {
            return false;
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
    }
    true
}

/// Locks an extension for the rest of the transaction, so that a DROP EXTENSION waits before it has locked anything; false
/// when it is not there.
pub fn lock_extension(name: &std::ffi::CStr) -> bool {
    // It may have gone while its lock was waited for.
    extension(name).is_some_and(|found| {
        lock_extension_again(found);
        extension(name) == Some(found)
    })
}

/// The extension with a name.
pub fn extension(name: &std::ffi::CStr) -> Option<pg_sys::Oid> {
    // SAFETY: the name ends in NUL; `true` asks for an answer instead of an error.
    let found = unsafe { pg_sys::get_extension_oid(name.as_ptr(), true) };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// The same lock by the extension's oid, without a look whether it is still there.
pub fn lock_extension_again(extension: pg_sys::Oid) {
    // SAFETY: locks a number; the server frees it with the transaction.
    unsafe {
        pg_sys::LockDatabaseObject(pg_sys::ExtensionRelationId, extension, 0, pg_sys::AccessShareLock as i32);
    }
}

/// Whether the own transaction holds ACCESS EXCLUSIVE on the table: it may have emptied or rewritten it, which no
/// snapshot shows.
pub fn is_rewritable_by_us(table: pg_sys::Oid) -> bool {
    // SAFETY: the caller holds a lock on the table, so it opens without waiting.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as i32);
        if relation.is_null() {
            return true;
        }
        let held = pg_sys::CheckRelationLockedByMe(relation, pg_sys::AccessExclusiveLock as i32, false);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        held
    }
}

/// Whether it is an ordinary table. Up to PostgreSQL 15 an empty one can be turned into a view.
pub fn is_table(table: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalog; a relation that is gone has kind 0.
    let kind = unsafe { pg_sys::get_rel_relkind(table) };
    kind as u8 == pg_sys::RELKIND_RELATION
}

/// Whether row security filters what the current user sees of the table.
pub fn hides_rows(table: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalog; `true` asks for an answer instead of an error.
    let state = unsafe { pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true) };
    state == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}

/// Whether the current user holds all of `rights` (ACL bits) on the whole table.
pub fn may(table: pg_sys::Oid, rights: u32) -> bool {
    let user = super::identity::current_user();
    // SAFETY: reads the catalog.
    let result = unsafe { pg_sys::pg_class_aclmask(table, user, rights as _, pg_sys::AclMaskHow::ACLMASK_ALL) };
    result as u32 == rights
}

/// The rights on a queue's table that consuming needs, with their names.
pub const CONSUMING: [(u32, &str); 2] = [(pg_sys::ACL_SELECT, "SELECT"), (pg_sys::ACL_UPDATE, "UPDATE")];

/// The name of a table's schema as SQL writes it, for people to read; empty when the table is gone.
pub fn display_schema(table: pg_sys::Oid) -> String {
    // SAFETY: the look-ups answer NULL or a NUL-terminated copy.
    unsafe {
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table));
        if schema.is_null() {
            return String::new();
        }
        value::from_server(std::ffi::CStr::from_ptr(pg_sys::quote_identifier(schema)))
    }
}

/// Whether the current user has USAGE on a table's schema.
pub fn may_enter_schema(table: pg_sys::Oid) -> bool {
    // SAFETY: the look-up answers InvalidOid when the table is gone.
    let schema = unsafe { pg_sys::get_rel_namespace(table) };
    schema != pg_sys::InvalidOid && compat::may_in_schema(schema, super::identity::current_user(), pg_sys::ACL_USAGE)
}

/// Whether the current user may read at least one column of the table.
pub fn may_read_some_column(table: pg_sys::Oid) -> bool {
    let user = super::identity::current_user();
    // SAFETY: reads the catalog.
    let result = unsafe {
        pg_sys::pg_attribute_aclcheck_all(table, user, pg_sys::ACL_SELECT as _, pg_sys::AclMaskHow::ACLMASK_ANY)
    };
    may(table, pg_sys::ACL_SELECT) || result == pg_sys::AclResult::ACLCHECK_OK
}

/// Whether the current user may read a column of the table; not where there is no such column.
pub fn may_read_column(table: pg_sys::Oid, column: &str) -> bool {
    let Some(name) = value::server_text(column) else {
        return false;
    };
    let user = super::identity::current_user();
    // SAFETY: reads the catalog; the name ends in NUL.
    unsafe {
        let number = pg_sys::get_attnum(table, name.as_ptr());
        number > 0
            && (may(table, pg_sys::ACL_SELECT)
                || pg_sys::pg_attribute_aclcheck(table, number, user, pg_sys::ACL_SELECT as _)
                    == pg_sys::AclResult::ACLCHECK_OK)
    }
}

/// The schema with this name, if the current user may see that it exists.
pub fn schema(name: &str) -> Option<pg_sys::Oid> {
    let name = value::server_text(name)?;
    // SAFETY: the name ends in NUL; `true` asks for an answer instead of an error.
    let oid = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// The relation with this name in a schema, else along the search_path.
pub fn find(schema_oid: Option<pg_sys::Oid>, name: &str) -> Option<pg_sys::Oid> {
    let name = value::server_text(name)?;
    // SAFETY: the name ends in NUL; both answer InvalidOid when there is none.
    let oid = unsafe {
        match schema_oid {
            Some(schema) => pg_sys::get_relname_relid(name.as_ptr(), schema),
            None => pg_sys::RelnameGetRelid(name.as_ptr()),
        }
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Tells every backend to look at the table anew, once this transaction commits.
pub fn invalidate(table: pg_sys::Oid) {
    // SAFETY: queues a message; raises when the table is gone.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) }
}

/// `schema.table` as SQL writes it, quoted where needed; nothing when the table is gone. 22023 when it is not UTF-8,
/// which only a database without an encoding (SQL_ASCII) allows.
pub fn qualified_name(table: pg_sys::Oid) -> Result<Option<String>> {
    name_datum(table).map(value::to_string).transpose()
}

/// The same for people to read, whatever its bytes; empty when the table is gone.
pub fn display_name(table: pg_sys::Oid) -> String {
    name_datum(table).map(value::to_string_lossy).unwrap_or_default()
}

fn name_datum(table: pg_sys::Oid) -> Option<pg_sys::Datum> {
    // SAFETY: both catalogs' look-ups answer NULL or a NUL-terminated copy.
    unsafe {
        let relation = pg_sys::get_rel_name(table);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table));
        if relation.is_null() || schema.is_null() {
            return None;
        }
        let name = pg_sys::cstring_to_text(pg_sys::quote_qualified_identifier(schema, relation));
        Some(pg_sys::Datum::from(name))
    }
}

/// The owner of a relation; `None` when it is gone.
pub fn owner(table: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: the tuple is checked before its fixed part is read, and released.
    unsafe {
        let key = pg_sys::Datum::from(table);
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, key);
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let owner = (*form).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}

/// Whether a table's owner has USAGE on its schema: without it no statement of his can name the table.
pub fn owner_may_enter(table: pg_sys::Oid) -> bool {
    owner_may(table, pg_sys::ACL_USAGE)
}

/// Whether a table's owner may make indexes, which belong to its schema.
pub fn owner_may_create(table: pg_sys::Oid) -> bool {
    owner_may(table, pg_sys::ACL_CREATE)
}

fn owner_may(table: pg_sys::Oid, right: u32) -> bool {
    // SAFETY: as above.
    let schema = unsafe { pg_sys::get_rel_namespace(table) };
    match owner(table) {
        Some(owner) if schema != pg_sys::InvalidOid => compat::may_in_schema(schema, owner, right),
        _ => false,
    }
}

/// Whether the current user owns a relation, by himself or through a role.
pub fn is_owned(table: pg_sys::Oid) -> bool {
    let user = super::identity::current_user();
    // SAFETY: reads the catalog.
    owner(table).is_some_and(|owner| unsafe { pg_sys::has_privs_of_role(user, owner) })
}

/// A column's type.
pub struct ColumnType {
    /// Its oid.
    pub base: pg_sys::Oid,
    modifier: i32,
}

impl ColumnType {
    /// Most characters that a `varchar` takes, if there is a limit.
    pub fn max_length(&self) -> Option<i32> {
        // The server counts the length word of four bytes in.
        (self.base == pg_sys::VARCHAROID && self.modifier > 4).then(|| self.modifier - 4)
    }
}

/// The type of a table's column; nothing when there is no such column.
pub fn column_type(table: pg_sys::Oid, column: &str) -> Option<ColumnType> {
    let column = value::server_text(column)?;
    let (mut base, mut modifier, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: the name ends in NUL; the look-ups answer 0 and InvalidOid when there is none.
    unsafe {
        match pg_sys::get_attnum(table, column.as_ptr()) {
            0 => {}
            number => pg_sys::get_atttypetypmodcoll(table, number, &mut base, &mut modifier, &mut collation),
        }
    }
    (base != pg_sys::InvalidOid).then_some(ColumnType { base, modifier })
}
