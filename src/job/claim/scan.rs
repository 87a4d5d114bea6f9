//! Going through the segments of a floor, a few jobs at a time.

use crate::error::Result;
use crate::host::heap::row::Row;
use crate::host::spi::{Mode, Spi};
use crate::job::direct::Direct;
use crate::job::floor::{Key, Seen, Segment};
use crate::job::table::{Candidate, JobTable, Place};

/// How far a scan has come, and what it has met.
pub struct Scan {
    segments: Vec<Segment>,
    /// What is left of each segment: its end once the scan is through.
    rest: Vec<Option<Key>>,
    /// Everything found so far, in order.
    pub found: Vec<Candidate>,
}

impl Scan {
    /// A scan that has not begun.
    pub fn new(segments: Vec<Segment>) -> Self {
        let rest = segments.iter().map(|segment| (segment.from < segment.to).then_some(segment.from)).collect();
        Self { segments, rest, found: Vec::new() }
    }

    /// True when all segments have been seen to their ends.
    pub fn is_complete(&self) -> bool {
        self.rest.iter().all(Option::is_none)
    }

    /// The segments, as they were at the beginning.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Looks for at most `limit` more.
    pub fn go_on(&mut self, spi: &Spi, jobs: &JobTable, limit: usize, mode: Mode) -> Result<()> {
        let (places, left) = self.left();
        if !left.is_empty() {
            let (more, has_stopped) = jobs.scan(spi, &left, limit, mode)?;
            self.note(&places, more, has_stopped);
        }
        Ok(())
    }

    /// Goes on, with the active snapshot, until `visit` has enough. It gets each candidate while the scan stands on its row.
    pub fn visit(&mut self, direct: &Direct, visit: impl FnMut(&Candidate, &Row) -> Result<bool>) -> Result<()> {
        let (places, left) = self.left();
        if !left.is_empty() {
            let (more, has_stopped) = JobTable::visit(direct, &left, visit)?;
            self.note(&places, more, has_stopped);
        }
        Ok(())
    }

    /// What is left of the segments, and which ones these are.
    fn left(&self) -> (Vec<usize>, Vec<Segment>) {
        let rest = self.rest.iter().enumerate();
        rest.filter_map(|(at, rest)| rest.map(|from| (at, Segment { from, ..self.segments[at] }))).unzip()
    }

    /// Notes what was found in these segments: in all of them, or as far as the last one found.
    fn note(&mut self, places: &[usize], more: Vec<Candidate>, has_stopped: bool) {
        let last = more.last().and_then(fresh_place).filter(|_| has_stopped);
        for (at, place) in places.iter().enumerate() {
            self.rest[*place] = match last {
                Some((segment, _)) if at > segment => continue,
                Some((segment, key)) if at == segment => {
                    Some(key.next()).filter(|from| *from < self.segments[*place].to)
                }
                _ => None,
            };
        }
        self.found.extend(more.into_iter().map(|candidate| placed(candidate, places)));
    }

    /// What was seen of each segment; `is_stuck` tells of a job by its id.
    pub fn seen(&self, is_stuck: impl Fn(i64) -> bool) -> Vec<Seen> {
        let mut seen: Vec<Seen> =
            self.rest.iter().map(|rest| Seen { rows: Vec::new(), complete: rest.is_none() }).collect();
        for candidate in &self.found {
            if let Some((segment, key)) = fresh_place(candidate) {
                seen[segment].rows.push((key, is_stuck(candidate.id)));
            }
        }
        seen
    }

    /// Whether the scan has gone past a position of a segment.
    pub fn has_passed(&self, segment: usize, key: Key) -> bool {
        self.rest.get(segment).is_none_or(|rest| rest.is_none_or(|from| from > key))
    }
}

/// Segment and key of a fresh candidate.
pub fn fresh_place(candidate: &Candidate) -> Option<(usize, Key)> {
    match candidate.place {
        Place::Fresh(segment, key) => Some((segment, key)),
        Place::Due(_) => None,
    }
}

fn placed(candidate: Candidate, places: &[usize]) -> Candidate {
    match candidate.place {
        Place::Fresh(at, key) => Candidate { place: Place::Fresh(places[at], key), ..candidate },
        Place::Due(_) => candidate,
    }
}
