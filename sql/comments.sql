-- What \df+, \d+ and \dn+ say about qflow: what a thing returns, units and ranges, locks, rights and SQLSTATEs.
-- Errors that PostgreSQL itself raises (40001, 40P01, 57014, 55P03 by lock_timeout, 25006 ...) can come from every
-- function and are not repeated.

COMMENT ON SCHEMA qflow IS
'Durable work queues: a queue is a plain table, consumers fetch its jobs in batches and settle each one. Durations are
milliseconds in bigint, ids and leases bigint, everything structured jsonb. NULL for an argument with a default means
"not given". Functions run with the rights of the caller: INSERT on the queue table to produce, SELECT and UPDATE to
consume, ownership to administer.';

-- Queues

COMMENT ON FUNCTION qflow.create_queue(text, bigint, bigint, bigint, bigint, bigint, text, boolean, text) IS
'Makes a queue table, with its indexes, checks and triggers, or adopts a table that exists: it needs id (integer or
bigint, unique, with a default), data jsonb and a text status; rows and objects of its owner stay, what the queue lacks is
added. Registers one workflow for it: workflow, or else the name of the table. Returns the qualified name of the table,
quoted where needed.
queue: read like a table name; without a schema it is looked for and made in the current one. The caller becomes owner of
a new table, and must own one that exists.
timeout_ms (from 1), retries (from 0), batch_size (from 1): NULL leaves them to the settings qflow.default_*.
retention_ms, failed_retention_ms (from 1): completed and failed jobs that have not changed (updated_at) for as long are
removed, a step with each reap(); NULL keeps them.
on_complete: keep, or delete: then ack deletes the job. if_not_exists: an existing queue is returned unchanged.
Locks: ACCESS EXCLUSIVE on the table, on one that exists while indexes are built and rows looked at; SHARE UPDATE
EXCLUSIVE on the registry; both until the end of the transaction, so calls that make queues wait for each other. Needs
CREATE on the schema for a new table; where the queue exists, the right to consume.
Errors: 22004 NULL, 22023 bad value, 42501 right missing or not the owner, 42704 no schema to make it in, 42710 queue or
workflow exists, 42804 a column of another type, 42809 it cannot become a queue, or the schema is a system''s, 55000 the
table was replaced or dropped while its lock was waited for.';

COMMENT ON FUNCTION qflow.alter_queue(text, bigint, bigint, bigint, bigint, bigint, text) IS
'Changes settings of a queue; NULL leaves a setting as it is. Returns true when something changed. Workflows that have a
value of their own keep it; leases that exist keep theirs. Units and ranges as in create_queue.
retention_ms, failed_retention_ms: what is old by them is removed by the next calls of reap(), and does not come back.
on_complete delete: consumers need DELETE on the table from then on, of which a NOTICE reminds; see grant_consumer.
Locks the row of the queue in the registry until the end of the transaction. Needs ownership of the table.
Errors: 22004 NULL, 22023 bad value, 42501 not the owner, 42704 unknown queue.';

COMMENT ON FUNCTION qflow.drop_queue(text, boolean) IS
'Removes a queue, its workflows and its leases. Returns true. keep_table true (default): the table stays with all its
rows as an ordinary table, without the triggers and the default of qflow; false: the table is dropped.
Locks: ACCESS EXCLUSIVE on the table either way, and the row of the queue in the registry until the end of the
transaction. Needs ownership of the table.
Errors: 22004 NULL, 42501 not the owner, 42704 unknown queue, 55000 keep_table false on an adopted table.';

COMMENT ON FUNCTION qflow.pause_queue(text) IS
'Pauses a queue: fetch returns no rows, for all its workflows. Producers and settles go on. Returns true when something
changed, false when it was paused already. Locks the row of the queue in the registry until the end of the transaction.
Needs ownership of the table. Errors: 22004 NULL, 42501 not the owner, 42704 unknown queue.';

COMMENT ON FUNCTION qflow.resume_queue(text) IS
'Ends a pause of a queue. Returns true when something changed, false when it was not paused. Locks the row of the queue
in the registry until the end of the transaction.
Needs ownership of the table. Errors: 22004 NULL, 42501 not the owner, 42704 unknown queue.';

