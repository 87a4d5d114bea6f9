//! Leases that end with the session that fetched.

use std::cell::Cell;

use crate::error::{Error, Result};
use crate::host::{exit, xact};
use crate::shmem;
use crate::shmem::database::{session_ended, Session};

thread_local! {
    static IS_BOUND: Cell<bool> = const { Cell::new(false) };
}

/// 55000 where no worker would hear that a session ended.
pub fn require_preload() -> Result<()> {
    match shmem::is_there() {
        true => Ok(()),
        false => Err(Error::not_ready("leases cannot be bound to the session: qflow is not preloaded")
            .hint("Add qflow to shared_preload_libraries and restart the server, or leave bind and hold out.")),
    }
}

/// Has the worker told when this session ends. By then its transaction is over and has let go of its rows.
pub fn end_leases_at_exit() {
    if !IS_BOUND.replace(true) {
        exit::at_exit(|| session_ended(Session { pid: xact::backend_pid(), start: xact::backend_start() }));
    }
}
