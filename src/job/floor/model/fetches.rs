//! What a fetch does, from its evidence to its claims; between the two anything may happen elsewhere.

use super::*;

impl World {
    pub(super) fn evidence(&self, session: usize) -> Horizon {
        let own = self.sessions[session].own;
        let running = self.running.iter().copied().filter(|xid| *xid < self.end || Some(*xid) == own).collect();
        Horizon { end: self.end, running, own }
    }

    pub(super) fn shows(&self, horizon: &Horizon, row: usize) -> bool {
        let row = &self.rows[row];
        !is_running(horizon, row.key.xid) && row.gone_by.is_none_or(|xid| is_running(horizon, xid))
    }

    fn shown(&self, horizon: &Horizon, segment: &Segment, from: Key) -> Vec<usize> {
        let Segment { priority, to, .. } = *segment;
        assert!(from <= to, "seed {}: a segment ends before it begins: {segment:?}", self.seed);
        let rows = self.index.range((priority, from)..(priority, to)).map(|(_, row)| *row);
        rows.filter(|row| self.shows(horizon, *row)).collect()
    }

    /// What lies behind row number `reached` of a scan is looked at with a newer snapshot.
    fn look_again(&mut self, session: usize, fetch: &mut Fetch, reached: usize) {
        let newer = self.evidence(session);
        let mut left = reached;
        for (segment, shown) in fetch.segments.iter().zip(&mut fetch.shown) {
            let kept = shown.len().min(left);
            if kept == left {
                shown.truncate(kept);
                let from = shown.last().map_or(segment.from, |row| self.rows[*row].key.next());
                shown.extend(self.shown(&newer, segment, from));
                if shown.iter().any(|row| is_running(&fetch.horizon, self.rows[*row].key.xid)) {
                    self.met.insert("newer snapshot showed rows of a transaction that ran");
                }
            }
            left -= kept;
        }
    }

    pub(super) fn start_fetch(&mut self, session: usize, floor: Floor, horizon: Horizon) {
        let limit = horizon.own.map_or(horizon.end, |_| self.next_xid + 1);
        let segments = floor.segments(&horizon, limit);
        let shown = segments.iter().map(|segment| self.shown(&horizon, segment, segment.from)).collect();
        let fetch = Fetch { floor, horizon, segments, shown };
        self.check_reach(&fetch);
        self.sessions[session].fetch = Some(fetch);
    }

    /// What a scan returns that ends with its row number `limit`.
    fn scan(&mut self, fetch: &Fetch, limit: usize) -> Vec<Seen> {
        let mut left = limit;
        let mut seen = Vec::new();
        for (segment, shown) in fetch.segments.iter().zip(&fetch.shown) {
            let rows: Vec<(Key, bool)> = shown.iter().take(left).map(|row| (self.rows[*row].key, false)).collect();
            let complete = rows.len() < left;
            left -= rows.len();
            if !complete && !rows.is_empty() {
                self.met.insert("scan stopped at its limit");
                if matches!(segment.reason, Reason::Skipped(_)) {
                    self.met.insert("scan stopped inside a run");
                }
            }
            seen.push(Seen { rows, complete });
        }
        seen
    }

    /// Index entries, those of done rows included, from the start of each segment to where the scan came.
    fn entries(&self, fetch: &Fetch, seen: &[Seen]) -> usize {
        let walked = |(segment, seen): (&Segment, &Seen)| {
            let last = seen.rows.last().map_or(segment.from, |(key, _)| key.next());
            let to = if seen.complete { segment.to } else { last };
            self.index.range((segment.priority, segment.from)..(segment.priority, to)).count()
        };
        fetch.segments.iter().zip(seen).map(walked).sum()
    }

    /// Claims of what the scan returned; what was tried in vain is stuck. A row may also be out of reach for reasons
    /// that the model does not know, such as a statement's older snapshot.
    fn claim_seen(&mut self, session: usize, fetch: &Fetch, seen: &mut [Seen], demand: usize, blind: usize) -> usize {
        let mut claimed = 0;
        for (shown, seen) in fetch.shown.iter().zip(seen) {
            for (row, (_, stuck)) in shown.iter().zip(&mut seen.rows) {
                if claimed == demand {
                    return claimed;
                }
                let free = self.rows[*row].holder.is_none() && self.rows[*row].gone_by.is_none();
                if free && (blind == 0 || !self.dice.one_in(blind)) {
                    self.hold(session, *row, Kind::Claim);
                    claimed += 1;
                } else {
                    *stuck = true;
                }
            }
        }
        claimed
    }

    fn claim_inserted(&mut self, session: usize, fetch: &Fetch, demand: usize) -> usize {
        let Some(own) = self.sessions[session].own else { return 0 };
        let mut claimed = 0;
        let inserted: Vec<usize> = self.alive.iter().copied().filter(|row| self.rows[*row].key.xid == own).collect();
        for row in inserted {
            self.check_once(fetch, row);
            if claimed < demand && self.rows[row].holder.is_none() {
                self.hold(session, row, Kind::Claim);
                self.met.insert("row claimed that the own transaction inserted");
                claimed += 1;
            }
        }
        claimed
    }

    pub(super) fn finish_fetch(&mut self, session: usize, demand: usize, limit: usize, blind: usize) -> usize {
        let mut fetch = self.sessions[session].fetch.take().unwrap();
        if fetch.horizon.own.is_none() && self.dice.one_in(2) {
            let reached = self.dice.below(limit);
            self.look_again(session, &mut fetch, reached);
        }
        let mut seen = self.scan(&fetch, limit);
        self.walked = self.walked.map(|_| self.entries(&fetch, &seen));
        let mut claimed = self.claim_seen(session, &fetch, &mut seen, demand, blind);
        claimed += self.claim_inserted(session, &fetch, demand - claimed);
        if self.dice.one_in(4) {
            let reached = seen.iter().rposition(|seen| seen.complete || !seen.rows.is_empty()).map_or(0, |at| at + 1);
            seen.truncate(reached);
        }
        let next = fetch.floor.advanced(&fetch.horizon, &fetch.segments, &seen);
        self.check_next(&fetch, &next);
        self.note_moved(&fetch, &next);
        self.sessions[session].moved |= next != fetch.floor;
        self.sessions[session].floor = next;
        claimed
    }

    pub(super) fn fetch(&mut self, session: usize, demand: usize, limit: usize) -> usize {
        let horizon = self.evidence(session);
        let floor = self.sessions[session].floor.clone();
        self.start_fetch(session, floor, horizon);
        self.finish_fetch(session, demand, limit, 0)
    }
}