COMMENT ON FUNCTION qflow.purge_queue(text, text, bigint) IS
'Deletes jobs. Returns how many. status: NULL takes completed and failed; else completed, failed or pending.
older_than_ms (from 0): only jobs whose last change (updated_at) is at least that old; NULL takes retention_ms of the
queue for completed jobs, failed_retention_ms for failed ones, and 0 where there is none, that is all of them.
Locks: ROW EXCLUSIVE on the table and each deleted row. Needs ownership of the table.
Errors: 22004 NULL, 22023 bad value, 42501 not the owner, 42704 unknown queue.';

COMMENT ON FUNCTION qflow.retry_failed(text, bigint[]) IS
'Makes failed jobs pending again, with fresh attempts, to be fetched at once. Returns how many it changed. ids: the
jobs; NULL takes all failed ones, an empty array none; ids of jobs that are not failed are passed over.
Locks: ROW EXCLUSIVE on the table and each changed row. Needs ownership of the table.
Errors: 22004 NULL queue or a NULL in ids, 22023 more than one dimension, 42501 not the owner, 42704 unknown queue,
54000 more ids than qflow.max_ids.';

-- Workflows

COMMENT ON FUNCTION qflow.create_workflow(text, text, bigint, bigint, bigint, bigint, jsonb, bigint, bigint, boolean) IS
'Registers a workflow: a named consumer configuration bound to one queue. Returns true when this call made it.
workflow: 1 to 63 bytes, no control characters, unique in the database. timeout_ms (from 1): how long a lease holds;
retries (from 0): max_attempts is retries + 1; batch_size (from 1); concurrency (from 1): advice to clients;
resource_hints: an object, laid under the hints of each fetch; retry_delay_ms (from 0) doubles with each attempt up to
retry_max_delay_ms (from 1). NULL: the value of the queue, else the setting qflow.default_*.
if_not_exists: false for the same name on the same queue, settings untouched, with a NOTICE where they differ.
Locks the row of the workflow in the registry until the end of the transaction. Needs ownership of the table; with
if_not_exists and nothing to make, the right to consume.
Errors: 22004 NULL, 22023 bad value, also hints that ask for more than there can be, 42501 right missing, 42704 unknown
queue or resource, 42710 the name is taken, 54000 too many resources, 55000 hints that bind to the session without
preload.';

COMMENT ON FUNCTION qflow.alter_workflow(text, bigint, bigint, bigint, bigint, jsonb, bigint, bigint) IS
'Changes settings of a workflow; NULL leaves a setting as it is. Returns true when something changed. Leases that exist
keep the settings that they began with. Units and ranges as in create_workflow.
Locks the row of the workflow in the registry until the end of the transaction. Needs ownership of the queue table.
Errors: 22004 NULL, 22023 bad value, 42501 not the owner, 42704 unknown workflow or resource, 54000 too many resources,
55000 hints that bind to the session without preload.';

COMMENT ON FUNCTION qflow.drop_workflow(text) IS
'Removes a workflow from the registry. Returns true. The queue and its jobs stay; jobs in progress under it cannot be
settled any more, and come back when their lease expires. Locks the row of the workflow in the registry until the end
of the transaction. Needs ownership of the queue table. Errors: 22004 NULL, 42501 not the owner, 42704 unknown
workflow.';

COMMENT ON FUNCTION qflow.pause_workflow(text) IS
'Pauses a workflow: its fetch returns no rows; other workflows of the queue and all settles go on. Returns true when
something changed, false when it was paused already. Locks the row of the workflow in the registry until the end of the
transaction. Needs ownership of the queue table. Errors: 22004 NULL, 42501 not the owner, 42704 unknown workflow.';

COMMENT ON FUNCTION qflow.resume_workflow(text) IS
'Ends a pause of a workflow. Returns true when something changed, false when it was not paused. Locks the row of the
workflow in the registry until the end of the transaction.
Needs ownership of the queue table. Errors: 22004 NULL, 42501 not the owner, 42704 unknown workflow.';

-- Producing

