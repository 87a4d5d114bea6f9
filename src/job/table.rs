//! All access to job rows. The domain says what it wants done; how it reaches the table is decided here and nowhere
//! else: directly (`direct`) where that is known to be the same, else by SQL.

use std::cell::{Cell, OnceCell};

use pgrx::pg_sys;

use super::arrival;
use super::direct::insert::NewRows;
use super::direct::layout::Layout;
use super::direct::Direct;
use super::floor::{Key, Segment};
use super::retention::{Aged, Span};
use super::shape::Shape;
use super::state::{JobState, Status};
use super::statement::{Statement, STATEMENTS};
use crate::error::Result;
use crate::guc;
use crate::host::heap::{self, Tid};
use crate::host::snapshot::Latest;
use crate::host::spi::{Mode, Plan, Row, Rows, Spi};
use crate::host::value::{self, Arg};
use crate::host::{relation, xact};

/// A queue's table with its plans.
pub struct JobTable {
    table: pg_sys::Oid,
    shape: Shape,
    /// Where things are in it, if it can be reached directly.
    layout: Option<Layout>,
    plans: [OnceCell<Plan>; STATEMENTS],
    /// When this session last took back expired leases here, microseconds.
    pub last_reap: Cell<i64>,
    /// When a pass through a table from elsewhere was last through, as far as this session saw, microseconds.
    pub last_pass: Cell<i64>,
}

/// A job that could be claimed.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its id.
    pub id: i64,
    /// Bytes of its payload.
    pub bytes: usize,
    /// Where it was found.
    pub place: Place,
    /// Where the version lies that was found, if it was found directly.
    pub tid: Option<Tid>,
}

/// A job that was claimed: what a fetch hands out. The values stay as long as it is being handed on.
pub struct Claimed {
    /// Its id.
    pub id: i64,
    /// Its payload, unread.
    pub data: Arg,
    /// What describes it, unread.
    pub metadata: Arg,
    /// Which attempt this is.
    pub attempt: Arg,
    /// When it was inserted.
    pub inserted_at: Arg,
    /// Why it failed before.
    pub failure_reason: Arg,
}

/// Where a candidate was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a segment of the fresh index, by its position, at a key.
    Fresh(usize, Key),
    /// In the index of due jobs, at a time in microseconds.
    Due(i64),
}

/// A change to a locked job.
#[derive(Debug, Clone)]
pub struct Change {
    /// The job.
    pub id: i64,
    /// Its new status.
    pub status: Status,
    /// When it can be fetched again, microseconds; `None` where it cannot.
    pub available_at: Option<i64>,
    /// 1 when the attempt is given back, else 0.
    pub refund: i64,
    /// Why it failed, a text datum; `None` keeps what is there.
    pub reason: Arg,
}

/// A row met while going through a table.
pub struct Met {
    /// Its id.
    pub id: i64,
    /// How it stands.
    pub state: JobState,
    /// Its priority, if it is one.
    pub priority: usize,
    /// Its `enqueued_xid`.
    pub enqueued_xid: Option<u64>,
    /// Whether `available_at` is NULL.
    pub is_fresh: bool,
    /// When it last changed, microseconds; an adopted table may not say.
    pub updated_at: Option<i64>,
}

impl JobTable {
    /// Access to a table whose columns are as they must be; 55000 otherwise. Directly, where `layout` says how.
    pub fn new(table: pg_sys::Oid, name: &str, layout: Option<Layout>) -> Result<Self> {
        Ok(Self {
            table,
            shape: Shape::checked(table, name)?,
            layout,
            plans: std::array::from_fn(|_| OnceCell::new()),
            last_reap: Cell::new(0),
            last_pass: Cell::new(i64::MIN),
        })
    }

    /// Whether what is seen through the table now may serve as evidence for a floor.
    pub fn shows_everything(&self) -> bool {
        !relation::hides_rows(self.table) && !relation::is_rewritable_by_us(self.table)
    }

