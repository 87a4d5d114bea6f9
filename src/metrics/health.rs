//! Whether all is well, and if not, what is wrong and how to mend it.

use std::sync::atomic::Ordering::Relaxed;

use pgrx::pg_sys;

use super::visible::visible;
use crate::error::Result;
use crate::host::spi::{connected, once};
use crate::host::{relation, value, xact};
use crate::job::shape::Shape;
use crate::queue::check::Check;
use crate::queue::registry::{self, QueueRow};
use crate::queue::service::{service, Service};
use crate::queue::{catalog, gaps, name};
use crate::shmem::queue::Slot;
use crate::shmem::server::server;
use crate::shmem::{self, database, queue};

/// The version of the library.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const INSTALLED: &str = "SELECT e.extversion FROM pg_catalog.pg_extension AS e
    WHERE e.extname OPERATOR(pg_catalog.=) 'qflow'";

const PREPARED: &str = "SELECT pg_catalog.count(*), pg_catalog.min(p.gid) FROM pg_catalog.pg_prepared_xact() AS p
    WHERE p.dbid OPERATOR(pg_catalog.=) $1
        AND p.prepared OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) '5 minutes'::pg_catalog.interval)";

/// Everything looked at; about queues only what concerns those that the current user may see.
pub fn health() -> Result<Vec<Check>> {
    let mut checks = vec![version()?, preload()];
    if shmem::is_there() && !xact::is_standby() {
        checks.extend([launcher(), worker_slots()]);
    }
    checks.push(worker());
    if shmem::is_there() && !xact::is_standby() {
        checks.extend([last_pass(), databases(), queue_room()]);
    }
    let seen = visible()?;
    let registry = registry::table()?;
    let mut troubles = Vec::new();
    for (row, name) in &seen {
        troubles.extend(queue_troubles(row, name, &Slot::known(registry, row.number))?);
    }
    if troubles.is_empty() {
        checks.push(Check::well("queues", format!("{} seen, none in trouble", seen.len())));
    }
    checks.extend(troubles);
    checks.push(prepared()?);
    Ok(checks)
}

fn version() -> Result<Check> {
    let installed = connected(|spi| once(spi, INSTALLED, &[])?.first().map_or(Ok(None), |row| row.text(1)))?;
    let installed = installed.unwrap_or_default();
    Ok(compare(VERSION, &installed))
}

/// The library is the server's, the objects are the database's: an update needs both.
fn compare(library: &str, installed: &str) -> Check {
    const NAME: &str = "version";
    let parts = |version: &str| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    let detail = format!("the library is {library}, the extension in this database {installed}");
    match parts(installed).cmp(&parts(library)) {
        std::cmp::Ordering::Equal => Check::well(NAME, format!("{library}, library and extension")),
        std::cmp::Ordering::Less => Check::gap(NAME, detail, "ALTER EXTENSION qflow UPDATE;"),
        std::cmp::Ordering::Greater => Check::gap(NAME, detail, "Restart the server: it still runs the old library."),
    }
}

fn preload() -> Check {
    match shmem::is_there() {
        true => Check::well("preload", "qflow is in shared_preload_libraries"),
        false => Check::gap(
            "preload",
            "qflow is not preloaded: there are no worker, wake-ups, counters and leases that end with their session; \
             fetches take back what has expired",
            "Add qflow to shared_preload_libraries, and restart the server.",
        ),
    }
}

fn launcher() -> Check {
    match server().map_or(0, |server| server.launcher_pid()) {
        0 => Check::gap(
            "launcher",
            "does not run: no worker is started",
            "It is started again within seconds; if not, raise max_worker_processes and restart the server.",
        ),
        pid => Check::well("launcher", format!("runs as process {pid}")),
    }
}

fn worker_slots() -> Check {
    let since = server().map_or(0, |server| server.no_worker_slot_since.load(Relaxed));
    match since {
        0 => Check::well("worker_slots", "a worker could be started whenever one was needed"),
        since => Check::gap(
            "worker_slots",
            format!("for {} s no slot has been left for a background worker", seconds_since(since)),
            "Raise max_worker_processes, and restart the server.",
        ),
    }
}

fn worker() -> Check {
    const NAME: &str = "worker";
    const LOG: &str = "See the server's log; max_worker_processes may be too low.";
    match service() {
        Service::NotPreloaded => {
            Check::gap(NAME, "none without preload", "See check preload; or call qflow.reap() from cron.")
        }
        Service::Standby => Check::well(NAME, "none on a standby; it is started when this server is promoted"),
        Service::SwitchedOff => {
            Check::gap(NAME, "switched off", "ALTER SYSTEM SET qflow.worker = on; SELECT pg_reload_conf();")
        }
        Service::NoLauncher => Check::gap(NAME, "none is started without the launcher", "See check launcher."),
        Service::NotNeeded => Check::well(NAME, "has nothing to do now; it is started when there is"),
        Service::Running(pid) => Check::well(NAME, format!("runs as process {pid}")),
        Service::Late(ms) => Check::gap(NAME, format!("does not run although there has been work for {ms} ms"), LOG),
        Service::Silent(pid, ms) => Check::gap(
            NAME,
            format!("process {pid} has given no sign of life for {ms} ms"),
            format!(
                "Look what it does in pg_stat_activity; SELECT pg_terminate_backend({pid}); has another one started."
            ),
        ),
    }
}