COMMENT ON FUNCTION qflow.enqueue(text, jsonb, jsonb, bigint, bigint) IS
'Adds one pending job and returns its id. Does what a plain INSERT into the table does. priority: 0 to 9, lower first.
delay_ms (from 0): how long from now before it can be fetched.
Locks: ROW EXCLUSIVE on the table. Needs INSERT on the table and USAGE on the sequence of its id, if there is one.
Errors: 22004 NULL, 22023 bad value, 42501 right missing, 42704 unknown queue, 54000 data or metadata larger than
qflow.max_payload_bytes; 23514 larger than that was when the queue was made, or what checks of your own refuse.';

COMMENT ON FUNCTION qflow.enqueue_batch(text, jsonb[], jsonb[], bigint, bigint) IS
'Adds one pending job for each element of data and returns their ids in the same order. metadata: NULL, or one element
for each job. priority (0 to 9, lower first) and delay_ms (from 0) count for all. An empty array adds nothing.
Locks: ROW EXCLUSIVE on the table. Needs INSERT on the table and USAGE on the sequence of its id, if there is one.
Errors: 22004 NULL, also inside an array, 22023 bad value, more than one dimension or arrays of different length, 42501
right missing, 42704 unknown queue, 54000 a job or the number of jobs over its cap.';

-- Consuming

COMMENT ON FUNCTION qflow.fetch(text, bigint, bigint, jsonb) IS
'Claims up to demand jobs and returns them under one lease; no rows when there is nothing to do or the queue or workflow
is paused. Due jobs come first, but take at most half of the demand, rounded up, while fresh ones wait; fresh ones come
by priority, then in order of arrival. Each claim charges one attempt when the transaction commits.
demand and batch_size are 1 to qflow.max_demand; demand NULL takes batch_size, batch_size NULL the value of the
workflow. hints: an object, laid over the hints of the workflow key by key; timeout_ms in it sets how long this lease
holds; names of resources ask for slots or units, all or none, held until the last job of the lease is settled. Where
they are busy: no rows after at most wait_ms (0 to 1000), or 55P03 with on_busy error; nothing is claimed then.
Columns: batch_no counts batches from 1; attempt and max_attempts; lease, to be handed back when settling; lease_until,
the deadline; failure_reason of the last attempt; resources, the slots by number and the units taken, NULL without.
Locks: ROW EXCLUSIVE on the table, each claimed row FOR NO KEY UPDATE SKIP LOCKED: it never waits for a row. One that
finds nothing writes nothing. At READ COMMITTED, at most once a second and session, it also takes back up to 64 jobs of
expired leases of the queue and sweeps a chunk of it, as the owner of the table.
Always claims in full, also below LIMIT. Needs SELECT and UPDATE on the table.
Errors: 22004 NULL, 22023 bad value, 42501 right missing, 42704 unknown workflow or resource, 54000 over a cap, 55000 a
column of the queue is gone, or bind or hold session without the preloaded library, 55P03 busy.';

COMMENT ON PROCEDURE qflow.wait(text, bigint, jsonb) IS
'Waits until a fetch by this workflow with these hints would probably bring rows (a job is due, neither queue nor
workflow is paused, the resources are free and no other waiter comes first), or until timeout_ms (from 0, one look, to qflow.max_wait_ms; NULL: 1000) have passed. Takes nothing;
what it saw, another may fetch first. hints: as in fetch.
While it waits it holds no snapshot, no transaction id and no lock of its own. Outside of a transaction block it commits,
each look is a transaction; in a block it must be READ COMMITTED, without a transaction id and without open cursors.
Looks when it is woken, every second, and when the next job with a delay is due; without preload every
qflow.poll_interval_ms instead. A table that somebody locks is
looked at later. Ends with the connection when the client is gone, seen at the next look.
Needs SELECT and UPDATE on the table, as fetch does.
Errors: 22004 NULL, 22023 bad value, 25001 it cannot let go of the transaction, 25006 read-only, 42501 right missing,
42704 unknown workflow or resource, also when it is dropped meanwhile, 54000 over a cap, 55000 bind or hold without
preload.';

