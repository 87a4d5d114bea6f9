//! The processes in the background. A launcher, in no database, knows which databases use qflow and starts a worker for
//! each that has something to do; the worker does it, waits for more, and leaves after a while of nothing, so that it is
//! not in the way of who wants to drop or copy the database. See `docs/architecture.md`.

mod counting;
mod database;
mod ended;
mod launcher;
mod notices;
mod pass;
mod retention;
mod trouble;

use crate::host::background;

/// What both kinds of process are called in `pg_stat_activity`.
const LAUNCHER: &str = "qflow launcher";
const WORKER: &str = "qflow worker";

/// Has the server start the launcher once it accepts writes; called while the postmaster loads the library.
pub fn register() {
    background::register_permanent(LAUNCHER, "qflow_launcher_main");
}
