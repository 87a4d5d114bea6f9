//! What stands in the columns of a new row that nobody gave a value.

use pgrx::pg_sys;

use super::Heap;
use crate::host::value::Arg;

/// The defaults of some columns of a table, evaluated as the current user, as an INSERT would.
pub struct Defaults {
    state: *mut pg_sys::EState,
    context: *mut pg_sys::ExprContext,
    /// Values for all rows alike, for each column of the table.
    constant: Vec<Arg>,
    /// Expressions that may differ from row to row, with their columns.
    volatile: Vec<(usize, *mut pg_sys::ExprState)>,
}

impl Defaults {
    /// Of all columns but `given`. Raises what an expression raises.
    pub fn of(heap: &Heap, given: &[usize]) -> Self {
        // SAFETY: the table is open and locked; expressions and what they give live in memory of the executor's that is
        // freed by `drop`.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let context = pg_sys::MakePerTupleExprContext(state);
            let mut defaults = Self { state, context, constant: vec![None; heap.columns()], volatile: Vec::new() };
            for column in (1..=heap.columns()).filter(|column| !given.contains(column)) {
                if pg_sys::get_atttype(heap.oid(), column as i16) == pg_sys::InvalidOid {
                    continue; // dropped
                }
                let expression = pg_sys::build_column_default(heap.raw(), column as i32);
                if expression.is_null() {
                    continue;
                }
                let ready = pg_sys::ExecPrepareExpr(expression.cast(), state);
                match pg_sys::contain_volatile_functions(expression) {
                    true => defaults.volatile.push((column, ready)),
                    false => defaults.constant[column - 1] = defaults.value(ready),
                }
            }
            defaults
        }
    }

    /// Values for the next row; given columns are NULL.
    pub fn next(&self) -> Vec<Arg> {
        let mut row = self.constant.clone();
        for (column, expression) in &self.volatile {
            // SAFETY: made by `of`, and kept.
            row[column - 1] = unsafe { self.value(*expression) };
        }
        row
    }

    unsafe fn value(&self, expression: *mut pg_sys::ExprState) -> Arg {
        let mut is_null = true;
        // SAFETY: the caller passes an expression of this state's; what it gives stays until the state is freed.
        let value = unsafe { pg_sys::ExecEvalExprSwitchContext(expression, self.context, &mut is_null) };
        (!is_null).then_some(value)
    }
}

impl Drop for Defaults {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: frees what `of` made; an abort does it by itself.
            unsafe { pg_sys::FreeExecutorState(self.state) }
        }
    }
}
