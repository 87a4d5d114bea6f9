//! Everything in shared memory. It exists where the library is preloaded; everything else works without it, and goes on
//! without it for what finds no place. Nothing in it has to survive: floors are hints, counters start again at zero, who
//! waits waits again.
//!
//! - `server`: one slot, the launcher's.
//! - `database`: one for each database that uses qflow: when its worker has something to do, and how it is.
//! - `queue`: one for each queue: counters, claim floor, waiters, trouble.
//! - `line`: one for each resource of a database: who waits for it.
//! - `at_commit`: what a transaction did that others are to know once it has committed.

pub mod acks;
pub mod at_commit;
pub mod consumers;
pub mod database;
pub mod floor;
pub mod gauges;
pub mod known;
pub mod line;
pub mod queue;
pub mod server;
mod words;

use pgrx::{pg_guard, pg_shmem_init, pg_sys};

use self::database::DATABASES;
use self::line::LINES;
use self::queue::QUEUES;
use self::server::SERVER;
use crate::host::shared;

// The macro tells versions apart that this crate does not build for.
#[allow(unexpected_cfgs)]
/// Asks the server for the memory; called while the postmaster loads the library.
pub fn request() {
    pg_shmem_init!(SERVER = shared::nothing());
    pg_shmem_init!(DATABASES = shared::nothing());
    pg_shmem_init!(QUEUES = shared::nothing());
    pg_shmem_init!(LINES = shared::nothing());
}

/// Whether there is shared memory: the library was preloaded.
pub fn is_there() -> bool {
    SERVER.len() > 0
}

/// No time at all: later than every other.
pub const NEVER: i64 = i64::MAX;