COMMENT ON FUNCTION qflow.ack(text, bigint[], bigint[], boolean) IS
'Settles jobs as completed (on_complete delete: deletes them). Returns how many distinct (id, lease) pairs were applied
or had been acked before under the same lease; others are stale or unknown and are left alone.
leases: one element for all ids, or one for each. strict: raises 55000 when any pair is not accepted, so that the
transaction that holds the effects of the job aborts with it.
Locks lease rows ascending, then job rows ascending, waiting for each. Needs SELECT and UPDATE on the table (and DELETE
with on_complete delete).
Errors: 22004 NULL, also inside an array, and NULL leases while qflow.allow_unfenced is off; 22023 lengths that do not
match; 42501 right missing; 42704 unknown workflow; 54000 more ids than qflow.max_ids; 55000 strict.';

COMMENT ON FUNCTION qflow.ack_and_fetch(text, bigint[], bigint[], bigint, bigint, jsonb) IS
'Settles jobs as completed, then claims others and returns them as fetch does, all or nothing: where a pair is not
accepted, or the fetch fails, nothing is acked and nothing claimed. Jobs acked before under the same lease are accepted.
No rows when the jobs are acked and there is nothing to do, or the queue or workflow is paused. ids empty: a plain fetch.
ids and leases: as in ack with strict; demand, batch_size, hints and the columns: as in fetch. What the acked leases held
is free for this fetch, which takes its place behind those who wait for it.
Locks lease rows ascending, then job rows ascending, waiting for each; then as fetch. Needs SELECT and UPDATE on the table
(and DELETE with on_complete delete).
Errors: 22004 NULL, also inside an array, and NULL leases while qflow.allow_unfenced is off; 22023 bad value or lengths
that do not match; 42501 right missing; 42704 unknown workflow or resource; 54000 over a cap; 55000 a pair is not
accepted, a column of the queue is gone, or bind or hold session without the preloaded library; 55P03 busy.';

COMMENT ON FUNCTION qflow.requeue(text, bigint[], bigint[], text, bigint) IS
'Settles jobs that could not be done: pending again after a delay, or failed when no attempt is left. Returns how many
distinct (id, lease) pairs were applied, those that failed for want of attempts included, or were requeued before.
reason is kept in failure_reason, cut at 8 kB. delay_ms (from 0): NULL takes the back-off of the workflow, which
doubles from retry_delay_ms to retry_max_delay_ms with up to 25 % jitter.
Locks lease rows ascending, then job rows ascending, waiting for each. Needs SELECT and UPDATE on the table.
Errors: 22004 NULL, also inside an array, and NULL leases while qflow.allow_unfenced is off; 22023 bad value; 42501
right missing; 42704 unknown workflow; 54000 more ids than qflow.max_ids.';

COMMENT ON FUNCTION qflow.fail(text, bigint[], bigint[], text) IS
'Settles jobs as failed, whatever attempts are left; retry_failed brings them back. Returns how many distinct (id,
lease) pairs were applied or had failed before under the same lease. reason is kept in failure_reason, cut at 8 kB.
Locks lease rows ascending, then job rows ascending, waiting for each. Needs SELECT and UPDATE on the table.
Errors: 22004 NULL, also inside an array, and NULL leases while qflow.allow_unfenced is off; 22023 bad value; 42501
right missing; 42704 unknown workflow; 54000 more ids than qflow.max_ids.';

COMMENT ON FUNCTION qflow.release(text, bigint[], bigint[]) IS
'Settles jobs that were never started: pending again at once, with the attempt refunded. Returns how many distinct (id,
lease) pairs were applied or had been given back before under the same lease.
Locks lease rows ascending, then job rows ascending, waiting for each. Needs SELECT and UPDATE on the table.
Errors: 22004 NULL, also inside an array, and NULL leases while qflow.allow_unfenced is off; 22023 bad value; 42501
right missing; 42704 unknown workflow; 54000 more ids than qflow.max_ids.';

