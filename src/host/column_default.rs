//! The value that a column gets when an INSERT leaves it out, computed from the expression that the catalog holds. Writing
//! that expression as SQL and parsing it again would give its names the meaning that they have in the caller's search_path.

use pgrx::{pg_sys, FromDatum};

/// Computes the default of a column of an integer type, `count` times, as the current user and under his search_path, as
/// an INSERT would; nothing where the column has no default. A default that is NULL is left out. Raises what the
/// expression raises. The caller holds a lock on the table.
pub fn draw(table: pg_sys::Oid, column: &std::ffi::CStr, count: usize) -> Option<Vec<i64>> {
    // SAFETY: the relation stays open while its expression is built; what is allocated lives in the executor's own memory,
    // which is freed below, or by the abort when the expression raises.
    unsafe {
        let number = pg_sys::get_attnum(table, column.as_ptr());
        let relation = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        let expression = pg_sys::build_column_default(relation, i32::from(number));
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        if expression.is_null() {
            return None;
        }
        let executor = pg_sys::CreateExecutorState();
        let state = pg_sys::ExecPrepareExpr(expression.cast(), executor);
        let context = pg_sys::MakePerTupleExprContext(executor);
        let kind = pg_sys::get_atttype(table, number);
        let values = (0..count).filter_map(|_| {
            let mut is_null = true;
            let value = pg_sys::ExecEvalExprSwitchContext(state, context, &mut is_null);
            let value = integer(value, kind, is_null);
            pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            value
        });
        let values = values.collect();
        pg_sys::FreeExecutorState(executor);
        Some(values)
    }
}

/// The value of a datum of type `bigint`, `integer` or `smallint`.
unsafe fn integer(value: pg_sys::Datum, kind: pg_sys::Oid, is_null: bool) -> Option<i64> {
    // SAFETY: the datum is of the type `kind`, by which it is read.
    unsafe {
        match kind {
            pg_sys::INT8OID => i64::from_datum(value, is_null),
            pg_sys::INT4OID => i32::from_datum(value, is_null).map(i64::from),
            pg_sys::INT2OID => i16::from_datum(value, is_null).map(i64::from),
            _ => None,
        }
    }
}