    /// The table, open, where the current user may reach it directly now: he has the rights on all of it, and nothing of
    /// the transaction's isolation is at stake.
    pub fn direct(&self) -> Option<Direct<'_>> {
        let layout = self.layout.as_ref()?;
        let may = guc::direct_access() && xact::is_read_committed() && relation::may(self.table, CHANGING);
        may.then(|| Direct::open(self.table, layout)).flatten()
    }

    fn run<'s>(&self, spi: &'s Spi, statement: Statement, args: &[Arg], mode: Mode) -> Result<Rows<'s>> {
        let cell = &self.plans[statement as usize];
        let plan = match cell.get() {
            Some(plan) => plan,
            None => {
                let plan = Plan::prepare(spi, &self.shape.fill(statement.text()), statement.types())?;
                cell.get_or_init(|| plan)
            }
        };
        plan.run(spi, args, mode)
    }

    /// Inserts jobs as the caller: payload as datums, `available_at` for all of them or NULL.
    pub fn insert(&self, spi: &Spi, ids: &[i64], data: &[Arg], metadata: &[Arg], rest: [Arg; 2]) -> Result<()> {
        let [priority, available_at] = rest;
        if let Some((number, direct)) = self.direct_insert() {
            direct.insert(&NewRows { ids, data, metadata, priority, available_at });
            return arrival::count(number, ids.len());
        }
        let args =
            [value::bigints(ids), value::jsonb_array(data), value::jsonb_array(metadata), priority, available_at];
        self.run(spi, Statement::Insert, &args, Mode::Write).map(|_| ())
    }

    /// The table, open, where the current user may insert into it directly now; and the number by which jobs are counted.
    fn direct_insert(&self) -> Option<(i64, Direct<'_>)> {
        let layout = self.layout.as_ref()?;
        let number = layout.counts_as?;
        let may = relation::may(self.table, pg_sys::ACL_INSERT) && relation::may_enter_schema(self.table);
        (may && guc::direct_access() && xact::is_read_committed())
            .then(|| Direct::open(self.table, layout))
            .flatten()
            .map(|direct| (number, direct))
    }

    /// Fresh pending jobs in `segments`, in order, with the active snapshot, until `visit` has enough; whether it had. It
    /// gets each of them while the scan stands on its row.
    pub fn visit(
        direct: &Direct,
        segments: &[Segment],
        visit: impl FnMut(&Candidate, &heap::row::Row) -> Result<bool>,
    ) -> Result<(Vec<Candidate>, bool)> {
        let parts: Vec<(usize, Segment)> = segments.iter().enumerate().flat_map(parts).collect();
        direct.scan(&parts, visit)
    }

    /// Fresh pending jobs in `segments`, in order, at most `limit`; whether that many were found.
    pub fn scan(&self, spi: &Spi, segments: &[Segment], limit: usize, mode: Mode) -> Result<(Vec<Candidate>, bool)> {
        let parts: Vec<(usize, Segment)> = segments.iter().enumerate().flat_map(parts).collect();
        if let Some(direct) = self.direct() {
            let mut left = limit;
            let mut is_enough = |_: &Candidate, _: &heap::row::Row| {
                left = left.saturating_sub(1);
                Ok(left == 0)
            };
            return seeing(mode, || direct.scan(&parts, &mut is_enough));
        }
        let mut args = stretches(&parts).to_vec();
        args.push(value::count(limit));
        let segment_of = |row: &Row| parts.get(row.bigint(1).unwrap_or(1) as usize - 1).map_or(0, |(at, _)| *at);
        let rows = self.run(spi, Statement::Scan, &args, mode)?;
        let candidates = rows.iter().map(|row| Candidate {
            id: row.bigint(3).unwrap_or_default(),
            bytes: payload_bytes(row.datum(4), row.datum(5)),
            place: Place::Fresh(
                segment_of(&row),
                Key { xid: row.bigint(2).unwrap_or_default() as u64, id: row.bigint(3).unwrap_or_default() },
            ),
            tid: None,
        });
        let found: Vec<Candidate> = candidates.collect();
        let is_enough = found.len() >= limit;
        Ok((found, is_enough))
    }

    /// Pending jobs due at `now`, after position `after` (time, id), at most `limit`.
    pub fn due(&self, spi: &Spi, now: i64, after: (i64, i64), limit: usize, mode: Mode) -> Result<Vec<Candidate>> {
        if let Some(direct) = self.direct() {
            return Ok(seeing(mode, || direct.due(now, after, limit)));
        }
        let args = [value::timestamp(now), value::timestamp(after.0), value::bigint(after.1), value::count(limit)];
        let rows = self.run(spi, Statement::Due, &args, mode)?;
        let candidates = rows.iter().map(|row| Candidate {
            id: row.bigint(1).unwrap_or_default(),
            bytes: payload_bytes(row.datum(3), row.datum(4)),
            place: Place::Due(row.bigint(2).unwrap_or_default()),
            tid: None,
        });
        Ok(candidates.collect())
    }

    /// When the first of the jobs with an `available_at` is due, microseconds.
    pub fn next_due(&self, spi: &Spi) -> Result<Option<i64>> {
        Ok(self.run(spi, Statement::NextDue, &[], Mode::Write)?.first().and_then(|row| row.bigint(1)))
    }

    /// How many jobs wait for their time at `now`, counted up to `limit`, as the active snapshot shows it.
    pub fn delayed(&self, spi: &Spi, now: i64, limit: usize) -> Result<i64> {
        let args = [value::timestamp(now), value::count(limit)];
        let rows = self.run(spi, Statement::Delayed, &args, Mode::Read)?;
        Ok(rows.first().and_then(|row| row.bigint(1)).unwrap_or_default())
    }

    /// When the first pending job of each of `segments` was inserted, the earliest of these, microseconds.
    pub fn oldest_fresh(&self, spi: &Spi, segments: &[Segment]) -> Result<Option<i64>> {
        let parts: Vec<(usize, Segment)> = segments.iter().enumerate().flat_map(parts).collect();
        let rows = self.run(spi, Statement::OldestFresh, &stretches(&parts), Mode::Read)?;
        Ok(rows.first().and_then(|row| row.bigint(1)))
    }

    /// When the earliest of the jobs due at `now` was inserted, microseconds; looks at `limit` of them.
    pub fn oldest_due(&self, spi: &Spi, now: i64, limit: usize) -> Result<Option<i64>> {
        let args = [value::timestamp(now), value::count(limit)];
        let rows = self.run(spi, Statement::OldestDue, &args, Mode::Read)?;
        Ok(rows.first().and_then(|row| row.bigint(1)))
    }

    /// Locks at most `limit` of those of `ids` that are pending and due, in ascending order; never waits.
    pub fn lock_pending(&self, spi: &Spi, ids: &[i64], limit: usize, now: i64) -> Result<Vec<i64>> {
        let args = [value::bigints(ids), value::timestamp(now), value::count(limit)];
        let rows = self.run(spi, Statement::LockPending, &args, Mode::Write)?;
        Ok(first_column(&rows))
    }

    /// Claims locked jobs.
    pub fn claim(&self, spi: &Spi, ids: &[i64], lease: i64, now: i64) -> Result<Vec<Claimed>> {
        let args = [value::bigints(ids), value::bigint(lease), value::timestamp(now)];
        let rows = self.run(spi, Statement::Claim, &args, Mode::Write)?;
        let claimed = rows.iter().map(|row| Claimed {
            id: row.bigint(1).unwrap_or_default(),
            data: row.datum(2),
            metadata: row.datum(3),
            attempt: row.datum(4),
            inserted_at: row.datum(5),
            failure_reason: row.datum(6),
        });
        Ok(claimed.collect())
    }

    /// Locks jobs in ascending order, waiting for whoever holds them; answers also when each was inserted, microseconds.
    /// A job that does not exist is left out.
    pub fn lock_states(&self, spi: &Spi, ids: &[i64]) -> Result<Vec<(i64, JobState, Option<i64>)>> {
        if let Some(direct) = self.direct() {
            return Ok(direct.lock_states(ids));
        }
        let rows = self.run(spi, Statement::LockStates, &[value::bigints(ids)], Mode::Write)?;
        rows.iter().map(|row| Ok((row.bigint(1).unwrap_or_default(), state(&row)?, row.bigint(5)))).collect()
    }

    /// How jobs stand in the active snapshot, without locking them. A job that does not exist is left out.
    pub fn states(&self, spi: &Spi, ids: &[i64]) -> Result<Vec<(i64, JobState)>> {
        if let Some(direct) = self.direct() {
            return Ok(direct.states(ids));
        }
        states(&self.run(spi, Statement::States, &[value::bigints(ids)], Mode::Read)?)
    }

    /// Locks at most `limit` of `ids` that are in progress under `lease`; what others hold is left out.
    pub fn lock_held(&self, spi: &Spi, ids: &[i64], lease: i64, limit: usize) -> Result<Vec<(i64, JobState)>> {
        if let Some(direct) = self.direct() {
            return Ok(direct.lock_held(ids, lease, limit));
        }
        let args = [value::bigints(ids), value::bigint(lease), value::count(limit)];
        states(&self.run(spi, Statement::LockHeld, &args, Mode::Write)?)
    }

    /// Locks a job if it still is in progress under `lease`, or under none; never waits.
    pub fn lock_orphan(&self, spi: &Spi, id: i64, lease: Option<i64>) -> Result<bool> {
        let args = [value::bigint(id), lease.and_then(value::bigint)];
        Ok(self.run(spi, Statement::LockOrphan, &args, Mode::Write)?.count() > 0)
    }

    /// Completes those of `ids` that are in progress under `lease`, in ascending order; answers which, and when each was
    /// inserted, microseconds.
    pub fn complete(&self, spi: &Spi, ids: &[i64], lease: i64, now: i64) -> Result<Vec<(i64, Option<i64>)>> {
        if let Some(direct) = self.direct() {
            return Ok(direct.complete(ids, lease, now));
        }
        let args = [value::bigints(ids), value::bigint(lease), value::timestamp(now)];
        Ok(two_columns(&self.run(spi, Statement::Complete, &args, Mode::Write)?))
    }

    /// The same for a queue that deletes what is completed.
    pub fn complete_and_delete(&self, spi: &Spi, ids: &[i64], lease: i64) -> Result<Vec<(i64, Option<i64>)>> {
        let args = [value::bigints(ids), value::bigint(lease)];
        Ok(two_columns(&self.run(spi, Statement::CompleteAndDelete, &args, Mode::Write)?))
    }

    /// Changes locked jobs; answers which. A trigger may keep some as they are.
    pub fn apply(&self, spi: &Spi, changes: &[Change], now: i64) -> Result<Vec<i64>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(direct) = self.direct() {
            return Ok(direct.apply(changes, now));
        }
        let args = [
            value::bigints(&changes.iter().map(|c| c.id).collect::<Vec<_>>()),
            value::text_array(&changes.iter().map(|c| value::text(c.status.as_str())).collect::<Vec<_>>()),
            value::timestamps(&changes.iter().map(|c| c.available_at).collect::<Vec<_>>()),
            value::bigints(&changes.iter().map(|c| c.refund).collect::<Vec<_>>()),
            value::text_array(&changes.iter().map(|c| c.reason).collect::<Vec<_>>()),
            value::timestamp(now),
        ];
        Ok(first_column(&self.run(spi, Statement::Apply, &args, Mode::Write)?))
    }

    /// Deletes locked jobs; answers which. A trigger may keep some.
    pub fn delete(&self, spi: &Spi, ids: &[i64]) -> Result<Vec<i64>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(first_column(&self.run(spi, Statement::Delete, &[value::bigints(ids)], Mode::Write)?))
    }

    /// Whether one of `ids` is in progress under `lease`, as the active snapshot shows it.
    pub fn any_held(&self, spi: &Spi, ids: &[i64], lease: i64) -> Result<bool> {
        if let Some(direct) = self.direct() {
            return Ok(direct.any_held(ids, lease));
        }
        let args = [value::bigints(ids), value::bigint(lease)];
        Ok(self.run(spi, Statement::AnyHeld, &args, Mode::Read)?.count() > 0)
    }

    /// How many of `ids` are in progress under `lease`.
    pub fn count_held(&self, spi: &Spi, ids: &[i64], lease: i64) -> Result<i64> {
        let rows = self.run(spi, Statement::CountHeld, &[value::bigints(ids), value::bigint(lease)], Mode::Write)?;
        Ok(rows.first().and_then(|row| row.bigint(1)).unwrap_or_default())
    }

    /// Of `ids`, those in progress with their leases.
    pub fn leases(&self, spi: &Spi, ids: &[i64]) -> Result<Vec<(i64, Option<i64>)>> {
        let rows = self.run(spi, Statement::Leases, &[value::bigints(ids)], Mode::Write)?;
        let pairs = rows.iter().map(|row| (row.bigint(1).unwrap_or_default(), row.bigint(2)));
        Ok(pairs.collect())
    }

    /// Gives a job that became pending its `available_at`.
    pub fn return_job(&self, spi: &Spi, id: i64) -> Result<()> {
        self.run(spi, Statement::Return, &[value::bigint(id)], Mode::Write).map(|_| ())
    }

    /// At most `limit` rows from id `from` up.
    pub fn chunk(&self, spi: &Spi, from: i64, limit: usize) -> Result<Vec<Met>> {
        let rows = self.run(spi, Statement::Chunk, &[value::bigint(from), value::count(limit)], Mode::Write)?;
        let met: Result<Vec<Met>> = rows
            .iter()
            .map(|row| {
                Ok(Met {
                    id: row.bigint(1).unwrap_or_default(),
                    state: state(&row)?,
                    priority: row.bigint(5).and_then(|p| usize::try_from(p).ok()).unwrap_or(usize::MAX),
                    enqueued_xid: row.bigint(6).map(|xid| xid as u64),
                    is_fresh: row.flag(7),
                    updated_at: row.bigint(8),
                })
            })
            .collect();
        met
    }

    /// Notes `now` as the time of the last change of jobs in progress that have none, or one to come; what others hold is
    /// left out.
    pub fn stamp(&self, spi: &Spi, ids: &[i64], now: i64) -> Result<usize> {
        if ids.is_empty() {
            return Ok(0);
        }
        Ok(self.run(spi, Statement::Stamp, &[value::bigints(ids), value::timestamp(now)], Mode::Write)?.count())
    }

    /// How old jobs of a stretch of ids are: at most `limit`, in the order of their ids.
    pub fn ages(&self, spi: &Spi, span: Span, limit: usize) -> Result<Vec<Aged>> {
        let args = [value::bigint(span.from), value::bigint(span.to), value::count(limit)];
        let rows = self.run(spi, Statement::Ages, &args, Mode::Write)?;
        let aged = |row: crate::host::spi::Row| -> Result<Aged> {
            let status = row.text(2)?.as_deref().and_then(Status::parse);
            Ok(Aged { id: row.bigint(1).unwrap_or_default(), status, updated_at: row.bigint(3) })
        };
        rows.iter().map(aged).collect()
    }

    /// Deletes those of `ids` that are completed, or failed, and have not changed since a time, microseconds (`None`: none
    /// of them); looked at again once they are locked. What others hold is left out. Answers of each whether it had failed.
    pub fn remove_old(&self, spi: &Spi, ids: &[i64], completed: Option<i64>, failed: Option<i64>) -> Result<Vec<bool>> {
        let args = [value::bigints(ids), completed.and_then(value::timestamp), failed.and_then(value::timestamp)];
        Ok(self.run(spi, Statement::RemoveOld, &args, Mode::Write)?.iter().map(|row| row.flag(2)).collect())
    }

    /// Notes `now` as the time of the last change of jobs that have ended and have none; what others hold is left out.
    /// Answers how many.
    pub fn date_ended(&self, spi: &Spi, ids: &[i64], now: i64) -> Result<usize> {
        let args = [value::bigints(ids), value::timestamp(now)];
        Ok(self.run(spi, Statement::DateEnded, &args, Mode::Write)?.count())
    }

    /// Makes pending jobs due at `now`; what others hold is left out.
    pub fn make_due(&self, spi: &Spi, ids: &[i64], now: i64) -> Result<usize> {
        if ids.is_empty() {
            return Ok(0);
        }
        Ok(self.run(spi, Statement::MakeDue, &[value::bigints(ids), value::timestamp(now)], Mode::Write)?.count())
    }
}

