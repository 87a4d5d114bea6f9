//! Snapshots that qflow chooses itself.

use std::collections::BTreeSet;

use pgrx::pg_sys;

/// Which transactions a snapshot shows: everything below `end` that is not in `running`. Ids in 64 bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Horizon {
    /// First transaction id that the snapshot cannot know (its xmax).
    pub end: u64,
    /// Top-level ids below `end` that had not ended, and the own one.
    pub running: BTreeSet<u64>,
    /// The own top-level id, if one was assigned.
    pub own: Option<u64>,
}

/// The newest snapshot, without anything of the own transaction, made active until this is dropped: what it shows as
/// done was done by others and committed.
pub struct Evidence {
    /// What the snapshot shows.
    pub horizon: Horizon,
}

impl Evidence {
    /// Takes it now.
    pub fn take() -> Self {
        // SAFETY: the copy that is pushed belongs to the active stack until `drop` pops it; setting `curcid` to 0 in it
        // hides all rows of the own transaction and shows again what that one changed.
        let horizon = unsafe {
            pg_sys::PushCopiedSnapshot(pg_sys::GetLatestSnapshot());
            let snapshot = pg_sys::GetActiveSnapshot();
            (*snapshot).curcid = 0;
            horizon_of(snapshot)
        };
        Self { horizon }
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        // SAFETY: pops what `take` pushed; while an error unwinds the abort pops it.
        if !std::thread::panicking() {
            unsafe { pg_sys::PopActiveSnapshot() }
        }
    }
}

/// The newest snapshot, the own transaction's changes included, active until dropped.
pub struct Latest;

impl Latest {
    /// Takes it now.
    pub fn take() -> Self {
        // SAFETY: pushed here, popped by `drop`.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        }
        Self
    }

    /// What it shows.
    pub fn horizon(&self) -> Horizon {
        // SAFETY: the snapshot that `take` pushed is active as long as `self` lives, unless another lies on top of it,
        // which is as valid.
        unsafe { horizon_of(pg_sys::GetActiveSnapshot()) }
    }
}

impl Drop for Latest {
    fn drop(&mut self) {
        // SAFETY: as above.
        if !std::thread::panicking() {
            unsafe { pg_sys::PopActiveSnapshot() }
        }
    }
}

unsafe fn horizon_of(snapshot: pg_sys::Snapshot) -> Horizon {
    // SAFETY: the caller passes a valid MVCC snapshot; `xip` has `xcnt` entries.
    let (end, running) = unsafe {
        let next = super::xact::next_xid();
        let running =
            (0..(*snapshot).xcnt as usize).map(|at| widen(*(*snapshot).xip.add(at), next)).collect::<BTreeSet<u64>>();
        (widen((*snapshot).xmax, next), running)
    };
    let own = super::xact::own_xid();
    let mut horizon = Horizon { end, running, own };
    horizon.running.extend(own);
    horizon
}

/// A 32-bit id of a running or recent transaction in 64 bits, given an id that is not below it.
fn widen(xid: pg_sys::TransactionId, next: u64) -> u64 {
    let xid = u64::from(u32::from(xid));
    let epoch = next & !0xFFFF_FFFF;
    if epoch | xid > next {
        (epoch | xid).wrapping_sub(1 << 32)
    } else {
        epoch | xid
    }
}
