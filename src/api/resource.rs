//! Resources: making and changing them, who holds what, and ending a lease by hand.

use crate::api::views;
use crate::error::Result;
use crate::host::call::{Call, Name};
use crate::host::rows::Sink;
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::resource::catalog::{self, Kind};
use crate::resource::status;

const RESOURCE: Name = (0, "resource");

crate::entry_points! {
    qflow_create_resource, pg_finfo_qflow_create_resource => create_resource;
    qflow_alter_resource, pg_finfo_qflow_alter_resource => alter_resource;
    qflow_drop_resource, pg_finfo_qflow_drop_resource => drop_resource;
    qflow_break_lease, pg_finfo_qflow_break_lease => break_lease;
    qflow_resource_status_rows, pg_finfo_qflow_resource_status_rows => resource_status_rows;
}

fn create_resource(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.create_resource()");
    let name = call.text(RESOURCE)?;
    let capacity = call.opt_bigint((1, "capacity"), 0)?;
    let kind = call.opt_text((2, "kind"))?.map_or(Ok(Kind::Slots), |word| Kind::parse(&word))?;
    catalog::create(&name, kind, capacity)?;
    Ok(value::boolean(true))
}

fn alter_resource(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.alter_resource()");
    let name = call.text(RESOURCE)?;
    let capacity = call.opt_bigint((1, "capacity"), 0)?;
    Ok(value::boolean(catalog::alter(&name, capacity)?))
}

fn drop_resource(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.drop_resource()");
    catalog::remove(&call.text(RESOURCE)?)?;
    Ok(value::boolean(true))
}

fn break_lease(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.break_lease()");
    let lease = call.required_bigint((0, "lease"), 1)?;
    Ok(value::boolean(crate::resource::breaking::break_lease(lease)?))
}

fn resource_status_rows(call: &Call) -> Result<Arg> {
    let sink = Sink::open(call)?;
    let may_see = views::visible_queues()?;
    for line in status::lines()? {
        let is_seen = line.queue.is_some_and(|queue| may_see.contains(&queue));
        let shown = |text: &Option<String>| text.as_deref().filter(|_| is_seen).and_then(value::text_for_people);
        sink.put(&[
            value::text_for_people(&line.resource),
            value::text(line.kind.as_str()),
            line.capacity.and_then(value::bigint),
            line.slot.and_then(value::bigint),
            line.units.and_then(value::bigint),
            line.lease.and_then(value::bigint),
            shown(&line.workflow),
            shown(&line.worker),
            line.pid.and_then(value::int),
            line.since.and_then(value::timestamp),
            line.deadline.and_then(value::timestamp),
        ]);
    }
    Ok(None)
}
