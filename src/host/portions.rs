//! A procedure that takes long and holds nothing meanwhile: it works in portions, and between two of them this session
//! has no snapshot and no transaction id, and no lock that a portion took.

use pgrx::pg_sys;

use super::call::Call;
use super::identity::Settings;
use super::{subtransaction, xact};
use crate::error::{Error, Result};

/// How long a portion waits for a lock that somebody holds, milliseconds: while it does, it may hold a snapshot.
const PATIENCE: (i32, &std::ffi::CStr) = (10, c"10ms");

/// Where the call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// Where it may commit: each portion is a transaction of its own.
    Outside,
    /// In a transaction block: each portion is a subtransaction, rolled back.
    Block,
}

/// A call that works in portions.
pub struct Portions {
    ground: Ground,
}

impl Portions {
    /// Lets go of what the call came with. Where it may commit, it does; else the call must come straight from the client,
    /// in a READ COMMITTED block that has no transaction id and no snapshot of its own. 25001 otherwise.
    pub fn begin(call: &Call) -> Result<Self> {
        if xact::own_xid().is_some() {
            return Err(refused("The transaction has a transaction id: it has changed or locked something."));
        }
        let ground = if may_commit(call) { Ground::Outside } else { Ground::Block };
        match ground {
            Ground::Outside => open_outside()?,
            Ground::Block => let_go_of_portal()?,
        }
        let portions = Self { ground };
        portions.let_go()?;
        Ok(portions)
    }

    /// Runs a portion, which only looks; `None` when a lock that it needed was not to be had. It runs at READ COMMITTED and
    /// sees the newest state of the database; its memory is freed after it.
    pub fn run<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
        if self.ground == Ground::Outside {
            read_committed();
        }
        let outcome = in_memory_of_its_own(|| {
            subtransaction::look(|| {
                // SAFETY: takes in what others changed, also where the block held its locks before.
                unsafe { pg_sys::AcceptInvalidationMessages() };
                let _patience = is_patient().then(|| Settings::change(&[(c"lock_timeout", PATIENCE.1)]));
                let _snapshot = super::snapshot::Latest::take();
                work()
            })
        })?;
        self.let_go()?;
        Ok(outcome)
    }

    /// Runs what writes, at READ COMMITTED, and commits it, where the call may commit; in a block nothing.
    pub fn write(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.ground == Ground::Block {
            return Ok(());
        }
        read_committed();
        in_memory_of_its_own(|| {
            let _snapshot = super::snapshot::Latest::take();
            work()
        })?;
        self.let_go()
    }

    /// Nothing is held after this; 25001 where something stays.
    fn let_go(&self) -> Result<()> {
        // SAFETY: outside of a block the call may commit (`begin` has seen to that), and SPI was opened for it; before
        // 14.3 the next transaction had to be started by hand, since then this does nothing.
        unsafe {
            if self.ground == Ground::Outside {
                pg_sys::SPI_commit();
                pg_sys::SPI_start_transaction();
            }
            pg_sys::InvalidateCatalogSnapshot();
        }
        if xact::own_xid().is_some() {
            return Err(refused("Something that a look at the queue calls has taken a transaction id."));
        }
        if xact::holds_snapshot() {
            return Err(refused("The transaction holds a snapshot: a cursor is open, for example."));
        }
        Ok(())
    }

    /// The end of the call; while an error goes its way the abort does this.
    pub fn end(self) -> Result<()> {
        if self.ground == Ground::Outside {
            // SAFETY: closes what `begin` opened.
            check(unsafe { pg_sys::SPI_finish() }, "SPI_finish")?;
        }
        Ok(())
    }
}

/// For the transaction of a portion, which has just begun, as `let_go` left it.
fn read_committed() {
    // SAFETY: no snapshot was taken in the transaction yet.
    unsafe { pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32 };
}

/// Whether the call may commit: not in a block, and not called from what cannot.
fn may_commit(call: &Call) -> bool {
    // SAFETY: `context` is NULL or a node; that of a CALL is checked by its tag before it is read as one.
    unsafe {
        let context = (*call.raw()).context;
        !context.is_null()
            && (*context).type_ == pg_sys::NodeTag::T_CallContext
            && !(*context.cast::<pg_sys::CallContext>()).atomic
    }
}

fn open_outside() -> Result<()> {
    // SAFETY: closed by `end`, or by the abort when an error is raised.
    check(unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) }, "SPI_connect_ext")
}

/// In a transaction block: gives back the snapshot that the server took for this call.
fn let_go_of_portal() -> Result<()> {
    let nested = || refused("It is called inside a function, a DO block or another procedure.");
    // SAFETY: the portal that runs this call lives as long as the call; whoever called in between has pushed a snapshot of
    // his own above the portal's. The server takes a portal without a snapshot as one that let go of it.
    unsafe {
        let portal = pg_sys::ActivePortal;
        let is_ours = pg_sys::IsTransactionBlock()
            && !portal.is_null()
            && pg_sys::ActiveSnapshotSet()
            && pg_sys::GetActiveSnapshot() == (*portal).portalSnapshot;
        if !is_ours {
            return Err(nested());
        }
        if !xact::is_read_committed() {
            return Err(refused("The transaction is not READ COMMITTED: its snapshot stays until it ends."));
        }
        pg_sys::PopActiveSnapshot();
        (*portal).portalSnapshot = std::ptr::null_mut();
        match pg_sys::ActiveSnapshotSet() {
            true => Err(nested()),
            false => Ok(()),
        }
    }
}

/// Whether the user lets statements wait longer for a lock than a portion may.
fn is_patient() -> bool {
    // SAFETY: a plain value of the own process; 0 stands for ever.
    let own = unsafe { pg_sys::LockTimeout };
    own == 0 || own > PATIENCE.0
}

fn in_memory_of_its_own<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the context is deleted when nothing points into it any more: what `work` answers is no memory of the
    // server's. When an error goes its way instead, it is deleted with the one above it.
    unsafe {
        let above = pg_sys::CurrentMemoryContext;
        let own = pg_sys::AllocSetContextCreateInternal(
            above,
            c"qflow portion".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        pg_sys::MemoryContextSwitchTo(own);
        let done = work();
        pg_sys::MemoryContextSwitchTo(above);
        pg_sys::MemoryContextDelete(own);
        done
    }
}

fn check(code: i32, call: &str) -> Result<()> {
    if code < 0 {
        return Err(Error::internal(format!("{call} failed with code {code}")));
    }
    Ok(())
}

/// 25001.
fn refused(why: &str) -> Error {
    Error::in_transaction("qflow.wait cannot let go of its transaction here")
        .detail(why)
        .hint("Call it outside of a transaction block, or as the first statement of a READ COMMITTED one.")
}
