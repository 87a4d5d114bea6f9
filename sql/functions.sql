-- The SQL surface. Arguments are plain types that every driver passes without casts; a NULL for an argument with a
-- default means "not given". All run with the caller's rights; the library checks them.

CREATE FUNCTION qflow.create_queue(
    queue text,
    timeout_ms bigint = NULL,
    retries bigint = NULL,
    batch_size bigint = NULL,
    retention_ms bigint = NULL,
    failed_retention_ms bigint = NULL,
    on_complete text = 'keep',
    if_not_exists boolean = false,
    workflow text = NULL
) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_create_queue';

CREATE FUNCTION qflow.alter_queue(
    queue text,
    timeout_ms bigint = NULL,
    retries bigint = NULL,
    batch_size bigint = NULL,
    retention_ms bigint = NULL,
    failed_retention_ms bigint = NULL,
    on_complete text = NULL
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_alter_queue';

CREATE FUNCTION qflow.drop_queue(
    queue text,
    keep_table boolean = true
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_drop_queue';

CREATE FUNCTION qflow.pause_queue(
    queue text
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_pause_queue';

CREATE FUNCTION qflow.resume_queue(
    queue text
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_resume_queue';

CREATE FUNCTION qflow.purge_queue(
    queue text,
    status text = NULL,
    older_than_ms bigint = NULL
) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_purge_queue';

CREATE FUNCTION qflow.retry_failed(
    queue text,
    ids bigint[] = NULL
) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_retry_failed';

CREATE FUNCTION qflow.create_workflow(
    workflow text,
    queue text,
    timeout_ms bigint = NULL,
    retries bigint = NULL,
    batch_size bigint = NULL,
    concurrency bigint = NULL,
    resource_hints jsonb = NULL,
    retry_delay_ms bigint = NULL,
    retry_max_delay_ms bigint = NULL,
    if_not_exists boolean = false
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_create_workflow';

CREATE FUNCTION qflow.alter_workflow(
    workflow text,
    timeout_ms bigint = NULL,
    retries bigint = NULL,
    batch_size bigint = NULL,
    concurrency bigint = NULL,
    resource_hints jsonb = NULL,
    retry_delay_ms bigint = NULL,
    retry_max_delay_ms bigint = NULL
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_alter_workflow';

CREATE FUNCTION qflow.drop_workflow(
    workflow text
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_drop_workflow';

CREATE FUNCTION qflow.pause_workflow(
    workflow text
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_pause_workflow';

CREATE FUNCTION qflow.resume_workflow(
    workflow text
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_resume_workflow';

CREATE FUNCTION qflow.enqueue(
    queue text,
    data jsonb,
    metadata jsonb = '{}',
    priority bigint = 4,
    delay_ms bigint = 0
) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_enqueue';

CREATE FUNCTION qflow.enqueue_batch(
    queue text,
    data jsonb[],
    metadata jsonb[] = NULL,
    priority bigint = 4,
    delay_ms bigint = 0
) RETURNS bigint[]
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_enqueue_batch';

CREATE FUNCTION qflow.fetch(
    workflow text,
    demand bigint = NULL,
    batch_size bigint = NULL,
    hints jsonb = NULL
) RETURNS TABLE (batch_no int, id bigint, data jsonb, metadata jsonb, attempt int, max_attempts int, lease bigint, lease_until timestamptz, inserted_at timestamptz, failure_reason text, resources jsonb)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_fetch';

-- No SET clause and not SECURITY DEFINER: either would keep it from committing.
CREATE PROCEDURE qflow.wait(
    workflow text,
    timeout_ms bigint = 1000,
    hints jsonb = NULL
)
    LANGUAGE c AS 'MODULE_PATHNAME', 'qflow_wait';

CREATE FUNCTION qflow.ack(
    workflow text,
    ids bigint[],
    leases bigint[],
    strict boolean = false
) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_ack';

CREATE FUNCTION qflow.ack_and_fetch(
    workflow text,
    ids bigint[],
    leases bigint[],
    demand bigint = NULL,
    batch_size bigint = NULL,
    hints jsonb = NULL
) RETURNS TABLE (batch_no int, id bigint, data jsonb, metadata jsonb, attempt int, max_attempts int, lease bigint, lease_until timestamptz, inserted_at timestamptz, failure_reason text, resources jsonb)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_ack_and_fetch';

CREATE FUNCTION qflow.requeue(
    workflow text,
    ids bigint[],
    leases bigint[],
    reason text = NULL,
    delay_ms bigint = NULL
) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_requeue';

CREATE FUNCTION qflow.fail(
    workflow text,
    ids bigint[],
    leases bigint[],
    reason text = NULL
) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_fail';

CREATE FUNCTION qflow.release(
    workflow text,
    ids bigint[],
    leases bigint[]
) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_release';

CREATE FUNCTION qflow.settle(
    workflow text,
    outcomes jsonb,
    strict boolean = false
) RETURNS TABLE (id bigint, lease bigint, outcome text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_settle';

CREATE FUNCTION qflow.extend(
    workflow text,
    leases bigint[],
    timeout_ms bigint = NULL
) RETURNS TABLE (lease bigint, lease_until timestamptz)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_extend';

-- What consumers must not share beyond its capacity.
CREATE FUNCTION qflow.create_resource(
    resource text,
    capacity bigint,
    kind text = 'slots'
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_create_resource';

CREATE FUNCTION qflow.alter_resource(
    resource text,
    capacity bigint
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_alter_resource';

CREATE FUNCTION qflow.drop_resource(
    resource text
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_drop_resource';

CREATE FUNCTION qflow.break_lease(
    lease bigint
) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_break_lease';

-- They concern every consumer of the database: only for whom a superuser grants them to.
REVOKE EXECUTE ON FUNCTION qflow.create_resource(text, bigint, text), qflow.alter_resource(text, bigint),
    qflow.drop_resource(text), qflow.break_lease(bigint) FROM PUBLIC;

CREATE FUNCTION qflow.reap() RETURNS TABLE (queue text, returned bigint, failed bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_reap';

CREATE FUNCTION qflow.verify(
    queue text
) RETURNS TABLE (check_name text, ok boolean, detail text, remedy text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_verify';

CREATE FUNCTION qflow.readiness(
    workflow text
) RETURNS TABLE (check_name text, ok boolean, detail text, remedy text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_readiness';

CREATE FUNCTION qflow.health() RETURNS TABLE (check_name text, ok boolean, detail text, remedy text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_health';

CREATE FUNCTION qflow.prometheus() RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_prometheus';

-- Rights on a queue's table for a role. They run GRANT and REVOKE as the caller, who needs the right to do that.
CREATE FUNCTION qflow.grant_producer(
    queue text,
    role text
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_grant_producer';

CREATE FUNCTION qflow.grant_consumer(
    queue text,
    role text
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_grant_consumer';

CREATE FUNCTION qflow.grant_monitor(
    queue text,
    role text
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_grant_monitor';

CREATE FUNCTION qflow.revoke_producer(
    queue text,
    role text
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_revoke_producer';

CREATE FUNCTION qflow.revoke_consumer(
    queue text,
    role text
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_revoke_consumer';

CREATE FUNCTION qflow.revoke_monitor(
    queue text,
    role text
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_revoke_monitor';

-- What the views below are made of: rows for the queues on which the viewer may SELECT.
CREATE FUNCTION qflow.queue_stats_rows() RETURNS TABLE (queue text, paused boolean, pending bigint, delayed bigint,
        in_progress bigint, completed bigint, failed bigint, oldest_pending_ms bigint, enqueued_total bigint,
        claimed_total bigint, acked_total bigint, requeued_total bigint, failed_total bigint, released_total bigint,
        reaped_total bigint, stale_total bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_queue_stats_rows';

CREATE FUNCTION qflow.workflow_status_rows() RETURNS TABLE (workflow text, queue text, paused boolean, timeout_ms bigint,
        retries bigint, batch_size bigint, concurrency bigint, resource_hints jsonb, in_flight bigint, leases bigint,
        last_fetch_at timestamptz, last_error text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_workflow_status_rows';

CREATE FUNCTION qflow.lease_status_rows() RETURNS TABLE (lease bigint, workflow text, queue text, jobs bigint,
        unsettled bigint, leased_at timestamptz, lease_until timestamptz, worker text, pid integer, bound boolean,
        resources jsonb)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_lease_status_rows';

CREATE FUNCTION qflow.resource_status_rows() RETURNS TABLE (resource text, kind text, capacity bigint, slot bigint,
        units bigint, lease bigint, workflow text, worker text, pid integer, since timestamptz, lease_until timestamptz)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_resource_status_rows';

-- Called by queue tables: the default of their enqueued_xid column and the trigger that returns jobs. Both must stay
-- executable by everyone who inserts.
CREATE FUNCTION qflow.enqueued_xid(queue bigint) RETURNS xid8
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'qflow_enqueued_xid';

CREATE FUNCTION qflow.return_job() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'qflow_return_job';

-- Makes every session read the registry anew after a change, whoever made it.
CREATE FUNCTION qflow.registry_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'qflow_registry_changed';
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON qflow.queue
    FOR EACH STATEMENT EXECUTE FUNCTION qflow.registry_changed();
ALTER TABLE qflow.queue ENABLE ALWAYS TRIGGER registry_changed;
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON qflow.workflow
    FOR EACH STATEMENT EXECUTE FUNCTION qflow.registry_changed();
ALTER TABLE qflow.workflow ENABLE ALWAYS TRIGGER registry_changed;
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON qflow.resource
    FOR EACH STATEMENT EXECUTE FUNCTION qflow.registry_changed();
ALTER TABLE qflow.resource ENABLE ALWAYS TRIGGER registry_changed;