COMMENT ON FUNCTION qflow.settle(text, jsonb, boolean) IS
'Settles many jobs at once, each in its own way. Returns one row for each distinct (id, lease) with its verdict: acked,
requeued, failed, released, already, stale or unknown.
outcomes: an array of {"id": 17, "lease": 5, "outcome": "ack"|"requeue"|"fail"|"release", "reason": "...",
"delay_ms": 5000}; reason and delay_ms (only with requeue) may be absent, numbers may be strings. strict: raises 55000
when any verdict is stale or unknown.
Locks lease rows ascending, then job rows ascending, waiting for each. Needs SELECT and UPDATE on the table (and DELETE
where a job is acked with on_complete delete).
Errors: 22004 NULL, or a lease absent while qflow.allow_unfenced is off; 22023 wrong shape, unknown key, or two
outcomes for one pair, with the path; 42501 right missing; 42704 unknown workflow; 54000 over qflow.max_ids; 55000
strict.';

COMMENT ON FUNCTION qflow.extend(text, bigint[], bigint) IS
'Moves the deadline of leases to timeout_ms from now (from 1; NULL: as long as at the fetch). Returns the leases that
are held, with their new deadlines; one not in the answer is lost: none of its jobs is in progress under it any more.
Locks the lease rows ascending until the end of the transaction. Needs SELECT and UPDATE on the table.
Errors: 22004 NULL, also inside the array; 22023 bad value; 42501 right missing; 42704 unknown workflow; 54000 more
leases than qflow.max_ids.';

COMMENT ON FUNCTION qflow.reap() IS
'One pass that takes back expired leases in all queues, by anyone: jobs become pending again with back-off, or failed
with the reason "lease expired" when no attempt is left. Also sweeps one chunk of each queue, removes at most 1,000 jobs of
each whose retention is over (at READ COMMITTED; reads at most 4,000), and forgets queues whose table is gone. Returns
for each queue where it took back jobs how many it returned and how many failed; removed ones do not count.
Acts as the owner of each table. Job and lease rows are taken FOR UPDATE SKIP LOCKED, and a locked table is waited for a
second at most; what it skips comes back with the next pass. Where qflow is preloaded a background worker does the same
by itself; else call it from time to time (cron) for queues from which nobody fetches. An error of one queue is a WARNING
and does not stop the others.';

-- Resources

COMMENT ON FUNCTION qflow.create_resource(text, bigint, text) IS
'Makes a resource that hints can ask for. Returns true. resource: 1 to 63 bytes, no control characters, no word of
hints. kind slots: numbered from 0 to capacity - 1 (capacity 0 to 1000), each held by one consumer; kind units: an
amount that consumers share, capacity from 0, NULL without limit. gpu (1 slot), cpu_cores and memory_gb (units without
limit) are there from the start. Not for PUBLIC: EXECUTE is granted by name.
Locks: the row of the resource. Errors: 22004 NULL, also as the capacity of slots, 22023 bad value, 42501 not granted,
42710 the name is taken, 54000 more than 1000 slots.';

COMMENT ON FUNCTION qflow.alter_resource(text, bigint) IS
'Sets the capacity of a resource, built-in ones included. Returns true when it changed. Who holds more than that keeps
it until the leases end. Not for PUBLIC: EXECUTE is granted by name.
Locks: the row of the resource until the end of the transaction. Errors: 22004 NULL, also as the capacity of slots,
22023 bad value, 42501 not granted, 42704 unknown resource, 54000 more than 1000 slots.';

COMMENT ON FUNCTION qflow.drop_resource(text) IS
'Removes a resource, or gives a built-in one its first capacity back. Returns true. Workflows whose hints name it answer
42704 from then on, and readiness names them. Not for PUBLIC: EXECUTE is granted by name.
Locks: the row of the resource until the end of the transaction. Errors: 22004 NULL, 42501 not granted, 42704 unknown
resource, 55000 somebody holds it, or it is built in and unchanged.';

COMMENT ON FUNCTION qflow.break_lease(bigint) IS
'Ends a lease at once, as if its deadline had passed: its jobs are pending again with back-off, or failed, and what it
holds is free. Returns true, or false when there is no such lease. Whoever works on the jobs is not told: its settles
are stale. A lease with hold session ends with its session, which is terminated; the worker returns the jobs.
Locks the lease and its jobs; acts as the owner of the table, restricted. Not for PUBLIC: EXECUTE is granted by name.
The reason in its jobs is "lease broken off".
Errors: 22004 NULL, 22023 below 1, 42501 not granted, 55000 an open transaction has the lease locked.';

