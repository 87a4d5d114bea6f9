-- lifecycle: queues and workflows from their making to their end, their settings, and which setting counts.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset null '-'

-- the defaults, as workflow_status shows them and as a fetch uses them
SELECT qflow.create_queue('plain');
SELECT * FROM qflow.workflow_status;
INSERT INTO plain (data) SELECT '{}' FROM generate_series(1, 20);
SELECT count(*), max(batch_no), max(attempt) AS attempt, max(max_attempts) AS max_attempts,
    max(lease_until) - min(leased_at) = interval '300 s' AS held_for_300_s FROM qflow.fetch('plain') JOIN qflow.lease_status USING (lease, lease_until);
SELECT l.lease_until - l.leased_at AS held_for FROM qflow.lease_status AS l;
SELECT qflow.requeue('plain', ARRAY[id], ARRAY[lease]), clock_timestamp() AS asked FROM plain WHERE id = 1 \gset
SELECT available_at - updated_at BETWEEN interval '1 s' AND interval '1.25 s' AS first_delay, priority FROM plain WHERE id = 1;
SELECT queue, paused, pending, delayed, in_progress, completed, failed, oldest_pending_ms BETWEEN 0 AND 60000 AS oldest FROM qflow.queue_stats;

-- names: as PostgreSQL reads table names; the workflow is named like the table
SELECT qflow.create_queue('Folded'), qflow.create_queue('"Exact"'), qflow.create_queue('public.in_schema'), qflow.create_queue(' public . "with "" quote" ');
CREATE SCHEMA "Sales";
SELECT qflow.create_queue('"Sales".jobs'), qflow.create_queue('"Sales"."größe"', workflow => 'Größe & Co.');
SELECT workflow, queue FROM qflow.workflow_status ORDER BY workflow COLLATE "C";
SELECT qflow.enqueue('FOLDED', '1'), qflow.enqueue('"folded"', '2'), qflow.enqueue('PUBLIC.folded', '3');
SELECT count(*) FROM qflow.fetch('Größe & Co.');
\set VERBOSITY sqlstate
SELECT qflow.enqueue('"Folded"', '1');
SELECT qflow.enqueue('exact', '1');
SELECT qflow.fetch('FOLDED');
SET search_path = "Sales", public;
SELECT qflow.enqueue('jobs', '1');
SELECT qflow.create_queue('made_here');
RESET search_path;
SELECT qflow.enqueue('jobs', '1');

-- duplicates: of a queue, of its workflow's name, of a workflow on another queue; other tables
SELECT qflow.create_queue('plain');
SELECT qflow.create_queue('plain', if_not_exists => false);
SELECT qflow.create_queue('"Sales".plain');
SELECT qflow.create_queue('other', workflow => 'plain');
SELECT to_regclass('other') AS not_made;
CREATE TABLE a_table (id int);
CREATE VIEW a_view AS SELECT 1 AS id;
SELECT qflow.create_queue('a_table');
SELECT qflow.create_queue('a_table', if_not_exists => true);
SELECT qflow.create_queue('a_view');
SELECT qflow.create_queue('plain_pkey');
SELECT qflow.create_queue('a_sequence') FROM (SELECT nextval('plain_id_seq')) AS s;
SELECT qflow.create_workflow('plain', 'plain');
SELECT qflow.create_workflow('plain', 'folded');
SELECT qflow.create_workflow('plain', 'folded', if_not_exists => true);
\set VERBOSITY default
SELECT qflow.create_queue('plain');
SELECT qflow.create_queue('"Sales".plain');
SELECT qflow.create_workflow('plain', 'folded', if_not_exists => true);
SELECT qflow.fetch('nosuch');
SELECT qflow.enqueue('nosuch', '{}');
SELECT qflow.enqueue('a_table', '{}');

-- if_not_exists: as it is, with a NOTICE where a workflow's settings differ
SELECT qflow.create_queue('plain', timeout_ms => 7, retries => 7, batch_size => 7, on_complete => 'delete', if_not_exists => true, workflow => 'nosuch');
SELECT qflow.create_queue('new', batch_size => 7, if_not_exists => true, workflow => 'new_one');
SELECT qflow.create_workflow('w', 'plain', timeout_ms => 60000, retries => 2, resource_hints => '{"gpu": false, "timeout_ms": 50000}', if_not_exists => true);
SELECT qflow.create_workflow('w', 'plain', if_not_exists => true);
SELECT qflow.create_workflow('w', 'plain', timeout_ms => 60000, retries => 2, resource_hints => '{"timeout_ms": 50000, "gpu": false}', if_not_exists => true);
SELECT qflow.create_workflow('w', 'plain', timeout_ms => 60001, retries => 3, batch_size => 4, concurrency => 5, resource_hints => '{}',
    retry_delay_ms => 6, retry_max_delay_ms => 7, if_not_exists => true);
