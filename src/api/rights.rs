//! Granting and taking back what producers, consumers and monitors need.

use pgrx::pg_sys;

use crate::error::Result;
use crate::host::call::{Call, Name};
use crate::host::value::Arg;
use crate::host::xact;
use crate::queue::cache;
use crate::queue::rights::{self, Part, Role};

const QUEUE: Name = (0, "queue");
const ROLE: Name = (1, "role");
/// What a function without a result answers: not NULL.
const VOID: Arg = Some(pg_sys::Datum::null());

crate::entry_points! {
    qflow_grant_producer, pg_finfo_qflow_grant_producer => grant_producer;
    qflow_grant_consumer, pg_finfo_qflow_grant_consumer => grant_consumer;
    qflow_grant_monitor, pg_finfo_qflow_grant_monitor => grant_monitor;
    qflow_revoke_producer, pg_finfo_qflow_revoke_producer => revoke_producer;
    qflow_revoke_consumer, pg_finfo_qflow_revoke_consumer => revoke_consumer;
    qflow_revoke_monitor, pg_finfo_qflow_revoke_monitor => revoke_monitor;
}

fn grant_producer(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.grant_producer()");
    grant(call, Part::Producer)
}

fn grant_consumer(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.grant_consumer()");
    grant(call, Part::Consumer)
}

fn grant_monitor(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.grant_monitor()");
    grant(call, Part::Monitor)
}

fn revoke_producer(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.revoke_producer()");
    revoke(call, Part::Producer)
}

fn revoke_consumer(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.revoke_consumer()");
    revoke(call, Part::Consumer)
}

fn revoke_monitor(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.revoke_monitor()");
    revoke(call, Part::Monitor)
}

/// A table without all of a queue's columns is refused: what is granted would not be enough.
fn grant(call: &Call, part: Part) -> Result<Arg> {
    let (queue, role) = (call.text(QUEUE)?, call.text(ROLE)?);
    let queue = cache::queue_named(&queue)?;
    rights::grant(&queue.row, part, &Role::named(&role)?)?;
    Ok(VOID)
}

/// Whatever has become of the table's columns: rights can always be taken back.
fn revoke(call: &Call, part: Part) -> Result<Arg> {
    let (queue, role) = (call.text(QUEUE)?, call.text(ROLE)?);
    let row = cache::registered(&queue)?;
    rights::revoke(&row, part, &Role::named(&role)?)?;
    Ok(VOID)
}