-- Looking

COMMENT ON FUNCTION qflow.verify(text) IS
'Checks a queue and changes nothing: the table, its columns, key, defaults, constraints, indexes, storage and triggers,
whether it was restored or copied, the claim floor, leases, what the sweep found. Returns one row for each check: its
name, ok, what was found, and what to do where ok is false: the statements, where there are any.
Reads the whole table, as its owner, restricted: minutes on a large one. Locks: ACCESS SHARE on the table. Needs SELECT
on the table. Errors: 22004 NULL, 42501 right missing, 42704 unknown queue.';

COMMENT ON FUNCTION qflow.readiness(text) IS
'Says whether a consumer with the caller''s rights can work for this workflow now, and why no jobs come: one row for each
check (workflow, schema, rights, paused, resources, server, jobs), with ok, what was found, and what to do where ok is
false. An unknown workflow is a row too. Reads no more than a fetch does and changes nothing.
Locks: ACCESS SHARE on the queue''s table. Errors: 22004 NULL.';

COMMENT ON FUNCTION qflow.health() IS
'Says whether all is well in this database: preload, launcher, worker, its last pass, room in shared memory, versions,
queues in trouble with their last SQLSTATE, forgotten prepared transactions. One row for each check: its name, ok, what
was found, and what to do where ok is false. Everybody may call it; queues are named to who may SELECT at least one
column. Reads catalogs and shared memory, no queue. Locks: none on queues. Raises no error of its own.';

COMMENT ON FUNCTION qflow.prometheus() IS
'All figures of the queues on which the caller may SELECT at least one column, in the text format that Prometheus reads;
docs/metrics.md lists names, units and meanings. No payload. Counts no queue: what is not known in shared memory is left
out. Locks: ACCESS SHARE on the queues'' tables, waited for a second at most. Raises no error of its own.';

COMMENT ON FUNCTION qflow.queue_stats_rows() IS
'The rows of the view qflow.queue_stats: one for each queue on which the caller may SELECT at least one column. Read the
view instead; this function may change between versions. Counts the tables; locks: ACCESS SHARE on each.';

COMMENT ON FUNCTION qflow.workflow_status_rows() IS
'The rows of the view qflow.workflow_status: one for each workflow on whose queue the caller may SELECT at least one
column. Read the view instead; this function may change between versions. Locks: ROW EXCLUSIVE on each queue table.';

COMMENT ON FUNCTION qflow.lease_status_rows() IS
'The rows of the view qflow.lease_status: one for each lease of the queues on which the caller may SELECT at least one
column. Read the view instead; this function may change between versions. Locks: ROW EXCLUSIVE on each queue table.';

COMMENT ON FUNCTION qflow.resource_status_rows() IS
'The rows of the view qflow.resource_status: slots and leases on them, and holders of units. Read the view instead; this
function may change between versions. Shows what open transactions hold, too. Locks: ROW EXCLUSIVE on each queue table.';

-- Called by queue tables

COMMENT ON FUNCTION qflow.enqueued_xid(bigint) IS
'The default of column enqueued_xid of a queue table: the id of the current transaction, by which fresh jobs are found
in order of arrival. The argument is the number of the queue. Not for calling by hand. Must stay executable by everyone
who inserts. Takes no lock and raises nothing of its own.';

COMMENT ON FUNCTION qflow.return_job() IS
'The triggers of every queue table call it: gives available_at to a job that became pending in another way than by an
ordinary INSERT (an operator''s UPDATE, a restore, replication), so that fetch finds it at once. Acts as the owner of
the table on the row just written, which is locked already. A queue whose triggers are missing or disabled is reported
by verify.';

COMMENT ON FUNCTION qflow.registry_changed() IS
'Trigger of qflow.queue, qflow.workflow and qflow.resource: makes every session read the registry anew after a change. Takes no lock of
its own and raises no error.';

-- Views

