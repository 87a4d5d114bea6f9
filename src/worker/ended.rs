//! Leases of sessions that have ended.

use std::collections::{BTreeMap, HashSet};

use pgrx::pg_sys;

use crate::error::Result;
use crate::host::spi::{connected, once};
use crate::host::xact;
use crate::job::lease;
use crate::resource::release;
use crate::shmem::database::{self, Session};

const LIVE: &str = "SELECT a.pid, a.backend_start FROM pg_catalog.pg_stat_get_activity(NULL) AS a";

/// What a worker knows of ended sessions.
#[derive(Default)]
pub struct Ended {
    sessions: HashSet<Session>,
    has_checked: bool,
    is_any_locked: bool,
}

impl Ended {
    /// Leases by queue that are to be ended now. At first all bound leases, and what sessions keep, are held against the
    /// sessions that there are: those of an earlier server start have none. So again when `may_come_late`: a prepared
    /// transaction brings its lease after its session may have ended.
    pub fn leases(&mut self, may_come_late: bool) -> Result<BTreeMap<i64, Vec<i64>>> {
        let (ended, too_many) = database::take_ended();
        self.sessions.extend(ended);
        let is_check = !self.has_checked || too_many || may_come_late;
        if self.sessions.is_empty() && !is_check {
            return Ok(BTreeMap::new());
        }
        let bound = lease::bound()?;
        if is_check {
            // Read before: whoever comes in between is live, and not known.
            let known = bound.iter().map(|lease| lease.session).chain(release::keeping_sessions()?);
            let live = live()?;
            self.sessions.extend(known.filter(|session| !live.contains(session)));
            // Whoever ends just now may still be listed: then there is another look.
            self.has_checked = !too_many;
        }
        let mut leases: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let over = bound.iter().filter(|lease| self.sessions.contains(&lease.session));
        over.for_each(|lease| leases.entry(lease.queue).or_default().push(lease.id));
        // What a session kept after its lease was taken back has no lease that would bring it up.
        self.is_any_locked = release::sessions_ended(|session| self.sessions.contains(session))?;
        // Who is left with something is not forgotten.
        let mut left: HashSet<Session> = bound.iter().map(|lease| lease.session).collect();
        left.extend(release::keeping_sessions()?);
        self.sessions.retain(|session| left.contains(session));
        Ok(leases)
    }

    /// Whether something that an ended session kept is to be looked at again: others had it locked.
    pub fn is_any_locked(&self) -> bool {
        self.is_any_locked
    }
}

/// The sessions that there are. Asked as a superuser: others are not shown when a session began.
fn live() -> Result<HashSet<Session>> {
    connected(|spi| {
        let rows = once(spi, LIVE, &[])?;
        let live = rows.iter().filter_map(|row| Some(Session { pid: row.int(1)?, start: row.bigint(2)? })).collect();
        Ok(live)
    })
}

const PREPARED: &str = "SELECT EXISTS (
    SELECT FROM pg_catalog.pg_prepared_xact() AS p WHERE p.dbid OPERATOR(pg_catalog.=) $1)";

/// Whether transactions of this database are prepared: what they bring when they commit, nobody tells.
pub fn any_prepared() -> Result<bool> {
    let args = [(pg_sys::OIDOID, crate::host::value::oid(xact::database()))];
    connected(|spi| Ok(once(spi, PREPARED, &args)?.first().is_some_and(|row| row.flag(1))))
}
