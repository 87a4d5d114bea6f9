//! Ending a lease by hand: its jobs go back, and what it holds is free.

use crate::error::{Error, Result};
use crate::host::spi::{connected, kept, Mode};
use crate::host::value;
use crate::job::reap::End;
use crate::job::upkeep;
use crate::queue::registry::{self, as_owner};

use pgrx::pg_sys;

use super::holder;

const QUEUE_OF: &str = "SELECT queue FROM qflow.lease WHERE id OPERATOR(pg_catalog.=) $1";

/// Only the session that is meant: process ids come again.
const END_SESSION: &str = "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_get_activity($1) AS a
    WHERE a.backend_start OPERATOR(pg_catalog.=) $2";

/// Ends a lease; false when there is none. What a session keeps by its locks is free when that session is gone: it is
/// terminated, and the worker takes back its jobs. 55000 where somebody has the lease locked.
pub fn break_lease(lease: i64) -> Result<bool> {
    let Some(queue) = queue_of(lease)? else {
        return Ok(false);
    };
    if let Some(holder) = holder::by_session_of(&[lease])?.first() {
        if end_session(holder)? {
            return Ok(true);
        }
    }
    let Some(queue) = registry::queue_numbered(queue)? else {
        registry::remove_orphans()?;
        return Ok(true);
    };
    match upkeep::end_lease(queue.table, lease, End::Broken)? {
        true => Ok(true),
        false if queue_of(lease)?.is_none() => Ok(false),
        false => Err(Error::not_ready(format!("lease {lease} or what it holds is locked by an open transaction"))
            .hint("Try again, or end the transaction that has it locked.")),
    }
}

fn queue_of(lease: i64) -> Result<Option<i64>> {
    let args = [value::bigint(lease)];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, QUEUE_OF, &[pg_sys::INT8OID])?.run(spi, &args, Mode::WriteLatest)?;
            Ok(rows.first().and_then(|row| row.bigint(1)))
        })
    })
}

/// Terminates the session of a holder; false when it is not there.
fn end_session(holder: &holder::Holder) -> Result<bool> {
    const TYPES: [pg_sys::Oid; 2] = [pg_sys::INT4OID, pg_sys::TIMESTAMPTZOID];
    let args = [value::int(holder.session.pid), value::timestamp(holder.session.start)];
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, END_SESSION, &TYPES)?.run(spi, &args, Mode::Write)?;
            Ok(rows.first().is_some_and(|row| row.flag(1)))
        })
    })
}
