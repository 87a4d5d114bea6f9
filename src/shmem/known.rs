//! What is known of a queue's jobs without looking at them: how many there are, how long those took that were acked, and
//! what its consumers last did. One field of a queue's notes.

use super::acks::{Acks, LastMinute};
use super::consumers::Consumers;
use super::gauges::{Depths, Gauges};

/// What is known of one queue.
#[derive(Default)]
pub struct Known {
    /// How many jobs there are.
    pub gauges: Gauges,
    /// How long acked jobs took.
    pub acks: Acks,
    /// How many were acked lately.
    pub last_minute: LastMinute,
    /// What its consumers last did.
    pub consumers: Consumers,
}

/// What one transaction did to one queue.
#[derive(Default)]
pub struct Change {
    /// Jobs that changed their status.
    pub moves: Depths,
    /// Jobs that it acked.
    pub acked: i64,
    /// How long these took.
    pub acks: Acks,
    /// A workflow with the reason for which a job of it failed, or is to be tried again.
    pub reason: Option<(String, String)>,
}

impl Change {
    /// What came after it in the same transaction.
    pub fn add(&mut self, later: Self) {
        self.moves.add(&later.moves);
        self.acked += later.acked;
        self.acks.add(&later.acks);
        self.reason = later.reason.or_else(|| self.reason.take());
    }
}

impl Known {
    /// A transaction has committed.
    pub fn committed(&mut self, xid: Option<u64>, change: &Change, now: i64) {
        if let Some(xid) = xid {
            self.gauges.moved(xid, &change.moves);
        }
        self.note(change, now);
    }

    /// A transaction was prepared: it may still be rolled back, which nobody tells.
    pub fn prepared(&mut self, xid: Option<u64>, change: &Change, now: i64) {
        if let Some(xid) = xid.filter(|_| change.moves != Depths::default()) {
            self.gauges.prepared(xid);
        }
        self.note(change, now);
    }

    fn note(&mut self, change: &Change, now: i64) {
        self.acks.add(&change.acks);
        self.last_minute.note(change.acked, now);
        if let Some((workflow, reason)) = &change.reason {
            self.consumers.failed(workflow, reason, now);
        }
    }
}