SELECT workflow, timeout_ms, retries, batch_size, concurrency, resource_hints FROM qflow.workflow_status WHERE workflow IN ('plain', 'new_one', 'w') ORDER BY 1;

-- alter: true when something changed; NULL leaves a setting as it is
SELECT qflow.alter_queue('plain', timeout_ms => 1000, retries => 1, batch_size => 2) AS changed, qflow.alter_queue('plain', timeout_ms => 1000, retries => 1) AS again,
    qflow.alter_queue('plain') AS nothing, qflow.alter_queue('plain', batch_size => 3) AS once_more;
SELECT qflow.alter_workflow('w', batch_size => 9) AS changed, qflow.alter_workflow('w', batch_size => 9) AS again, qflow.alter_workflow('w') AS nothing,
    qflow.alter_workflow('w', resource_hints => '{"gpu": null}') AS hints, qflow.alter_workflow('w', concurrency => 2, retry_delay_ms => 0, retry_max_delay_ms => 1) AS more;
SELECT workflow, timeout_ms, retries, batch_size, concurrency, resource_hints FROM qflow.workflow_status WHERE workflow IN ('plain', 'w') ORDER BY 1;
\set VERBOSITY sqlstate
SELECT qflow.alter_queue('nosuch', retries => 1);
SELECT qflow.alter_workflow('nosuch', retries => 1);
SELECT qflow.alter_queue('plain', on_complete => 'drop');
SELECT qflow.create_queue('x', on_complete => 'KEEP');
SELECT qflow.alter_workflow('w', resource_hints => '{"gpu": 2}');
SELECT qflow.create_workflow('x', 'plain', resource_hints => '{"nosuch": 1}');
SELECT qflow.create_workflow('x', 'plain', resource_hints => '[]');
\set VERBOSITY default

