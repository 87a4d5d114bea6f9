//! How many jobs of each status a queue has: from shared memory, or counted. A count acts as the table's owner, restricted:
//! the right to read one column is enough to see the numbers, and whoever looks must not run what the owner put into
//! his indexes.

use std::panic::AssertUnwindSafe;

use crate::error::Result;
use crate::host::identity::{self, Settings};
use crate::host::snapshot::Latest;
use crate::host::spi::{connected, once, once_active};
use crate::host::subtransaction::attempt;
use crate::host::{relation, value, xact};
use crate::job::pending::{self, Pending};
use crate::job::shape::Shape;
use crate::queue::cache::{self, Purpose};
use crate::queue::registry::{self, QueueRow};
use crate::shmem::gauges::Depths;
use crate::shmem::queue::Slot;

const DEPTHS: &str = "SELECT
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'pending'),
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'pending'
            AND j.available_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()),
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'in_progress'),
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'completed'),
        pg_catalog.count(*) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'failed'),
        pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)
            pg_catalog.min(j.inserted_at{inserted_zone}) FILTER (WHERE j.status OPERATOR(pg_catalog.=) 'pending'
                AND pg_catalog.isfinite(j.inserted_at{inserted_zone}) AND (j.available_at IS NULL
                    OR j.available_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())))
            OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8
    FROM {q} j";

/// The numbers of one queue.
pub struct Figures {
    /// Jobs by status.
    pub depths: Depths,
    /// Of the pending ones, those that wait for their time.
    pub delayed: Option<i64>,
    /// How long the oldest of the others waits, milliseconds.
    pub oldest_pending_ms: Option<i64>,
}

/// What shared memory knows of a queue; nothing where it does not know. Looks up in the indexes what it never knows, and
/// leaves that out where it cannot be looked up.
pub fn known(row: &QueueRow, slot: &Slot) -> Option<Figures> {
    if xact::is_standby() {
        return None;
    }
    let depths = slot.read()?.known.gauges.depths()?;
    let pending = attempt(AssertUnwindSafe(|| look(row))).ok().flatten();
    let age = |at: i64| value::now().saturating_sub(at).div_euclid(1_000);
    Some(Figures {
        depths,
        delayed: pending.as_ref().map(|pending| pending.delayed),
        oldest_pending_ms: pending.and_then(|pending| pending.oldest_at).map(age),
    })
}

fn look(row: &QueueRow) -> Result<Option<Pending>> {
    // A LOCK TABLE must not keep whoever watches all queues waiting.
    let _patience = Settings::change(&[(c"lock_timeout", c"1s")]);
    match cache::queue_of(row.table, Purpose::Look)? {
        Some(queue) => identity::restricted_as(queue.owner, || pending::look(&queue)).map(Some),
        None => Ok(None),
    }
}

/// What a count is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Somebody wants to see the numbers.
    Viewer,
    /// Shared memory is to know them: there is no count where it would be of no use for that.
    Memory,
}

/// Counts the jobs of a queue. What is found is from then on what shared memory knows, where that can be. Nothing where
/// the table is gone, or has a name that no statement can be written with; raises what the owner meets.
pub fn counted(row: &QueueRow, purpose: For) -> Result<Option<Figures>> {
    let (Some(owner), Ok(Some(name))) = (relation::owner(row.table), relation::qualified_name(row.table)) else {
        return Ok(None);
    };
    let sql = Shape::of(row.table, &name).fill(DEPTHS);
    // Before the snapshot: nobody empties the table in between.
    relation::lock_to_look(row.table);
    let base = Base::begin(Slot::known(registry::table()?, row.number));
    if base.is_none() && purpose == For::Memory {
        return Ok(None);
    }
    let found = identity::restricted_as(owner, || {
        connected(|spi| {
            let rows = if base.is_some() { once_active(spi, &sql, &[])? } else { once(spi, &sql, &[])? };
            let row = rows.first();
            let number = |column| row.and_then(|row| row.bigint(column));
            let jobs = |column| number(column).unwrap_or(0);
            let depths = Depths { pending: jobs(1), in_progress: jobs(3), completed: jobs(4), failed: jobs(5) };
            Ok(Figures { depths, delayed: number(2), oldest_pending_ms: number(6) })
        })
    })?;
    if let Some(base) = base {
        base.finish(found.depths);
    }
    Ok(Some(found))
}

/// A count whose result becomes what is known.
struct Base {
    slot: Slot,
    id: u64,
    _snapshot: Latest,
}

impl Base {
    /// Takes the snapshot to count with. None where the transaction has changed something itself, or must see an old
    /// state: its count is its own.
    fn begin(slot: Slot) -> Option<Self> {
        if xact::is_standby() || xact::own_xid().is_some() || !xact::is_read_committed() {
            return None;
        }
        let (id, snapshot) = {
            let mut notes = slot.write()?;
            let snapshot = Latest::take();
            (notes.known.gauges.begin(&snapshot.horizon(), value::now())?, snapshot)
        };
        Some(Self { slot, id, _snapshot: snapshot })
    }

    fn finish(self, found: Depths) {
        if let Some(mut notes) = self.slot.write() {
            notes.known.gauges.finish(self.id, found, value::now());
        }
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        if let Some(mut notes) = self.slot.write() {
            notes.known.gauges.give_up(self.id, value::now());
        }
    }
}

/// A count has failed: it is not tried again at once.
pub fn put_off(slot: &Slot, begun_at: i64) {
    slot.write().into_iter().for_each(|mut notes| notes.known.gauges.put_off(begun_at, value::now()));
}

/// When the jobs of a queue are to be counted next, microseconds; nothing while there is no need, and where it would be of
/// no use.
pub fn count_at(slot: &Slot) -> Option<i64> {
    let last_activity = slot.marks()?.last_activity.load(std::sync::atomic::Ordering::Relaxed);
    slot.read()?.known.gauges.count_at(last_activity)
}
