//! Returning rows: everything is put into a tuplestore before the call ends, so that a `LIMIT` outside never leaves work
//! half done.

use pgrx::pg_sys;

use super::call::Call;
use super::value::Arg;
use crate::error::{Error, Result};

/// The result of a function that returns a table.
pub struct Sink {
    store: *mut pg_sys::Tuplestorestate,
    description: pg_sys::TupleDesc,
}

impl Sink {
    /// Prepares the caller's result. 58000 where the caller cannot take rows.
    pub fn open(call: &Call) -> Result<Self> {
        // SAFETY: `resultinfo` is checked to be a ReturnSetInfo before it is used as one; store and description live in
        // the query's context, as the protocol of materialised results asks.
        unsafe {
            let info = (*call.raw()).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if info.is_null() || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo {
                return Err(Error::internal("set-valued function called where no set can be taken"));
            }
            let context = (*(*info).econtext).ecxt_per_query_memory;
            let before = pg_sys::MemoryContextSwitchTo(context);
            let mut description: pg_sys::TupleDesc = std::ptr::null_mut();
            if (*info).expectedDesc.is_null() {
                let class = pg_sys::get_call_result_type(call.raw(), std::ptr::null_mut(), &mut description);
                if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE {
                    return Err(Error::internal("function declared with another result than a table"));
                }
            } else {
                description = pg_sys::CreateTupleDescCopy((*info).expectedDesc);
            }
            let random = (*info).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32 != 0;
            let store = pg_sys::tuplestore_begin_heap(random, false, pg_sys::work_mem);
            (*info).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*info).setResult = store;
            (*info).setDesc = description;
            pg_sys::MemoryContextSwitchTo(before);
            Ok(Self { store, description })
        }
    }

    /// Adds a row; the values are copied.
    pub fn put<const N: usize>(&self, row: &[Arg; N]) {
        let mut values = row.map(|value| value.unwrap_or(pg_sys::Datum::from(0usize)));
        let mut nulls = row.map(|value| value.is_none());
        // SAFETY: one entry for each column of the description; the row is copied.
        unsafe {
            pg_sys::tuplestore_putvalues(self.store, self.description, values.as_mut_ptr(), nulls.as_mut_ptr());
        }
    }
}