COMMENT ON VIEW qflow.queue_stats IS
'One row for each queue on which the viewer may SELECT at least one column: how many jobs have each status. pending
includes delayed, the jobs that wait for their time; oldest_pending_ms is the age in milliseconds of the oldest pending
job that does not. With preload from shared memory: what has committed, what was done by hand with the next count; delayed
up to 10,000; the columns *_total count since the server started. Without preload, on a standby, while the numbers are not
known and with qflow.exact_counts = on the tables are counted: seconds on a large one; *_total may be NULL then.';

COMMENT ON VIEW qflow.workflow_status IS
'One row for each workflow on whose queue the viewer may SELECT at least one column: its settings as a fetch would use
them, whether it or its queue is paused, its jobs in flight and its leases. last_fetch_at is when a fetch last ran since
the server started; without preload when its newest live lease began. last_error is why a job was last requeued, failed
or taken back since the server started; NULL without preload, and for who may not read failure_reason.';

COMMENT ON VIEW qflow.lease_status IS
'One row for each lease of the queues on which the viewer may SELECT at least one column: jobs fetched, jobs not settled
yet, start, deadline, the worker named in the hints and the backend that fetched. A deadline in the past: the lease
waits to be reaped. bound: it ends with the session that fetched. resources: what the fetch was given, NULL without.';

COMMENT ON VIEW qflow.resource_status IS
'What resources there are and who holds them: a row for each slot, or for each lease on it, and a row for each holder of
units, or one with 0 units where there is none. lease and pid NULL: free; pid without lease: a session with hold session
keeps a slot whose lease was taken back. Holders of open transactions are shown too, their lease when it is committed.
workflow and worker are NULL for who may not SELECT any column of the queue.';

-- Rights

COMMENT ON FUNCTION qflow.grant_producer(text, text) IS
'Lets a role add jobs to a queue: INSERT on id, data, metadata, status, priority and available_at of its table, and
USAGE on the sequence of id. Enough for INSERT and COPY of these columns, enqueue and enqueue_batch. Nothing else: no
USAGE on the schema, but a NOTICE where the role has none. Granting again changes nothing.
role: exactly as pg_roles shows it, or public for everyone. Calls for one table wait for each other until commit.
Needs ownership of the table, or these rights with grant option.
Errors: 22004 NULL, 22023 bad name, 42501 right missing, 42704 unknown queue or role, 55000 a column is gone.';

COMMENT ON FUNCTION qflow.grant_consumer(text, text) IS
'Lets a role fetch jobs of a queue and settle them: SELECT and UPDATE on its table, and DELETE where on_complete is
delete; call it again for each role when that is set later. Nothing else: no USAGE on the schema, but a NOTICE where the
role has none. role: exactly as pg_roles shows it, or public for everyone. Calls for one table wait for each other until
commit. Needs ownership of the table, or these rights with grant option.
Errors: 22004 NULL, 22023 bad name, 42501 right missing, 42704 unknown queue or role, 55000 a column is gone.';

COMMENT ON FUNCTION qflow.grant_monitor(text, text) IS
'Lets a role look at a queue without its payload: SELECT on every column that the table has now but data and metadata.
The views show the queue to it. Nothing else: no USAGE on the schema, but a NOTICE where the role has none.
role: exactly as pg_roles shows it, or public for everyone. Calls for one table wait for each other until commit.
Needs ownership of the table, or these rights with grant option.
Errors: 22004 NULL, 22023 bad name, 42501 right missing, 42704 unknown queue or role, 55000 a column is gone.';

COMMENT ON FUNCTION qflow.revoke_producer(text, text) IS
'Takes back what grant_producer gave to a role, also parts of it; not what grant_consumer or grant_monitor gave, and not
the sequence of id while the role produces to another queue that draws from it. Does nothing where nothing is there.
What other roles granted stays, with a WARNING; where that is all, 42501. Rights that come from membership or from
public stay as well. Calls for one table wait for each other until commit. Needs what grant_producer needs.
Errors: 22004 NULL, 22023 bad name or the owner of the table, 42501 right missing, 42704 unknown queue or role.';

