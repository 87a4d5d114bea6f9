//! Where floors are kept: in the session, in shared memory where there is some, and as copies in `qflow.floor`. Saving
//! never waits and happens once in a while, not at every fetch; a copy that is lost or late only costs time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use pgrx::pg_sys;

use super::floor::{Floor, Key, Run, PRIORITIES};
use crate::error::Result;
use crate::guc;
use crate::host::spi::{connected, kept, Mode};
use crate::host::{value, xact};
use crate::queue::cache::Queue;
use crate::queue::registry::{self, as_owner};

/// A session reads the others' copies again after this long, microseconds.
const READ_AGAIN: i64 = 100_000;
/// A floor that moved is saved after this long at the latest, microseconds.
const SAVE_AGAIN: i64 = 1_000_000;

const LOAD: &str = "SELECT evidence_end, starts, open_xacts, skipped FROM qflow.floor
    WHERE queue OPERATOR(pg_catalog.=) $1 AND system_identifier OPERATOR(pg_catalog.=) $2
        AND database_oid OPERATOR(pg_catalog.=) $3 AND relation_oid OPERATOR(pg_catalog.=) $4";

const SAVE: &str = "UPDATE qflow.floor SET system_identifier = $2, database_oid = $3, relation_oid = $4,
        evidence_end = $5, starts = $6, open_xacts = $7, skipped = $8
    WHERE queue OPERATOR(pg_catalog.=) $1 AND copy OPERATOR(pg_catalog.=) (
        SELECT f.copy FROM qflow.floor f WHERE f.queue OPERATOR(pg_catalog.=) $1
        ORDER BY f.copy LIMIT 1 FOR UPDATE SKIP LOCKED)";

/// One session's knowledge of a queue's floor.
#[derive(Default, Clone)]
struct Known {
    table: pg_sys::Oid,
    /// The registry that gave the queue its number: after DROP EXTENSION another one may give it again.
    registry: pg_sys::Oid,
    floor: Floor,
    read_at: i64,
    saved_at: i64,
    claimed_since: i64,
}

thread_local! {
    static KNOWN: RefCell<HashMap<i64, Known>> = RefCell::new(HashMap::new());
}

/// The best floor known for a queue. Whoever uses it with evidence must take that evidence after this call.
pub fn current(queue: &Queue, now: i64) -> Result<Floor> {
    match shared(queue) {
        Some(floor) => Ok(floor),
        None => remembered(queue.row.number, queue.row.table, now),
    }
}

/// The floor in shared memory.
fn shared(queue: &Queue) -> Option<Floor> {
    let words = queue.slot.read()?.floor.get(queue.row.table.to_u32())?;
    unpack(&words)
}

/// Offers a floor to the other sessions; false where there is no shared memory for it.
fn share(queue: &Queue, floor: &Floor) -> bool {
    let words = pack(floor);
    let offered = queue.slot.write().map(|mut notes| {
        notes.floor.offer(queue.row.table.to_u32(), floor.rank(), &words);
    });
    offered.is_some()
}

fn remembered(queue: i64, table: pg_sys::Oid, now: i64) -> Result<Floor> {
    let registry = registry::table()?;
    let is_it = |known: &Known| known.table == table && known.registry == registry;
    let remembered = KNOWN.with(|all| all.borrow().get(&queue).filter(|known| is_it(known)).cloned());
    let mut known = remembered.unwrap_or_else(|| Known { table, registry, ..Known::default() });
    if now < known.read_at || now - known.read_at > READ_AGAIN {
        for copy in copies(queue, table)? {
            if copy.is_ahead_of(&known.floor) {
                known.floor = copy;
            }
        }
        known.read_at = now;
    }
    let floor = known.floor.clone();
    KNOWN.with(|all| all.borrow_mut().insert(queue, known));
    Ok(floor)
}

