//! What transactions do: insert, hold, end, prepare, roll back to a savepoint.

use super::*;

impl World {
    pub(super) fn own(&mut self, session: usize) -> u64 {
        if let Some(own) = self.sessions[session].own {
            return own;
        }
        let own = self.next_xid;
        self.next_xid += 1;
        self.running.insert(own);
        self.sessions[session].own = Some(own);
        own
    }

    pub(super) fn id(&mut self) -> i64 {
        if !self.drawn.is_empty() && self.dice.one_in(3) {
            let at = self.dice.below(self.drawn.len());
            return self.drawn.swap_remove(at);
        }
        self.next_id += 1 + self.dice.below(self.style.id_step) as i64;
        if self.dice.one_in(6) {
            self.drawn.push(self.next_id);
            self.next_id += 1;
        }
        self.next_id
    }

    pub(super) fn insert(&mut self, session: usize, priority: usize, id: i64) -> usize {
        let key = Key { xid: self.own(session), id };
        let row = self.rows.len();
        self.rows.push(Row { priority, key, holder: None, gone_by: None, claims: 0 });
        self.index.insert((priority, key), row);
        self.alive.insert(row);
        self.sessions[session].log.push(Act::Insert(row));
        self.check_row(row);
        row
    }

    pub(super) fn hold(&mut self, session: usize, row: usize, kind: Kind) {
        let own = self.own(session);
        assert_eq!(self.rows[row].holder, None);
        self.rows[row].holder = Some((own, kind));
        self.sessions[session].log.push(Act::Hold(row));
    }

    fn undo(&mut self, acts: Vec<Act>) {
        for act in acts.into_iter().rev() {
            match act {
                Act::Hold(row) => self.rows[row].holder = None,
                Act::Insert(row) => {
                    self.index.remove(&(self.rows[row].priority, self.rows[row].key));
                    self.alive.remove(&row);
                }
            }
        }
    }

    fn make_true(&mut self, acts: Vec<Act>) {
        for act in acts {
            let Act::Hold(row) = act else { continue };
            let (xid, kind) = self.rows[row].holder.take().unwrap();
            if kind != Kind::Lock {
                self.rows[row].gone_by = Some(xid);
                self.rows[row].claims += u32::from(kind == Kind::Claim);
                self.alive.remove(&row);
            }
        }
    }

    fn finish(&mut self, xid: u64, acts: Vec<Act>, commit: bool) {
        self.running.remove(&xid);
        self.end = self.end.max(xid + 1);
        if commit {
            self.make_true(acts);
        } else {
            self.undo(acts);
        }
    }

    pub(super) fn end(&mut self, session: usize, commit: bool) {
        let acts = std::mem::take(&mut self.sessions[session].log);
        if let Some(xid) = self.sessions[session].own.take() {
            self.note_undone(session, if commit { &[] } else { &acts });
            self.finish(xid, acts, commit);
        }
        self.sessions[session].moved = false;
    }

    pub(super) fn prepare(&mut self, session: usize) {
        let acts = std::mem::take(&mut self.sessions[session].log);
        if let Some(xid) = self.sessions[session].own.take() {
            self.prepared.push((xid, acts));
        }
        self.sessions[session].moved = false;
    }

    pub(super) fn end_prepared(&mut self, at: usize, commit: bool) {
        let (xid, acts) = self.prepared.swap_remove(at);
        self.finish(xid, acts, commit);
    }

    pub(super) fn roll_back_to_savepoint(&mut self, session: usize) {
        let keep = self.dice.below(self.sessions[session].log.len() + 1);
        let acts = self.sessions[session].log.split_off(keep);
        self.note_undone(session, &acts);
        self.undo(acts);
    }
}