COMMENT ON FUNCTION qflow.revoke_consumer(text, text) IS
'Takes back what grant_consumer gave to a role: SELECT, UPDATE and DELETE on the table, whatever on_complete is now; not
what grant_producer or grant_monitor gave. Leases stay, and end at their deadline. Does nothing where nothing is there.
What other roles granted stays, with a WARNING; where that is all, 42501. Rights that come from membership or from
public stay as well. Calls for one table wait for each other until commit. Needs what grant_consumer needs.
Errors: 22004 NULL, 22023 bad name or the owner of the table, 42501 right missing, 42704 unknown queue or role.';

COMMENT ON FUNCTION qflow.revoke_monitor(text, text) IS
'Takes back what grant_monitor gave to a role; not what grant_producer or grant_consumer gave, so a consumer still sees
the table. Does nothing where nothing is there.
What other roles granted stays, with a WARNING; where that is all, 42501. Rights that come from membership or from
public stay as well. Calls for one table wait for each other until commit. Needs what grant_monitor needs.
Errors: 22004 NULL, 22023 bad name or the owner of the table, 42501 right missing, 42704 unknown queue or role.';

-- Tables

COMMENT ON TABLE qflow.queue IS
'The registry of queues: one row for each table that qflow serves, with its settings; NULL leaves one to the settings
qflow.default_*. Written by create_queue, alter_queue, drop_queue, pause_queue and resume_queue only. Readable by
everyone, because pg_dump by an ordinary role needs it; dumped with the database. Jobs are in the queues'' own tables.';

COMMENT ON TABLE qflow.workflow IS
'The registry of workflows: named consumer configurations, each bound to one queue. NULL leaves a setting to the queue,
then to qflow.default_*. Written by create_workflow, alter_workflow, drop_workflow, pause_workflow and resume_workflow
only. Readable by everyone, because pg_dump by an ordinary role needs it; dumped with the database.';

COMMENT ON TABLE qflow.lease IS
'Leases in flight: one row for each fetch that returned jobs, until the last of them is settled or reaped, with the
settings as they were at the fetch. Read the view qflow.lease_status instead. Not dumped: jobs that were in progress
come back after a restore.';

COMMENT ON TABLE qflow.resource IS
'Resources that users made, and built-in ones whose capacity they changed. Written by create_resource, alter_resource and
drop_resource only. Readable by everyone, because pg_dump by an ordinary role needs it; dumped with the database.';

COMMENT ON TABLE qflow.holder IS
'Who holds what: one row for each slot that is taken and for each consumer of units, until the last lease on it has
ended. Read the view qflow.resource_status instead. Not dumped; rows of another database, after a copy, do not count.';

COMMENT ON TABLE qflow.holder_lease IS
'The leases on each holder: a consumer with a worker name may have several on one slot. Written by fetch, and by whatever
ends a lease. Not dumped.';

COMMENT ON TABLE qflow.floor IS
'Claim floors: where in its index a fetch begins to look, for each queue, in several copies so that saving one never
waits. A hint: correct when lost, only ever late. Saved every qflow.floor_save_jobs jobs. Not dumped; verify checks it.';

COMMENT ON TABLE qflow.sweep IS
'How far the sweep of each queue has come (next_id), and how many jobs it found that no fetch would have reached
(rescued_total, which should stay 0). Written by reap, and by a fetch that found such a job. Not dumped.';

COMMENT ON TABLE qflow.lease_incarnation IS
'The server start, timeline, cluster and database in which lease ids were last given out. After a restart, a promotion or
a restore the first fetch finds another one and moves the sequence of lease ids far ahead. Not dumped.';

-- Sequences

COMMENT ON SEQUENCE qflow.queue_number IS
'Numbers of queues. They stand in the column defaults of queue tables, so a number is never given out twice; dumped with
the database. Not to be set by hand.';

COMMENT ON SEQUENCE qflow.holder_id_seq IS
'Numbers of the rows of qflow.holder, that is of those who hold slots or units; not dumped, and of no meaning elsewhere.';

COMMENT ON SEQUENCE qflow.lease_id IS
'Lease ids, the fencing tokens: unique for the life of the database, compared for equality only, with gaps. Dumped with
the database. Must not be set back by hand: an old consumer could then settle a job that someone else holds.';
