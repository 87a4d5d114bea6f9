-- What needs qflow in shared_preload_libraries; preload_1.out is for a server that has it there.
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
SELECT qflow.create_queue('q');
INSERT INTO q (data) VALUES ('1'), ('2');
SELECT name, vartype, context, boot_val FROM pg_settings
WHERE name LIKE 'qflow.%' AND context = 'postmaster' ORDER BY name COLLATE "C";
DO $$
DECLARE state text; said text; hint text;
BEGIN
  RAISE WARNING '%', (SELECT count(*) FROM qflow.fetch('q', 1, hints => '{"bind": "session"}'));
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = returned_sqlstate, said = message_text, hint = pg_exception_hint;
  RAISE WARNING '% % | %', state, said, hint;
END $$;
SELECT bound, count(*) FROM qflow.lease_status GROUP BY 1;

-- slots that the session keeps by locks (hold = "session"), beside the holder's row: seen in pg_locks, for slots with database 0
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(1, 40) AS n;
SELECT qflow.alter_workflow('q', resource_hints => '{"gpu": 1, "hold": "session"}');
CALL qflow.wait('q', 0, '{"hold": "session"}');
SELECT qflow.alter_workflow('q', resource_hints => '{"gpu": 1}');
CREATE TABLE got (name text, id bigint, lease bigint);
CREATE FUNCTION take(name text, hints jsonb, demand bigint = 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text;
BEGIN
    WITH f AS MATERIALIZED (SELECT * FROM qflow.fetch('q', demand, hints => hints)),
        noted AS (INSERT INTO got SELECT take.name, f.id, f.lease FROM f)
    SELECT concat_ws(' ', count(*), 'jobs', string_agg(DISTINCT resources::text, ' ')) INTO said FROM f;
    RETURN said;
EXCEPTION WHEN object_not_in_prerequisite_state THEN RETURN SQLERRM;
END $$;
CREATE FUNCTION done(which text, strict boolean = false) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT qflow.ack('q', coalesce(array_agg(id), '{}'), coalesce(array_agg(lease), '{}'), strict) FROM got WHERE name = which);
EXCEPTION WHEN object_not_in_prerequisite_state THEN RETURN SQLERRM;
END $$;
-- what is held by rows, and by locks of this session
CREATE VIEW held AS SELECT (SELECT count(*) FROM qflow.holder WHERE by_session) AS rows,
    (SELECT string_agg(concat_ws(' ', objsubid, CASE database WHEN 0 THEN 'anywhere' ELSE 'here' END, mode), ', ' ORDER BY objsubid) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks;
\pset format unaligned
\pset tuples_only on
SELECT take('a', '{"hold": "session", "memory_gb": 2}', 2);
SELECT * FROM held;
SELECT resource, slot, units, lease IS NOT NULL AS lease, pid = pg_backend_pid() AS mine FROM qflow.resource_status WHERE pid IS NOT NULL;
SELECT jobs, bound, resources FROM qflow.lease_status WHERE resources IS NOT NULL;
-- busy for everybody else, whatever he holds by; a name is known with what it holds by
SELECT take('b', '{"hold": "session"}'), take('b', '{}'), take('b', '{"worker": "w"}');
SELECT take('b', '{"gpu": false}');
-- until the last job is settled, and that is committed
DELETE FROM got WHERE name = 'a' AND id = (SELECT min(id) FROM got WHERE name = 'a') RETURNING qflow.ack('q', ARRAY[id], ARRAY[lease]);
SELECT * FROM held;
BEGIN;
SELECT done('a');
SELECT * FROM held;
ROLLBACK;
SELECT * FROM held;
SELECT done('a');
SELECT * FROM held;
DELETE FROM got;
-- a name comes again
SELECT take('a', '{"hold": "session", "worker": "w"}'), take('b', '{"hold": "session", "worker": "w"}'), take('c', '{"hold": "lease", "worker": "w"}');
SELECT done('a');
SELECT * FROM held;
SELECT done('b');
SELECT * FROM held;
DELETE FROM got;
-- what is rolled back, whole or in part, is not kept; in a transaction that is prepared neither
BEGIN;
SELECT take('a', '{"hold": "session"}');
ROLLBACK;
SELECT * FROM held;
BEGIN;
SAVEPOINT s;
SELECT take('a', '{"hold": "session"}');
ROLLBACK TO s;
SELECT * FROM held;
SELECT take('a', '{"hold": "session"}');
SAVEPOINT s;
SELECT done('a');
ROLLBACK TO s;
COMMIT;
SELECT * FROM held;
SELECT done('a');
SELECT * FROM held;
DELETE FROM got;
BEGIN;
SELECT take('a', '{"hold": "session"}'), done('a');
SELECT * FROM held;
COMMIT;
SELECT * FROM held;
DELETE FROM got;
-- acked and fetched in one call: the lock passes from the one holder to the next; one that was lost is an error, as under strict
SELECT take('a', '{"hold": "session"}');
SELECT count(*), max(resources::text) FROM qflow.ack_and_fetch('q', (SELECT coalesce(array_agg(id), '{}') FROM got), (SELECT coalesce(array_agg(lease), '{}') FROM got), 1, hints => '{"hold": "session"}');
SELECT * FROM held;
DELETE FROM got;
INSERT INTO got SELECT 'a', q.id, q.lease FROM q JOIN qflow.lease AS l ON l.id = q.lease WHERE l.bound AND l.resources ? 'gpu' AND q.status = 'in_progress';
SELECT pg_advisory_unlock_all();
BEGIN;
SELECT count(*) FROM got, qflow.ack_and_fetch('q', ARRAY[got.id], ARRAY[got.lease], 1);
ROLLBACK;
SELECT done('a');
SELECT * FROM held;
DELETE FROM got;
BEGIN;
SELECT take('a', '{"hold": "session", "memory_gb": 1}');
PREPARE TRANSACTION 'preload';
ROLLBACK PREPARED 'preload'; -- where nothing was taken
SELECT * FROM held;
-- locks that the session has lost: said at the settle, which goes through but for strict
SELECT take('a', '{"hold": "session"}', 2);
SELECT pg_advisory_unlock_all();
SELECT * FROM held;
SELECT done('a', true);
SELECT done('a');
SELECT * FROM held;
DELETE FROM got;
SELECT take('a', '{"hold": "session", "memory_gb": 2}');
DISCARD ALL;
SET client_min_messages = warning;
SELECT done('a', true);
SELECT done('a');
SELECT * FROM held;
DELETE FROM got;
-- the time of its lease is over: the jobs go back, the slot stays until the session's next call
SELECT take('a', '{"hold": "session", "timeout_ms": 1}');
SELECT pg_sleep(0.01);
SELECT returned FROM qflow.reap();
SELECT * FROM held;
SELECT resource, slot, lease IS NOT NULL AS lease, pid = pg_backend_pid() AS mine FROM qflow.resource_status WHERE pid IS NOT NULL;
SELECT done('a');
SELECT * FROM held;