/// The rights that an UPDATE needs that reads what it changes.
const CHANGING: u32 = pg_sys::ACL_SELECT | pg_sys::ACL_UPDATE;

/// Looks with the snapshot that a statement in this mode would have.
fn seeing<R>(mode: Mode, look: impl FnOnce() -> R) -> R {
    let _snapshot = (mode != Mode::Read).then(Latest::take);
    look()
}

/// Stretches of the index as arrays: priority, first transaction and id, transaction and id after the last.
fn stretches(parts: &[(usize, Segment)]) -> [Arg; 5] {
    let numbers = |f: &dyn Fn(&Segment) -> i64| value::bigints(&parts.iter().map(|(_, s)| f(s)).collect::<Vec<_>>());
    let xids = |f: &dyn Fn(&Segment) -> u64| value::xids(&parts.iter().map(|(_, s)| f(s)).collect::<Vec<_>>());
    [
        numbers(&|s| s.priority as i64),
        xids(&|s| s.from.xid),
        numbers(&|s| s.from.id),
        xids(&|s| s.to.xid),
        numbers(&|s| s.to.id),
    ]
}

fn payload_bytes(data: Arg, metadata: Arg) -> usize {
    data.map_or(0, value::raw_size) + metadata.map_or(0, value::raw_size)
}