/// Remembers a floor that moved, and saves it for the others when it is time. `claimed`: jobs claimed by this call.
pub fn moved(queue: &Queue, floor: Floor, claimed: usize, now: i64) -> Result<()> {
    let (number, table) = (queue.row.number, queue.row.table);
    let due = match share(queue, &floor) {
        true => is_saving_due(queue, now) && claimed > 0,
        false => remember(number, table, &floor, claimed, now)?,
    };
    // A stale snapshot could not update a copy that somebody else saved since: that would raise 40001.
    if due && xact::is_read_committed() {
        save(number, table, &floor)?;
    }
    Ok(())
}

/// Among all sessions one saves the shared floor, so that a restart does not begin at zero.
fn is_saving_due(queue: &Queue, now: i64) -> bool {
    queue.slot.marks().is_some_and(|marks| is_turn(&marks.floor_saved_at, now, SAVE_AGAIN))
}

/// True for one caller in each `every` microseconds.
pub fn is_turn(last: &AtomicI64, now: i64, every: i64) -> bool {
    let before = last.load(Relaxed);
    (now < before || now - before > every) && last.compare_exchange(before, now, Relaxed, Relaxed).is_ok()
}

/// Remembers a floor in the session; whether it is to be saved.
fn remember(queue: i64, table: pg_sys::Oid, floor: &Floor, claimed: usize, now: i64) -> Result<bool> {
    let registry = registry::table()?;
    let due = KNOWN.with(|all| {
        let mut all = all.borrow_mut();
        let known = all.entry(queue).or_default();
        let changed = known.floor != *floor;
        (known.table, known.registry) = (table, registry);
        known.floor = floor.clone();
        known.claimed_since += claimed as i64;
        let late = now < known.saved_at || now - known.saved_at > SAVE_AGAIN;
        let due = changed && (known.claimed_since >= guc::floor_save_jobs() || late && claimed > 0);
        if due {
            known.saved_at = now;
            known.claimed_since = 0;
        }
        due
    });
    Ok(due)
}

/// All floors that this session can see: its own, the shared one and the saved copies.
pub fn visible(queue: &Queue) -> Result<Vec<Floor>> {
    let (number, table) = (queue.row.number, queue.row.table);
    let mut floors = copies(number, table)?;
    floors.extend(shared(queue));
    let registry = registry::table()?;
    let is_it = |known: &&Known| known.table == table && known.registry == registry;
    KNOWN.with(|all| {
        floors.extend(all.borrow().get(&number).filter(is_it).map(|known| known.floor.clone()));
    });
    Ok(floors)
}

fn copies(queue: i64, table: pg_sys::Oid) -> Result<Vec<Floor>> {
    const TYPES: [pg_sys::Oid; 4] = [pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::OIDOID, pg_sys::OIDOID];
    let args = [
        value::bigint(queue),
        value::bigint(xact::system_identifier()),
        value::oid(xact::database()),
        value::oid(table),
    ];
    let next = xact::next_xid();
    as_owner(|| {
        connected(|spi| {
            let rows = kept(spi, LOAD, &TYPES)?.run(spi, &args, Mode::Write)?;
            let floors = rows.iter().filter_map(|row| {
                let evidence_end = row.bigint(1)? as u64;
                decode(evidence_end, &row.bigints(2), &row.bigints(3), &row.bigints(4))
            });
            Ok(floors.filter(|floor| floor.evidence_end <= next).collect())
        })
    })
}

fn save(queue: i64, table: pg_sys::Oid, floor: &Floor) -> Result<()> {
    const TYPES: [pg_sys::Oid; 8] = [
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::OIDOID,
        pg_sys::OIDOID,
        pg_sys::INT8OID,
        pg_sys::INT8ARRAYOID,
        pg_sys::INT8ARRAYOID,
        pg_sys::INT8ARRAYOID,
    ];
    let (starts, open, skipped) = encode(floor);
    let args = [
        value::bigint(queue),
        value::bigint(xact::system_identifier()),
        value::oid(xact::database()),
        value::oid(table),
        value::bigint(floor.evidence_end as i64),
        value::bigints(&starts),
        value::bigints(&open),
        value::bigints(&skipped),
    ];
    as_owner(|| connected(|spi| kept(spi, SAVE, &TYPES)?.run(spi, &args, Mode::Write).map(|_| ())))
}

