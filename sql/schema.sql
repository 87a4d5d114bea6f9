-- qflow's own tables. They hold what users registered and what is in flight; jobs live in the users' own tables.
-- Everyone may read the registry (a dump by an ordinary role needs it); nobody but the extension's owner writes it.
CREATE SCHEMA qflow;
GRANT USAGE ON SCHEMA qflow TO PUBLIC;

-- Numbers of queues: they stand in the column defaults of queue tables, so a number is never given out twice.
CREATE SEQUENCE qflow.queue_number;

-- The registry of queues: one row per table that qflow serves.
CREATE TABLE qflow.queue (
    number              bigint      PRIMARY KEY DEFAULT pg_catalog.nextval('qflow.queue_number'::pg_catalog.regclass),
    table_oid           regclass    NOT NULL UNIQUE,
    adopted             boolean     NOT NULL DEFAULT false,
    paused              boolean     NOT NULL DEFAULT false,
    timeout_ms          bigint,
    retries             bigint,
    batch_size          bigint,
    retention_ms        bigint,
    failed_retention_ms bigint,
    on_complete         text        NOT NULL DEFAULT 'keep',
    created_at          timestamptz NOT NULL DEFAULT pg_catalog.now(),
    -- Where this row was written: when any of the three differs from here and now, the table was restored or copied.
    system_identifier   bigint      NOT NULL,
    database_oid        oid         NOT NULL,
    relation_oid        oid         NOT NULL
);

-- The registry of workflows: named consumer configurations, each bound to one queue. NULL: the queue's value counts.
-- No foreign key: under an old snapshot it would refuse a queue made since. A row without its queue counts as absent.
CREATE TABLE qflow.workflow (
    workflow            text        PRIMARY KEY,
    queue               bigint      NOT NULL,
    paused              boolean     NOT NULL DEFAULT false,
    timeout_ms          bigint,
    retries             bigint,
    batch_size          bigint,
    concurrency         bigint,
    resource_hints      jsonb,
    retry_delay_ms      bigint,
    retry_max_delay_ms  bigint,
    created_at          timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX ON qflow.workflow (queue);

-- Fencing tokens. CACHE 1: a token leaves the server only once the record that reserves it is durable.
CREATE SEQUENCE qflow.lease_id CACHE 1;

-- One row per fetch that returned jobs, until the last of them is settled or taken back. Settings as they were then.
CREATE TABLE qflow.lease (
    id                  bigint      PRIMARY KEY,
    queue               bigint      NOT NULL,
    leased_at           timestamptz NOT NULL,
    deadline            timestamptz NOT NULL,
    timeout_ms          bigint      NOT NULL,
    retry_delay_ms      bigint      NOT NULL,
    retry_max_delay_ms  bigint      NOT NULL,
    max_attempts        integer     NOT NULL,
    backend_pid         integer     NOT NULL,
    backend_start       timestamptz NOT NULL,
    bound               boolean     NOT NULL DEFAULT false,
    workflow            text        NOT NULL,
    worker              text,
    job_ids             bigint[]    NOT NULL,
    resources           jsonb
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
CREATE INDEX ON qflow.lease (queue, deadline);
-- Leases that end with their sessions; others are not in it.
CREATE INDEX lease_bound_idx ON qflow.lease (backend_pid) WHERE bound;

-- Resources that users made, and built-in ones whose capacity they changed: gpu, cpu_cores and memory_gb need no row.
CREATE TABLE qflow.resource (
    resource            text        PRIMARY KEY,
    kind                text        NOT NULL,
    capacity            bigint,
    created_at          timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- Who holds what: one row for each slot that is taken, and for each consumer of units. It is the truth about the slot
-- until the last lease on it has ended. With by_session the session that fetched holds a lock beside it.
CREATE TABLE qflow.holder (
    id                  bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    since               timestamptz NOT NULL,
    backend_start       timestamptz NOT NULL,
    backend_pid         integer     NOT NULL,
    database_oid        oid         NOT NULL,
    by_session          boolean     NOT NULL,
    resource            text        NOT NULL,
    slot                bigint,
    units               bigint,
    workflow            text        NOT NULL,
    worker              text,
    UNIQUE (resource, slot)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

-- The leases on it: a consumer with a worker name may have several on one slot.
CREATE TABLE qflow.holder_lease (
    lease               bigint      NOT NULL,
    holder              bigint      NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
-- One column each: of an index on both the planner would read all for the second, as long as it takes the table for small.
CREATE INDEX ON qflow.holder_lease (lease);
CREATE INDEX ON qflow.holder_lease (holder);

-- Claim floors: where in its index a fetch starts to look, per queue. Several copies of one hint, so that saving one
-- never waits for somebody else's open transaction; not dumped, worth nothing in another cluster.
CREATE TABLE qflow.floor (
    queue               bigint      NOT NULL REFERENCES qflow.queue ON DELETE CASCADE,
    copy                smallint    NOT NULL,
    system_identifier   bigint      NOT NULL,
    database_oid        oid         NOT NULL,
    relation_oid        oid         NOT NULL,
    evidence_end        bigint      NOT NULL,
    starts              bigint[]    NOT NULL,
    open_xacts          bigint[]    NOT NULL,
    skipped             bigint[]    NOT NULL,
    PRIMARY KEY (queue, copy)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);

-- How far the sweep of a queue has come, and what it found that no floor would have reached.
CREATE TABLE qflow.sweep (
    queue               bigint      PRIMARY KEY REFERENCES qflow.queue ON DELETE CASCADE,
    next_id             bigint,
    system_identifier   bigint,
    database_oid        oid,
    relation_oid        oid,
    left_over           boolean     NOT NULL DEFAULT false,
    rescued_total       bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);

-- The server start, timeline, cluster and database in which lease ids were last given out; another one moves the
-- sequence far ahead.
CREATE TABLE qflow.lease_incarnation (
    incarnation         text        PRIMARY KEY
);

GRANT SELECT ON qflow.queue, qflow.workflow, qflow.resource TO PUBLIC;
GRANT SELECT ON SEQUENCE qflow.queue_number, qflow.lease_id TO PUBLIC;

-- What is dumped. A row whose table is gone would be dumped with the table's number, which may be any other table where
-- it is restored: such rows, absent to every reader, stay behind.
SELECT pg_catalog.pg_extension_config_dump('qflow.queue', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c
    WHERE c.oid OPERATOR(pg_catalog.=) table_oid::pg_catalog.oid)');
SELECT pg_catalog.pg_extension_config_dump('qflow.workflow', 'WHERE queue OPERATOR(pg_catalog.=) ANY (
    SELECT q.number FROM qflow.queue AS q
    JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) q.table_oid::pg_catalog.oid)');
SELECT pg_catalog.pg_extension_config_dump('qflow.resource', '');
SELECT pg_catalog.pg_extension_config_dump('qflow.queue_number', '');
SELECT pg_catalog.pg_extension_config_dump('qflow.lease_id', '');
