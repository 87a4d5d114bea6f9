//! What a process does when it ends, however it ends short of being killed.

use std::cell::RefCell;

use pgrx::pg_sys;

thread_local! {
    static TASKS: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
}

/// Has `task` run when this process ends: its transaction is over then and its locks are gone, but shared memory is
/// still there. It must not raise, nor touch a table. A task given twice runs once.
pub fn at_exit(task: fn()) {
    let (is_first, is_new) = TASKS.with_borrow_mut(|tasks| {
        let is_first = tasks.is_empty();
        let is_new = !tasks.iter().any(|known| std::ptr::fn_addr_eq(*known, task));
        if is_new {
            tasks.push(task);
        }
        (is_first, is_new)
    });
    if is_first && is_new {
        // SAFETY: the callback stays valid for the life of the process.
        unsafe { pg_sys::on_shmem_exit(Some(run), pg_sys::Datum::from(0usize)) };
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn run(_code: i32, _argument: pg_sys::Datum) {
    TASKS.take().into_iter().for_each(|task| task());
}