-- which value counts: the call, then the hint of the workflow (timeout), the workflow, the queue, the setting
CREATE FUNCTION used(workflow text, demand bigint, batch_size bigint, hints jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE got text;
BEGIN
    SELECT concat_ws(' ', count(*), 'jobs,', max(f.batch_no), 'batches,', max(f.max_attempts), 'attempts,', round(extract(epoch FROM max(l.lease_until) - max(l.leased_at)) * 1000), 'ms')
    INTO got FROM qflow.fetch(workflow, demand, batch_size, hints) AS f JOIN qflow.lease_status AS l USING (lease);
    UPDATE p SET status = 'pending';
    RETURN got;
END $$;
SELECT qflow.create_queue('p', workflow => 'level');
INSERT INTO p (data) SELECT '{}' FROM generate_series(1, 100);
SET qflow.default_timeout_ms = 11000; SET qflow.default_retries = 11; SET qflow.default_batch_size = 11;
SELECT used('level', NULL, NULL, NULL) AS setting;
SELECT qflow.alter_queue('p', timeout_ms => 12000, retries => 12, batch_size => 12);
SELECT used('level', NULL, NULL, NULL) AS queue;
SELECT qflow.alter_workflow('level', timeout_ms => 13000, retries => 13, batch_size => 13);
SELECT used('level', NULL, NULL, NULL) AS workflow;
SELECT qflow.alter_workflow('level', resource_hints => '{"timeout_ms": 14000}');
SELECT used('level', NULL, NULL, NULL) AS hint_of_workflow, used('level', 40, NULL, '{}') AS demand, used('level', NULL, 15, '{"worker": "x"}') AS batch_size, used('level', 15, 5, '{"timeout_ms": 15000}') AS call;
SELECT used('level', NULL, NULL, '{"timeout_ms": null}') AS a_null_hint;
RESET qflow.default_timeout_ms; RESET qflow.default_retries; RESET qflow.default_batch_size;
SELECT timeout_ms, retries, batch_size FROM qflow.workflow_status WHERE workflow = 'level';

-- pause and resume: fetch returns nothing, all else goes on
INSERT INTO folded (data) SELECT '{}' FROM generate_series(1, 5);
SELECT qflow.create_workflow('second', 'folded');
SELECT lease FROM qflow.fetch('folded', 1) \gset
SELECT qflow.pause_queue('folded') AS paused, qflow.pause_queue('folded') AS again;
SELECT (SELECT count(*) FROM qflow.fetch('folded')) AS first, (SELECT count(*) FROM qflow.fetch('second')) AS second;
SELECT qflow.ack('folded', ARRAY[1], ARRAY[:lease]), qflow.enqueue('folded', '{}') > 0 AS enqueued;
SELECT queue, paused FROM qflow.queue_stats WHERE paused;
SELECT workflow, paused FROM qflow.workflow_status WHERE queue = 'public.folded' ORDER BY 1;
SELECT qflow.resume_queue('folded') AS resumed, qflow.resume_queue('folded') AS again;
SELECT qflow.pause_workflow('folded') AS paused, qflow.pause_workflow('folded') AS again;
SELECT (SELECT count(*) FROM qflow.fetch('folded', 1)) AS first, (SELECT count(*) FROM qflow.fetch('second', 1)) AS second;
SELECT workflow, paused FROM qflow.workflow_status WHERE queue = 'public.folded' ORDER BY 1;
SELECT qflow.resume_workflow('folded') AS resumed, qflow.resume_workflow('folded') AS again;
SELECT count(*) FROM qflow.fetch('folded', 1);
-- rolled back with the transaction
BEGIN;
SELECT qflow.pause_queue('folded');
SELECT count(*) FROM qflow.fetch('folded', 1);
ROLLBACK;
SELECT count(*) FROM qflow.fetch('folded', 1);

-- purge: completed and failed ones by their retention, or the age given; pending only when named, in progress never
SELECT qflow.create_queue('old', retention_ms => 3600000, failed_retention_ms => 86400000);
CREATE VIEW left_over AS SELECT string_agg(status || ' ' || id, ', ' ORDER BY id) AS jobs FROM old;
CREATE PROCEDURE fill() LANGUAGE sql AS $$
    TRUNCATE old RESTART IDENTITY;
    INSERT INTO old (data, status, updated_at) SELECT '{}', s.status, now() - a.age
    FROM unnest(ARRAY['completed', 'failed', 'pending', 'in_progress']) AS s (status) CROSS JOIN unnest(ARRAY['0', '2 hours', '2 days']::interval[]) AS a (age)
    ORDER BY array_position(ARRAY['completed', 'failed', 'pending', 'in_progress'], s.status), a.age
$$;
CALL fill();
SELECT qflow.purge_queue('old');
TABLE left_over;
SELECT qflow.purge_queue('old', older_than_ms => 10800000), qflow.purge_queue('old', older_than_ms => 3600000), qflow.purge_queue('old', older_than_ms => 0);
TABLE left_over;
CALL fill();
SELECT qflow.purge_queue('old', 'completed'), qflow.purge_queue('old', 'failed');
TABLE left_over;
SELECT qflow.purge_queue('old', 'completed', 0), qflow.purge_queue('old', 'failed', 3600000), qflow.purge_queue('old', 'pending', 3600000), qflow.purge_queue('old', 'pending');
TABLE left_over;
-- no retention: all of them
SELECT qflow.create_queue('kept');
INSERT INTO kept (data, status) VALUES ('1', 'completed'), ('2', 'failed'), ('3', 'pending');
SELECT qflow.purge_queue('kept');
SELECT data FROM kept;
\set VERBOSITY sqlstate
SELECT qflow.purge_queue('old', 'in_progress');
SELECT qflow.purge_queue('old', 'done');
SELECT qflow.purge_queue('nosuch');
\set VERBOSITY default

-- retry_failed: failed jobs only, fresh attempts, due now; all or those named
SELECT qflow.create_queue('again', retries => 0);
INSERT INTO again (data) SELECT '{}' FROM generate_series(1, 6);
SELECT max(lease) AS lease FROM qflow.fetch('again', 5) \gset
SELECT qflow.fail('again', ARRAY[1, 2, 3], ARRAY[:lease], 'why'), qflow.ack('again', ARRAY[4], ARRAY[:lease]);
SELECT qflow.retry_failed('again', ARRAY[1, 4, 5, 6, 99]) AS one, qflow.retry_failed('again', ARRAY[1]) AS none, qflow.retry_failed('again', ARRAY[2, 2]) AS once;
SELECT id, status, attempt, failure_reason, available_at <= now() AS due FROM again ORDER BY id;
SELECT qflow.retry_failed('again') AS the_rest, qflow.retry_failed('again') AS none;
SELECT array_agg(id ORDER BY id), max(attempt), max(max_attempts) FROM qflow.fetch('again', 10);

-- on_complete = 'delete': an ack deletes, fail does not; a replay is unknown
SELECT qflow.create_queue('gone', on_complete => 'delete');
INSERT INTO gone (data) SELECT '{}' FROM generate_series(1, 5);
SELECT max(lease) AS lease FROM qflow.fetch('gone', 5) \gset
SELECT qflow.ack('gone', ARRAY[1, 2], ARRAY[:lease]) AS acked, qflow.ack('gone', ARRAY[1], ARRAY[:lease]) AS replayed, qflow.fail('gone', ARRAY[3], ARRAY[:lease]) AS failed;
SELECT id, outcome FROM qflow.settle('gone', (SELECT jsonb_agg(jsonb_build_object('id', i, 'lease', :lease, 'outcome', 'ack')) FROM generate_series(1, 5) AS i)) ORDER BY id;
SELECT id, status FROM gone ORDER BY id;
SELECT count(*) FROM qflow.lease_status WHERE queue = 'public.gone';
SELECT qflow.alter_queue('gone', on_complete => 'keep'), qflow.alter_queue('gone', on_complete => 'delete');
SELECT qflow.alter_queue('gone', on_complete => 'keep');

-- drop_workflow: its jobs cannot be settled any more, the queue and its jobs stay
SELECT qflow.create_workflow('short', 'kept');
SELECT id, lease FROM qflow.fetch('short') \gset
SELECT qflow.drop_workflow('short');
\set VERBOSITY sqlstate
SELECT qflow.ack('short', ARRAY[:id], ARRAY[:lease]);
SELECT qflow.drop_workflow('short');
\set VERBOSITY default
SELECT qflow.ack('kept', ARRAY[:id], ARRAY[:lease]) AS by_another;
SELECT id = :id AS same, status FROM kept;
-- the last workflow of a queue, and a new one of the same name
SELECT qflow.drop_workflow('kept'), qflow.create_workflow('kept', 'kept', timeout_ms => 5);

-- drop_queue: the table stays with its rows as an ordinary table, or goes; workflows and leases go
SELECT qflow.drop_queue('kept');
SELECT count(*) FROM kept;
INSERT INTO kept (data) VALUES ('{}') RETURNING status, enqueued_xid;
UPDATE kept SET status = 'pending' RETURNING status, available_at;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'kept'::regclass;
SELECT qflow.drop_queue('again', keep_table => false), to_regclass('again') AS again, (SELECT count(*) FROM qflow.lease_status WHERE queue LIKE '%again') AS leases,
    (SELECT count(*) FROM qflow.workflow_status WHERE workflow IN ('again', 'kept')) AS workflows;
\set VERBOSITY sqlstate
SELECT qflow.drop_queue('again');
SELECT qflow.drop_queue('kept');
SELECT qflow.fetch('again');
\set VERBOSITY default
-- and can be made once more, with nothing of the old one
SELECT qflow.create_queue('again');
SELECT count(*) FROM qflow.fetch('again');
-- made, used and dropped in one transaction; made and rolled back
BEGIN;
SELECT qflow.create_queue('brief');
SELECT qflow.enqueue('brief', '{}');
SELECT id FROM qflow.fetch('brief');
SELECT qflow.drop_queue('brief', false);
COMMIT;
BEGIN;
SELECT qflow.create_queue('brief');
ROLLBACK;
\set VERBOSITY sqlstate
SELECT qflow.enqueue('brief', '{}');
\set VERBOSITY default
-- a table that is dropped, renamed or moved by hand
SELECT qflow.create_queue('brief');
INSERT INTO brief (data) VALUES ('1');
ALTER TABLE brief RENAME TO lasting;
SELECT qflow.enqueue('lasting', '2');
ALTER TABLE lasting SET SCHEMA "Sales";
SELECT data FROM qflow.fetch('brief');
SELECT queue, in_flight FROM qflow.workflow_status WHERE workflow = 'brief';
DROP TABLE "Sales".lasting;
SELECT count(*) FROM qflow.workflow_status WHERE workflow = 'brief';
\set VERBOSITY sqlstate
SELECT qflow.fetch('brief');
SELECT qflow.ack('brief', '{1}', '{1}');
\set VERBOSITY default
SELECT qflow.create_queue('brief');
SELECT count(*) FROM qflow.fetch('brief');
-- (jobs set in progress by hand have no lease, which verify would find)
TRUNCATE old;
