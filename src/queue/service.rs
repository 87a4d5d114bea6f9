//! Whether the worker looks after this database.

use std::sync::atomic::Ordering::Relaxed;

use super::check::Check;
use crate::guc;
use crate::host::value;
use crate::host::xact;
use crate::shmem::database::{self, LATE};
use crate::shmem::server::server;
use crate::shmem::{self, database::Database};

/// A worker that sleeps gives a sign of life once a minute; one at work, before each queue. Microseconds.
const SILENCE: i64 = 90_000_000;

/// Where the worker of this database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Nowhere: the library is not preloaded.
    NotPreloaded,
    /// Nowhere: this server only replays what another one writes.
    Standby,
    /// Nowhere: a setting says so.
    SwitchedOff,
    /// Nowhere: who starts workers does not run.
    NoLauncher,
    /// Not running: nobody has used qflow here since the server started, or there was nothing to do for a while.
    NotNeeded,
    /// Running, with this process id.
    Running(i32),
    /// Not running although there has been something to do for so many milliseconds.
    Late(i64),
    /// Running, with this process id, without a sign of life for so many milliseconds.
    Silent(i32, i64),
}

/// Finds out.
pub fn service() -> Service {
    if !shmem::is_there() {
        return Service::NotPreloaded;
    }
    if xact::is_standby() {
        return Service::Standby;
    }
    if !guc::worker() {
        return Service::SwitchedOff;
    }
    if server().is_none_or(|server| server.launcher_pid() == 0) {
        return Service::NoLauncher;
    }
    database::own(false).map_or(Service::NotNeeded, of)
}

fn of(database: &Database) -> Service {
    let now = value::now();
    let late = now.saturating_sub(database.wake_at());
    let silent = now.saturating_sub(database.heartbeat.load(Relaxed));
    match database.worker_pid() {
        0 if late > LATE => Service::Late(late / 1_000),
        0 => Service::NotNeeded,
        pid if silent > SILENCE + guc::worker_statement_timeout_ms() * 1_000 => Service::Silent(pid, silent / 1_000),
        pid => Service::Running(pid),
    }
}

impl Service {
    /// What a consumer has to know of it. That there is none, or that it is not needed now, is nothing to mend: fetches
    /// take back what has expired.
    pub fn readiness(self) -> Check {
        const NAME: &str = "worker";
        match self {
            Self::Standby => Check::well(NAME, "none on a standby"),
            Self::NotPreloaded | Self::SwitchedOff | Self::NoLauncher => {
                Check::well(NAME, "none: fetches take back expired jobs themselves")
            }
            Self::NotNeeded => Check::well(NAME, "has nothing to do now; it is started when there is"),
            Self::Running(_) => Check::well(NAME, "runs"),
            Self::Late(_) | Self::Silent(..) => Check::gap(
                NAME,
                "does not do what there is to do: jobs of consumers that died come back late",
                "SELECT * FROM qflow.health() WHERE NOT ok;",
            ),
        }
    }
}