/// Starts as (xid, id) by priority; open transactions as (xid, priority, id); runs as (priority, xid, id, xid, id).
fn encode(floor: &Floor) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
    let starts = floor.starts.iter().flat_map(|key| [key.xid as i64, key.id]).collect();
    let open = floor.open.iter().flat_map(|(xid, from)| [*xid as i64, from.0 as i64, from.1]).collect();
    let skipped = floor
        .skipped
        .iter()
        .flat_map(|run| [run.priority as i64, run.first.xid as i64, run.first.id, run.last.xid as i64, run.last.id])
        .collect();
    (starts, open, skipped)
}

/// All of a floor in one row of numbers: end of evidence, how many numbers each list has, then the lists.
fn pack(floor: &Floor) -> Vec<i64> {
    let (starts, open, skipped) = encode(floor);
    let head = [floor.evidence_end as i64, starts.len() as i64, open.len() as i64, skipped.len() as i64];
    head.into_iter().chain(starts).chain(open).chain(skipped).collect()
}

fn unpack(words: &[i64]) -> Option<Floor> {
    let [end, starts, open, skipped, lists @ ..] = words else {
        return None;
    };
    let (starts, rest) = lists.split_at_checked(*starts as usize)?;
    let (open, rest) = rest.split_at_checked(*open as usize)?;
    decode(*end as u64, starts, open, rest.get(..*skipped as usize)?)
}

fn decode(evidence_end: u64, starts: &[i64], open: &[i64], skipped: &[i64]) -> Option<Floor> {
    if starts.len() != 2 * PRIORITIES || !open.len().is_multiple_of(3) || !skipped.len().is_multiple_of(5) {
        return None;
    }
    let key = |at: &[i64]| Key { xid: at[0] as u64, id: at[1] };
    let mut floor = Floor { evidence_end, ..Floor::default() };
    for (start, at) in floor.starts.iter_mut().zip(starts.chunks(2)) {
        *start = key(at);
    }
    floor.open = open.chunks(3).map(|at| (at[0] as u64, (at[1] as usize, at[2]))).collect();
    floor.skipped = skipped
        .chunks(5)
        .map(|at| Run { priority: at[0] as usize, first: key(&at[1..3]), last: key(&at[3..5]) })
        .collect();
    Some(floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::floor::{MAX_OPEN, MAX_SKIPPED};
    use crate::shmem::floor::SharedFloor;

    #[test]
    fn what_is_saved_is_what_is_read() {
        let mut floor = Floor { evidence_end: 99, ..Floor::default() };
        floor.starts[4] = Key { xid: 77, id: -3 };
        floor.open.insert(70, (2, 5));
        floor.skipped.push(Run { priority: 4, first: Key { xid: 60, id: 1 }, last: Key { xid: 61, id: 9 } });
        let (starts, open, skipped) = encode(&floor);
        assert_eq!(decode(99, &starts, &open, &skipped), Some(floor));
        assert_eq!(decode(99, &starts[1..], &open, &skipped), None);
        let floor = decode(99, &starts, &open, &skipped).unwrap_or_default();
        assert_eq!(unpack(&pack(&floor)), Some(floor.clone()));
        assert_eq!(unpack(&pack(&floor)[..30]), None);
    }

    #[test]
    fn the_longest_floor_fits_into_shared_memory() {
        let mut floor = Floor { evidence_end: 99, ..Floor::default() };
        floor.open = (0..MAX_OPEN as u64).map(|xid| (xid, (0, 0))).collect();
        floor.skipped = vec![Run { priority: 4, first: Key::before(1), last: Key::before(2) }; MAX_SKIPPED];
        let mut shared = SharedFloor::default();
        shared.offer(7, floor.rank(), &pack(&floor));
        assert_eq!(shared.get(7).and_then(|words| unpack(&words)), Some(floor));
        assert_eq!(shared.get(8), None);
    }
}