fn two_columns(rows: &Rows) -> Vec<(i64, Option<i64>)> {
    rows.iter().filter_map(|row| Some((row.bigint(1)?, row.bigint(2)))).collect()
}

fn first_column(rows: &Rows) -> Vec<i64> {
    rows.iter().filter_map(|row| row.bigint(1)).collect()
}

fn states(rows: &Rows) -> Result<Vec<(i64, JobState)>> {
    rows.iter().map(|row| Ok((row.bigint(1).unwrap_or_default(), state(&row)?))).collect()
}

/// Reads (id, status, lease, attempt) of a row.
fn state(row: &crate::host::spi::Row) -> Result<JobState> {
    Ok(JobState {
        status: row.text(2)?.as_deref().and_then(Status::parse),
        lease: row.bigint(3),
        attempt: row.int(4).unwrap_or_default(),
    })
}
/// A segment, cut so that each part ends before a transaction's rows or is of one transaction, as `Statement::Scan` wants
/// it; with its place.
fn parts((at, segment): (usize, &Segment)) -> Vec<(usize, Segment)> {
    let Segment { from, to, .. } = *segment;
    let is_whole = from.xid == to.xid || to == Key::before(to.xid);
    let cut = Key::before(to.xid);
    match is_whole {
        true => vec![(at, *segment)],
        false => vec![(at, Segment { to: cut, ..*segment }), (at, Segment { from: cut, ..*segment })],
    }
}
