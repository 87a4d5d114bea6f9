//! Finding jobs, with the active snapshot.

use pgrx::pg_sys::Datum;

use super::Direct;
use crate::host::heap::by_id::ascending;
use crate::host::heap::index::{Range, Scan, To};
use crate::host::heap::row::Row;
use crate::host::value;
use crate::job::floor::{Key, Segment};
use crate::job::state::{JobState, Status};
use crate::job::table::{Candidate, Place};

fn bigint(value: i64) -> Datum {
    Datum::from(value)
}

fn xid(value: u64) -> Datum {
    Datum::from(value as usize)
}

impl Direct<'_> {
    /// Fresh pending jobs in stretches of the index, each with its place, in order, until `visit` has enough; whether it
    /// had. It gets each of them with its row.
    pub fn scan<E>(
        &self,
        stretches: &[(usize, Segment)],
        mut visit: impl FnMut(&Candidate, &Row) -> Result<bool, E>,
    ) -> Result<(Vec<Candidate>, bool), E> {
        let mut found = Vec::new();
        let (mut across, mut within): (Option<Scan>, Option<Scan>) = (None, None);
        for (place, segment) in stretches {
            let Segment { from, to, priority, .. } = *segment;
            let (priority, of_one) = (value::smallint(priority as i16).unwrap_or(bigint(0)), from.xid == to.xid);
            let equal = [priority, xid(from.xid)];
            let position = [xid(from.xid), bigint(from.id)];
            let range = match of_one {
                true => {
                    Range { equal: &equal, from: &position[1..], after: false, to: Some(To::Before(bigint(to.id))) }
                }
                false => Range { equal: &equal[..1], from: &position, after: false, to: Some(To::Before(xid(to.xid))) },
            };
            let scan = if of_one { &mut within } else { &mut across };
            match scan {
                Some(begun) => begun.look_for(&range),
                None => *scan = Some(Scan::begin(&self.heap, &self.indexes.fresh, &range)),
            }
            let Some(scan) = scan else { continue };
            while let Some(row) = scan.next() {
                if row.datum(self.columns.available_at).is_none() && self.status(row) == Some(Status::Pending) {
                    let candidate = self.fresh(*place, row);
                    found.push(candidate);
                    if visit(&candidate, row)? {
                        return Ok((found, true));
                    }
                }
            }
        }
        Ok((found, false))
    }

    fn fresh(&self, place: usize, row: &Row) -> Candidate {
        let id = self.by_id().id_of(row);
        let xid = row.bigint(self.columns.enqueued_xid).unwrap_or_default() as u64;
        Candidate { id, bytes: self.bytes(row), place: Place::Fresh(place, Key { xid, id }), tid: Some(row.tid()) }
    }

    fn bytes(&self, row: &Row) -> usize {
        let size = |column| row.datum(column).map_or(0, value::raw_size);
        size(self.columns.data) + size(self.columns.metadata)
    }

    /// Pending jobs due at `now`, after position `after` (time, id), at most `limit`.
    pub fn due(&self, now: i64, after: (i64, i64), limit: usize) -> Vec<Candidate> {
        let mut found = Vec::with_capacity(limit.min(1_024));
        let position = [bigint(after.0), bigint(after.1)];
        let range = Range { equal: &[], from: &position, after: true, to: Some(To::With(bigint(now))) };
        let mut scan = Scan::begin(&self.heap, &self.indexes.due, &range);
        while found.len() < limit {
            let Some(row) = scan.next() else { break };
            if self.status(row) == Some(Status::Pending) {
                let place = Place::Due(row.bigint(self.columns.available_at).unwrap_or_default());
                let (id, bytes) = (self.by_id().id_of(row), self.bytes(row));
                found.push(Candidate { id, bytes, place, tid: Some(row.tid()) });
            }
        }
        found
    }

    /// How jobs stand. A job that does not exist is left out.
    pub fn states(&self, ids: &[i64]) -> Vec<(i64, JobState)> {
        let mut found = Vec::with_capacity(ids.len());
        self.by_id().each(&ascending(ids), |id, row| {
            found.push((id, self.state(row)));
            true
        });
        found
    }

    /// Whether one of `ids` is in progress under `lease`.
    pub fn any_held(&self, ids: &[i64], lease: i64) -> bool {
        let mut is_held = false;
        self.by_id().each(&ascending(ids), |_, row| {
            is_held = self.is_held(row, lease);
            !is_held
        });
        is_held
    }
}