fn last_pass() -> Check {
    const NAME: &str = "last_pass";
    let Some(database) = database::own(false) else {
        return Check::well(NAME, "none since the server started: nothing has used qflow in this database");
    };
    let at = database.last_pass.load(Relaxed);
    let detail = match at {
        0 => "none since the server started".to_owned(),
        at => format!("{} s ago, {} since the server started", seconds_since(at), database.passes.load(Relaxed)),
    };
    match database::last_error().filter(|(failed_at, ..)| *failed_at > at) {
        None => Check::well(NAME, detail),
        Some((failed_at, sqlstate, message)) => Check::gap(
            NAME,
            format!("{detail}; the one {} s ago failed: {message} ({sqlstate})", seconds_since(failed_at)),
            "Mend what raises this: no queue of this database is looked after meanwhile.",
        ),
    }
}

fn databases() -> Check {
    let (used, all) = database::room();
    match database::own(false) {
        None if used >= all => Check::gap(
            "database_room",
            format!("this database has none of the {all} places in shared memory: no worker serves it"),
            "Raise qflow.max_databases, and restart the server.",
        ),
        _ => Check::well("database_room", format!("{used} of {all} places are in use")),
    }
}

fn queue_room() -> Check {
    let (used, all) = queue::room();
    match used >= all {
        true => Check::gap(
            "queue_room",
            format!("all {all} places in shared memory are in use: further queues have no counters and wake-ups"),
            "Raise qflow.max_queues, and restart the server.",
        ),
        false => Check::well("queue_room", format!("{used} of {all} places are in use")),
    }
}

/// What is wrong with one queue.
fn queue_troubles(row: &QueueRow, name: &str, slot: &Slot) -> Result<Vec<Check>> {
    const NAME: &str = "queue";
    let verify = format!("SELECT * FROM qflow.verify({}) WHERE NOT ok;", name::literal(name));
    let mut found = Vec::new();
    if let Err(error) =
        relation::qualified_name(row.table).and_then(|name| Shape::checked(row.table, &name.unwrap_or_default()))
    {
        found.push(Check::gap(NAME, format!("{name}: {}", error.message()), verify.clone()));
    }
    let owner = catalog::table(row.table)?.map(|table| table.owner).unwrap_or_default();
    for (obstacle, remedy) in gaps::obstacles(row.table, &owner, &catalog::triggers(row.table)?) {
        let detail = format!("{name}: {obstacle}, so only fetches can look after it");
        found.push(Check::gap(NAME, detail, remedy));
    }
    found.extend(failure(row, name, slot, &verify));
    Ok(found)
}

/// What the worker met. A message may quote a row: it is for who may read them all.
fn failure(row: &QueueRow, name: &str, slot: &Slot, verify: &str) -> Option<Check> {
    if xact::is_standby() {
        return None;
    }
    let may_know = relation::may(row.table, pg_sys::ACL_SELECT) && !relation::hides_rows(row.table);
    let notes = slot.read()?;
    let trouble = &notes.trouble;
    if trouble.failures == 0 {
        return None;
    }
    let message = if may_know { trouble.error.message.as_str() } else { "an error" };
    let detail = format!(
        "{name}: the worker could not look after it, {} times in a row: {message} ({}); next try in {} s",
        trouble.failures,
        trouble.error.sqlstate,
        trouble.retry_at.saturating_sub(value::now()).max(0) / 1_000_000
    );
    Some(Check::gap("queue", detail, verify))
}

fn prepared() -> Result<Check> {
    let args = [(pg_sys::OIDOID, value::oid(xact::database()))];
    let (count, gid) = connected(|spi| {
        let rows = once(spi, PREPARED, &args)?;
        let row = rows.first();
        let gid = row.map_or(Ok(None), |row| row.text(2));
        Ok((row.and_then(|row| row.bigint(1)).unwrap_or(0), gid.ok().flatten().unwrap_or_default()))
    })?;
    Ok(match count {
        0 => Check::well("prepared", "no transaction of this database has been prepared for long"),
        count => Check::gap(
            "prepared",
            format!("{count} transactions have been prepared for more than 5 minutes: their jobs and leases are out of reach"),
            format!("COMMIT PREPARED or ROLLBACK PREPARED them; the first is {}.", name::literal(&gid)),
        ),
    })
}

fn seconds_since(at: i64) -> i64 {
    value::now().saturating_sub(at).max(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for (library, installed, ok, remedy) in [
            ("0.1.0", "0.1.0", true, None),
            ("0.10.0", "0.9.0", false, Some("ALTER EXTENSION qflow UPDATE;")),
            ("0.9.0", "0.10.0", false, Some("Restart the server: it still runs the old library.")),
        ] {
            let check = compare(library, installed);
            assert_eq!((check.ok, check.remedy.as_deref()), (ok, remedy), "{library} {installed}");
        }
    }
}
