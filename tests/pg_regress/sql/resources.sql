-- resources: what there is, what hints ask for, who gets it, how it is seen, and what gives it back. One session: what two
-- see of each other is in the isolation specs resource_*, what sessions keep by locks in golden preload and tests/process.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SELECT qflow.create_queue('q');
SELECT qflow.alter_workflow('q', retry_delay_ms => 0);
SELECT qflow.create_queue('r');
SELECT qflow.create_queue('empty');
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(1, 400) AS n;
INSERT INTO r (data) SELECT to_jsonb(n) FROM generate_series(1, 100) AS n;
SELECT FROM qflow.alter_workflow('q', retries => 1000);

-- What a call says: its result, or SQLSTATE: message | detail | hint.
CREATE FUNCTION says(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text; state text; said text; detail text; hint text;
BEGIN
    EXECUTE 'SELECT ' || call INTO result;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = returned_sqlstate, said = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
    RETURN state || ': ' || concat_ws(' | ', said, nullif(detail, ''), nullif(hint, ''));
END $$;
-- Fetches, and says how many jobs came with what; their leases are noted under a name.
CREATE TABLE got (name text, id bigint, lease bigint);
CREATE FUNCTION take(name text, workflow text, hints jsonb, demand bigint = 1) RETURNS text LANGUAGE sql AS $$
    WITH f AS MATERIALIZED (SELECT * FROM qflow.fetch(workflow, demand, hints => hints)),
        noted AS (INSERT INTO got SELECT take.name, f.id, f.lease FROM f)
    SELECT concat_ws(' ', count(*), 'jobs', string_agg(DISTINCT coalesce(resources::text, '-'), ' ')) FROM f $$;
-- Settles all that was noted under a name.
CREATE FUNCTION done(which text, workflow text = 'q') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE settled bigint;
BEGIN
    SELECT qflow.ack(workflow, coalesce(array_agg(id), '{}'), coalesce(array_agg(lease), '{}')) INTO settled FROM got WHERE name = which;
    DELETE FROM got WHERE name = which;
    RETURN settled;
END $$;
-- Who holds what; leases by their names.
CREATE VIEW held AS
    SELECT resource, kind, capacity, slot, units, (SELECT min(g.name) FROM got AS g WHERE g.lease = s.lease) AS lease, workflow, worker,
        pid = pg_backend_pid() AS mine, since <= clock_timestamp() AS since,
        lease_until = (SELECT l.lease_until FROM qflow.lease_status AS l WHERE l.lease = s.lease) AS until
    FROM qflow.resource_status AS s;
-- Nothing is held, noted or locked.
CREATE FUNCTION is_clean() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    RETURN NOT EXISTS (SELECT FROM qflow.holder) AND NOT EXISTS (SELECT FROM qflow.holder_lease)
        AND NOT EXISTS (SELECT FROM qflow.lease WHERE resources IS NOT NULL)
        AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid());
END $$;

-- 1 what there is
\pset tuples_only off
SELECT * FROM qflow.resource_status;
\pset tuples_only on
SELECT count(*) FROM qflow.resource; -- the built-in ones are no rows
SELECT says($$qflow.create_resource('lab', 2)$$), says($$qflow.create_resource('licence', 3, 'units')$$),
    says($$qflow.create_resource('heap', NULL, 'units')$$), says($$qflow.create_resource('later', 0)$$),
    says($$qflow.create_resource('plain', 1, NULL)$$);
SELECT resource, kind, capacity, created_at <= now() FROM qflow.resource ORDER BY resource;
SELECT says($$qflow.create_resource($$ || call || ')') FROM (VALUES
    ('NULL, 1'), ('''x'', NULL'), ('''x'', NULL, ''slots'''), ('''x'', -1'), ('''x'', -1, ''units'''), ('''x'', 1001'), ('''x'', 1001, ''units'''),
    ('''y'', 1, ''gpus'''), ('''y'', 1, ''Slots'''), ('''y'', 1, '''''), ('''lab'', 2'), ('''lab'', 2, ''units'''), ('''gpu'', 1'), ('''memory_gb'', NULL, ''units'''),
    (''''', 1'), ('repeat(''x'', 63), 0'), ('repeat(''x'', 64), 0'), ('E''a\nb'', 1'), ('''timeout_ms'', 1'), ('''wait_ms'', 1'), ('''on_busy'', 1'),
    ('''hold'', 1'), ('''bind'', 1'), ('''worker'', 1'), ('''"; DROP'', 0'), ('''GPU'', 0')) AS c (call);
SELECT says($$qflow.alter_resource($$ || call || ')') FROM (VALUES
    ('NULL, 1'), ('''nosuch'', 1'), ('''lab'', NULL'), ('''lab'', -1'), ('''lab'', 1001'), ('''lab'', 1000'), ('''lab'', 2'), ('''lab'', 2'),
    ('''licence'', NULL'), ('''licence'', 9223372036854775807'), ('''licence'', 3'), ('''gpu'', NULL'), ('''gpu'', 1'), ('''gpu'', 4'),
    ('''cpu_cores'', 16'), ('''cpu_cores'', NULL'), ('''timeout_ms'', 1')) AS c (call);
SELECT resource, kind, capacity FROM qflow.resource ORDER BY resource COLLATE "C"; -- an altered built-in one has a row
SELECT says($$qflow.drop_resource($$ || call || ')') FROM (VALUES
    ('NULL'), ('''nosuch'''), ('''plain'''), ('''plain'''), ('''gpu'''), ('''gpu'''), ('''cpu_cores'''), ('''memory_gb'''), ('repeat(''x'', 63)'), ('''"; DROP'''),
    ('''GPU'''), ('''x''')) AS c (call);
SELECT resource, kind, capacity, slot, units FROM qflow.resource_status;
-- a change rolled back is none, also for who looked meanwhile
BEGIN;
SELECT qflow.create_resource('brief', 1), qflow.alter_resource('gpu', 2);
SELECT take('a', 'q', '{"brief": 1, "gpu": [1]}');
ROLLBACK;
SELECT says($$take('a', 'q', '{"brief": 1}')$$);
SELECT says($$take('a', 'q', '{"gpu": [1]}')$$);
-- what a dump takes along: what users made
SELECT c.relname, x.condition FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS x (oid, condition)
JOIN pg_class AS c ON c.oid = x.oid WHERE e.extname = 'qflow' AND c.relname IN ('resource', 'holder', 'holder_lease') ORDER BY 1;

-- 2 what hints ask for: each is taken or refused in fetch, create_workflow, alter_workflow and wait alike
CREATE TABLE hint (nr serial, hints jsonb);
INSERT INTO hint (hints) VALUES
    ('{"gpu": true}'), ('{"gpu": 1}'), ('{"gpu": 1.0}'), ('{"gpu": 1e0}'), ('{"gpu": false}'), ('{"gpu": 0}'), ('{"gpu": null}'), ('{"gpu": -0}'), ('{"gpu": [0]}'),
    ('{"lab": 2}'), ('{"lab": [1]}'), ('{"lab": [1, 0]}'), ('{"licence": 3}'), ('{"licence": true}'), ('{"memory_gb": 1000000000}'),
    ('{"memory_gb": 9223372036854775807}'), ('{"lab": 1, "gpu": 1, "memory_gb": 16, "licence": 2, "cpu_cores": 8}'),
    ('{"gpu": 2}'), ('{"gpu": 1000000000}'), ('{"gpu": -1}'), ('{"gpu": 1.5}'), ('{"gpu": "yes"}'), ('{"gpu": "1"}'), ('{"gpu": {}}'), ('{"gpu": 1e30}'),
    ('{"gpu": []}'), ('{"gpu": [1]}'), ('{"gpu": [0, 1]}'), ('{"gpu": [0, 0]}'), ('{"gpu": [-1]}'), ('{"gpu": [0.5]}'), ('{"gpu": [null]}'), ('{"gpu": [true]}'),
    ('{"gpu": ["0"]}'), ('{"gpu": [[0]]}'), ('{"gpu": [9223372036854775807]}'), ('{"licence": 4}'), ('{"licence": [0]}'), ('{"memory_gb": [0]}'), ('{"later": 1}'), ('{"later": [0]}'), ('{"later": 0}'),
    ('{"tpu": 1}'), ('{"tpu": false}'), ('{"GPU": 1}'), ('{"": 1}'), ('{"gpu ": 1}'), ('{"on_busy": "wait"}'), ('{"on_busy": true}'), ('{"hold": "job"}'), ('{"hold": "lease"}'),
    ('{"bind": 1}'), ('{"wait_ms": -1}'), ('{"wait_ms": "1"}'), ('{"worker": 7}'), ('{"worker": ""}'), ('{"gpu": 1, "worker": "w", "wait_ms": 0, "on_busy": "error"}'),
    ('[]'), ('null'), ('7'),
    ((SELECT jsonb_object_agg('r' || n, 1) FROM generate_series(1, 32) AS n)), ((SELECT jsonb_object_agg('r' || n, 1) FROM generate_series(1, 33) AS n)),
    ((SELECT jsonb_object_agg('r' || n, 0) FROM generate_series(1, 100000) AS n)), (jsonb_build_object(repeat('x', 64), 1));
CREATE FUNCTION in_wait(hints jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN CALL qflow.wait('q', 0, hints); RETURN 'ok'; END $$;
CREATE TABLE answer AS SELECT nr, left(hints::text, 75) AS hints, says(format('take(%L, %L, %L)', 'hint', 'q', hints)) AS fetched, done('hint'),
    says(format('qflow.create_workflow(%L, %L, resource_hints => %L)', 'w' || nr, 'q', hints)) AS created,
    says(format('qflow.alter_workflow(%L, resource_hints => %L)', 'r', hints)) AS altered
FROM hint ORDER BY nr;
SELECT hints, fetched FROM answer ORDER BY nr;
SELECT hints, fetched, created, altered FROM answer
WHERE (fetched ~ '^[0-9]+ jobs' AND (created, altered) <> ('true', 'true')) OR (fetched !~ '^[0-9]+ jobs' AND (created <> fetched OR altered <> fetched));
SELECT is_clean();
SELECT qflow.alter_workflow('r', resource_hints => '{}');

-- 3 the call's hints over the workflow's, key by key
SELECT qflow.create_workflow('over', 'q', timeout_ms => 60000,
    resource_hints => '{"gpu": 1, "memory_gb": 4, "worker": "wf", "timeout_ms": 50000, "on_busy": "error", "lab": [1]}');
CREATE FUNCTION overlaid(hints jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text := says(format('take(%L, %L, %L)', 'o', 'over', hints));
BEGIN
    said := concat_ws(' | ', said, (SELECT DISTINCT worker FROM qflow.resource_status WHERE workflow = 'over'),
        (SELECT (extract(epoch FROM lease_until - leased_at))::int FROM qflow.lease_status WHERE workflow = 'over'));
    PERFORM done('o', 'over');
    RETURN said;
END $$;
SELECT hints, overlaid(hints)
FROM unnest(ARRAY[NULL, '{}', '{"gpu": false}', '{"gpu": 0}', '{"gpu": null}', '{"memory_gb": 8}', '{"lab": 2}', '{"lab": [0, 1]}', '{"licence": 1}', '{"worker": "call"}',
    '{"worker": null}', '{"timeout_ms": 7000}', '{"gpu": false, "lab": false, "memory_gb": false}']::jsonb[]) AS h (hints);
SELECT is_clean();
SELECT says($$take('a', 'q', '{"gpu": 1}')$$), says($$take('o', 'over', NULL)$$), says($$take('o', 'over', '{"on_busy": "empty"}')$$), says($$take('o', 'over', '{"on_busy": null}')$$);
SELECT done('a');
SELECT qflow.drop_workflow('over');

-- 4 who holds what
SELECT take('a', 'q', '{"gpu": true, "memory_gb": 16}', 3);
SELECT take('b', 'r', '{"lab": [1], "licence": 2, "worker": "b1"}', 2);
SELECT take('c', 'q', '{"licence": 1, "worker": "c1", "timeout_ms": 9000}');
SELECT * FROM held;
SELECT workflow, worker, jobs, unsettled, resources FROM qflow.lease_status ORDER BY lease;
SELECT qflow.prometheus() ~ 'qflow_resource_capacity{resource="lab"} 2' AS capacity, qflow.prometheus() ~ 'capacity{resource="memory_gb"}' AS no_limit,
    substring(qflow.prometheus() FROM 'qflow_resource_held{resource="licence"} ([0-9]+)') AS held, substring(qflow.prometheus() FROM 'qflow_resource_holders{resource="licence"} ([0-9]+)') AS holders,
    substring(qflow.prometheus() FROM 'qflow_resource_held{resource="gpu"} ([0-9]+)') AS gpu;
-- busy: no rows, or an error that names what; nothing else is taken, and what was taken meanwhile is given back
SELECT says(format('take(%L, %L, %L)', 'x', 'q', hints)) FROM unnest(ARRAY['{"gpu": 1}', '{"gpu": [0], "on_busy": "error"}', '{"cpu_cores": 1, "gpu": 1, "lab": 1, "on_busy": "error"}',
    '{"lab": 2, "on_busy": "error"}', '{"licence": 1, "on_busy": "error"}', '{"lab": 1, "licence": 1}', '{"lab": [1], "on_busy": "error"}']) AS h (hints);
SELECT count(*) FROM qflow.holder;
SELECT done('a'), done('b', 'r'), done('c'), is_clean();

-- 5 a fetch that gets nothing leaves nothing: no lock, no row, no transaction id
BEGIN;
SELECT take('a', 'empty', '{"gpu": 1, "memory_gb": 1, "licence": 1}');
SELECT take('a', 'empty', '{"gpu": 1, "worker": "w", "wait_ms": 20}');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_id, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks;
COMMIT;
SELECT take('a', 'q', '{"gpu": 1, "licence": 3}');
SET lock_timeout = '7s';
SET statement_timeout = '60s';
BEGIN;
SELECT count(*) FROM qflow.fetch('r', hints => '{"gpu": 1}');
SELECT count(*) FROM qflow.fetch('r', hints => '{"gpu": 1, "wait_ms": 40}');
SELECT count(*) FROM qflow.fetch('r', hints => '{"licence": 1, "cpu_cores": 2, "lab": 1, "wait_ms": 40}');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_id, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks;
SHOW lock_timeout;
SHOW statement_timeout;
-- the transaction is usable, also after the error in a savepoint
SAVEPOINT s;
SELECT count(*) FROM qflow.fetch('r', hints => '{"gpu": 1, "wait_ms": 20, "on_busy": "error"}');
ROLLBACK TO s;
SELECT take('b', 'r', '{"lab": 1}');
COMMIT;
SHOW lock_timeout;
RESET lock_timeout;
RESET statement_timeout;
-- the wait is bounded: what is longer than a second is taken as one
SELECT clock_timestamp() AS start \gset
SELECT count(*) FROM qflow.fetch('r', hints => '{"gpu": 1, "wait_ms": 3600000}');
SELECT clock_timestamp() - :'start' BETWEEN interval '1 second' AND interval '10 seconds' AS about_a_second;
SELECT done('a'), done('b', 'r'), is_clean();

-- 6 who comes again: by its worker's name, on the slot that it has; without one nobody
SELECT qflow.alter_resource('lab', 4);
SELECT take('a', 'q', '{"lab": 1}'), take('b', 'q', '{"lab": 1}'), take('c', 'q', '{"lab": 1, "worker": "w"}'), take('d', 'q', '{"lab": 1, "worker": "w"}'),
    take('e', 'q', '{"lab": 1, "worker": "v"}'), take('f', 'r', '{"lab": 1, "worker": "w"}'), take('g', 'q', '{"lab": [2, 3], "worker": "w"}'), take('h', 'q', '{"lab": [3], "worker": "w"}');
SELECT * FROM held WHERE resource = 'lab';
SELECT done('c'), done('g');
SELECT slot, lease, worker FROM held WHERE resource = 'lab'; -- kept for its other lease
SELECT done('d');
SELECT slot, lease, worker FROM held WHERE resource = 'lab';
-- it asks for more than it has: what it has counts; and one who asks for less keeps to what it has
SELECT take('c', 'q', '{"lab": 1, "worker": "w"}'), done('a'), take('d', 'q', '{"lab": 2, "worker": "w"}'), take('g', 'q', '{"lab": 1, "worker": "w"}');
SELECT slot, lease, worker FROM held WHERE resource = 'lab';
SELECT done('c'), done('d');
SELECT slot, lease, worker FROM held WHERE resource = 'lab';
SELECT done('b'), done('g'), done('e'), is_clean();
-- units: once for each worker, the larger of what it asked for
SELECT take('a', 'q', '{"licence": 1, "worker": "w"}'), take('b', 'q', '{"licence": 2, "worker": "w"}'), take('c', 'q', '{"licence": 1, "worker": "w"}'),
    take('d', 'q', '{"licence": 2}'), take('e', 'q', '{"licence": 1}'), take('f', 'q', '{"licence": 3, "worker": "w"}');
SELECT units, lease, worker FROM held WHERE resource = 'licence';
SELECT done('b'), done('e'), take('g', 'q', '{"licence": 3, "worker": "w"}');
SELECT units, lease, worker FROM held WHERE resource = 'licence';
SELECT done('a'), done('c'), done('g'), is_clean();
-- without a limit: never refused, each its own, the sum shown
SELECT take('a', 'q', '{"memory_gb": 9223372036854775807}'), take('b', 'q', '{"memory_gb": 9223372036854775807}'), take('c', 'q', '{"memory_gb": 1, "worker": "w"}'), take('d', 'q', '{"memory_gb": 5, "worker": "w"}');
SELECT units, lease, worker FROM held WHERE resource = 'memory_gb';
SELECT says($$qflow.prometheus() ~ 'qflow_resource_held{resource="memory_gb"} 18446744073709551619'$$);
SELECT done('a'), done('b'), done('c'), done('d'), is_clean();

-- 7 what frees a slot: the last job's settlement, whatever it is
CREATE TABLE way (nr serial, settle text);
INSERT INTO way (settle) VALUES ('qflow.ack(''q'', ARRAY[$1], ARRAY[$2])'), ('qflow.requeue(''q'', ARRAY[$1], ARRAY[$2])'), ('qflow.fail(''q'', ARRAY[$1], ARRAY[$2])'),
    ('qflow.release(''q'', ARRAY[$1], ARRAY[$2])'), ('qflow.ack(''q'', ARRAY[$1], ARRAY[$2], true)'),
    ('(SELECT count(*) FROM qflow.settle(''q'', jsonb_build_array(jsonb_build_object(''id'', $1, ''lease'', $2, ''outcome'', ''ack''))))');
CREATE FUNCTION freed_by(settle text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE job record; said text; n bigint;
BEGIN
    said := take('way', 'q', '{"gpu": 1, "licence": 2}', 3);
    FOR job IN SELECT * FROM got WHERE name = 'way' ORDER BY id LOOP
        EXECUTE 'SELECT ' || replace(replace(settle, '$1', job.id::text), '$2', job.lease::text) INTO n;
        said := said || format(', settled %s: %s', n, (SELECT count(*) FROM qflow.resource_status WHERE lease IS NOT NULL));
    END LOOP;
    DELETE FROM got WHERE name = 'way';
    RETURN said;
END $$;
SELECT settle, freed_by(settle) FROM way ORDER BY nr;
SELECT is_clean();
-- two batches of one lease: until the last job of all
INSERT INTO got SELECT 'batch ' || batch_no, id, lease FROM qflow.fetch('q', 4, 2, '{"gpu": 1}');
SELECT name, count(*), count(DISTINCT lease) FROM got GROUP BY name ORDER BY name;
SELECT done('batch 1'), (SELECT count(*) FROM qflow.resource_status WHERE lease IS NOT NULL);
SELECT done('batch 2'), is_clean();
-- settled in one call with the job of another lease; again, and by an id alone
SELECT take('a', 'q', '{"gpu": 1}', 2), take('a', 'q', '{"lab": 2}', 2);
SELECT done('a'), is_clean();
SELECT take('a', 'q', '{"gpu": 1}');
SELECT qflow.ack('q', array_agg(id), array_agg(lease)), is_clean() FROM got;
SELECT qflow.ack('q', array_agg(id), array_agg(lease)), is_clean() FROM got;
DELETE FROM got;
SET qflow.allow_unfenced = on;
SELECT take('a', 'q', '{"gpu": 1}');
SELECT qflow.ack('q', array_agg(id), NULL), is_clean() FROM got;
DELETE FROM got;
RESET qflow.allow_unfenced;
-- the job's row is gone, or was ended by hand: settling its lease still gives back what that held
SELECT take('a', 'q', '{"gpu": 1}', 2), take('b', 'q', '{"licence": 1}');
DELETE FROM q WHERE id = (SELECT min(id) FROM got WHERE name = 'a');
UPDATE q SET status = 'completed' WHERE id = (SELECT max(id) FROM got WHERE name = 'a');
SELECT done('a');
SELECT resource FROM held WHERE lease IS NOT NULL;
SELECT done('b'), is_clean();
-- its time is over: reap, or without a worker the very fetch that needs the slot
SELECT take('a', 'q', '{"gpu": 1, "timeout_ms": 1}', 2), pg_sleep(0.01);
SELECT lease IS NOT NULL, pid IS NOT NULL FROM qflow.resource_status WHERE resource = 'gpu';
SELECT * FROM qflow.reap() WHERE returned > 0;
SELECT is_clean();
SELECT take('b', 'q', '{"gpu": 1, "timeout_ms": 1}', 2), pg_sleep(0.01);
SELECT take('c', 'r', '{"gpu": 1}');
SELECT workflow, lease FROM held WHERE resource = 'gpu';
SELECT done('b'), done('c', 'r'), is_clean();
-- extended, it is held on
SELECT take('a', 'q', '{"gpu": 1, "timeout_ms": 1}');
SELECT count(*) FROM got, qflow.extend('q', ARRAY[lease], 60000) WHERE name = 'a';
SELECT count(*) FROM qflow.reap();
SELECT workflow, lease, until FROM held WHERE resource = 'gpu';
SELECT done('a'), is_clean();
-- the queue is dropped, or its table
SELECT qflow.create_queue('gone'), qflow.create_queue('lost');
INSERT INTO gone (data) VALUES ('1');
INSERT INTO lost (data) VALUES ('1'), ('2');
SELECT take('x', 'gone', '{"gpu": 1, "licence": 1}'), take('x', 'lost', '{"lab": 4}');
SELECT resource, slot, units, workflow FROM held WHERE lease IS NOT NULL;
SELECT qflow.drop_queue('gone');
SELECT resource, slot, units, workflow FROM held WHERE lease IS NOT NULL;
DROP TABLE lost;
-- without a worker the fetch that needs its slots takes them back when the lease has ended, and reap at once
SELECT take('c', 'q', '{"lab": 1}');
UPDATE qflow.lease SET deadline = clock_timestamp() - interval '1 second' WHERE workflow = 'lost';
SELECT take('c', 'q', '{"lab": 4}');
SELECT done('c'), is_clean();
SELECT qflow.create_queue('lost');
INSERT INTO lost (data) VALUES ('1'), ('2');
SELECT take('x', 'lost', '{"lab": 4}');
DROP TABLE lost;
SELECT take('c', 'q', '{"lab": 1}');
SELECT count(*) FROM qflow.reap();
SELECT done('c'), is_clean();
DELETE FROM got;
-- a workflow dropped with a lease under way
SELECT qflow.create_workflow('short', 'q');
SELECT take('a', 'short', '{"gpu": 1, "worker": "w"}');
SELECT says($$qflow.drop_workflow('short')$$);
SELECT workflow, lease, worker FROM held WHERE resource = 'gpu';
SELECT done('a'), is_clean(); -- another workflow's: nothing settled, nothing freed
SELECT workflow FROM held WHERE resource = 'gpu';
SELECT qflow.break_lease(lease) FROM qflow.lease_status WHERE workflow = 'short';
SELECT is_clean();

-- 8 break_lease: jobs and resources back at once
SELECT says($$qflow.break_lease(NULL)$$), says($$qflow.break_lease(0)$$), says($$qflow.break_lease(-1)$$), says($$qflow.break_lease(9223372036854775807)$$);
SELECT take('a', 'q', '{"gpu": 1}', 2), take('b', 'q', NULL);
SELECT says(format('qflow.break_lease(%s)', lease)), is_clean() FROM got WHERE name = 'a' LIMIT 1;
SELECT says(format('qflow.break_lease(%s)', min(lease))) FROM got WHERE name = 'a';
SELECT says(format('qflow.break_lease(%s)', lease)) FROM got WHERE name = 'b';
SELECT status, attempt, failure_reason FROM q WHERE id IN (SELECT id FROM got) ORDER BY id;
SELECT outcome, count(*) FROM qflow.settle('q', (SELECT jsonb_agg(jsonb_build_object('id', id, 'lease', lease, 'outcome', 'ack')) FROM got)) GROUP BY outcome;
DELETE FROM got;
-- of two leases on a slot, one
SELECT take('a', 'q', '{"gpu": 1, "worker": "w"}'), take('b', 'q', '{"gpu": 1, "worker": "w"}');
SELECT qflow.break_lease(lease) FROM got WHERE name = 'a';
SELECT slot, lease, worker FROM held WHERE resource = 'gpu';
SELECT done('a'), done('b'), is_clean();

-- 9 transactions
BEGIN;
SELECT take('a', 'q', '{"gpu": 1, "memory_gb": 2}');
SELECT slot, units, lease FROM held WHERE lease IS NOT NULL;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory'; -- the slot's, until the end
ROLLBACK;
SELECT is_clean(), count(*) FROM got;
BEGIN;
SAVEPOINT s;
SELECT take('a', 'q', '{"gpu": 1, "licence": 3}');
ROLLBACK TO s;
SELECT is_clean();
SELECT take('b', 'q', '{"gpu": 1, "licence": 3}');
SAVEPOINT s;
SELECT done('b'), is_clean(), count(*) AS locks FROM pg_locks WHERE locktype = 'advisory';
SELECT take('c', 'r', '{"gpu": 1, "licence": 3}');
ROLLBACK TO s;
SELECT slot, units, lease, workflow FROM held WHERE lease IS NOT NULL;
SELECT take('c', 'r', '{"gpu": 1}');
SAVEPOINT s;
SELECT take('c', 'r', '{"lab": [2]}');
RELEASE s;
COMMIT;
SELECT slot, units, lease, workflow FROM held WHERE lease IS NOT NULL;
SELECT done('b'), done('c', 'r'), is_clean();
-- an error after the fetch, in a block that catches it
DO $$ BEGIN
    PERFORM take('a', 'q', '{"gpu": 1, "licence": 3}');
    RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN NULL;
END $$;
SELECT is_clean();
-- taken, settled and taken again in one transaction
BEGIN;
SELECT take('a', 'q', '{"gpu": 1}');
SELECT done('a'), take('b', 'r', '{"gpu": 1}');
SELECT done('b', 'r'), take('c', 'q', '{"gpu": 1, "worker": "w"}'), take('d', 'q', '{"gpu": 1, "worker": "w"}'), take('e', 'q', '{"gpu": 1, "worker": "v"}');
COMMIT;
SELECT slot, lease, worker FROM held WHERE resource = 'gpu';
SELECT done('c'), done('d'), is_clean();
-- at the stricter levels too
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM q WHERE id < 0;
SELECT take('a', 'q', '{"gpu": 1, "licence": 2}'), take('b', 'q', '{"gpu": 1}'), take('c', 'q', '{"licence": 2}');
SELECT done('a');
SELECT take('b', 'q', '{"gpu": 1, "licence": 3, "worker": "w"}'), take('c', 'q', '{"gpu": 1, "worker": "w"}');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT take('d', 'q', '{"gpu": 1, "worker": "w"}'), done('b'), done('c');
SELECT slot, lease, worker FROM held WHERE resource = 'gpu';
SELECT done('d');
COMMIT;
SELECT is_clean();
-- PREPARE TRANSACTION: not where resources were taken, though they were given back again; but where one only settled
BEGIN;
SELECT take('a', 'q', '{"gpu": 1}');
\set VERBOSITY sqlstate
PREPARE TRANSACTION 'resources';
\set VERBOSITY default
SELECT is_clean(), count(*) FROM got;
BEGIN;
SELECT take('a', 'q', '{"memory_gb": 1}'), done('a');
PREPARE TRANSACTION 'resources';
SELECT is_clean();
SELECT take('a', 'q', '{"gpu": 1, "licence": 1}');
BEGIN;
SELECT take('b', 'r', '{"gpu": 1}'); -- busy: nothing taken
SELECT done('a');
SAVEPOINT s;
SELECT take('b', 'r', '{"gpu": 1}'); -- taken, and given back
ROLLBACK TO s;
SELECT qflow.alter_resource('lab', 2);
PREPARE TRANSACTION 'resources';
SELECT take('b', 'r', '{"gpu": 1}'); -- not free before it is committed
COMMIT PREPARED 'resources';
SELECT is_clean();
SELECT take('b', 'r', '{"gpu": 1}');
SELECT done('b', 'r'), is_clean();

-- 10 an application's own locks: the same numbers are others, and letting go of all of them is no harm to a lease
BEGIN;
SELECT take('a', 'q', '{"gpu": 1}');
SELECT objsubid, mode, database, (classid::bigint << 32 | objid::bigint) AS both, classid::bigint - (CASE WHEN classid::bigint > 2147483647 THEN 4294967296 ELSE 0 END) AS high, objid::bigint AS low
FROM pg_locks WHERE locktype = 'advisory' \gset
\echo :objsubid :mode :database
COMMIT;
SELECT pg_advisory_unlock(:high::int, :low::int), pg_advisory_unlock(:both), pg_try_advisory_lock(:high::int, :low::int), pg_try_advisory_lock(:both);
SELECT take('b', 'q', '{"gpu": 1}');
SELECT pg_advisory_unlock_all();
SELECT take('b', 'q', '{"gpu": 1}');
SELECT slot, lease FROM held WHERE resource = 'gpu';
BEGIN;
SELECT pg_advisory_xact_lock(:high::int, :low::int), done('a'), take('b', 'q', '{"gpu": 1, "licence": 1}');
SELECT pg_advisory_unlock_all();
COMMIT;
SELECT slot, units, lease FROM held WHERE lease IS NOT NULL;
SELECT done('b'), is_clean();

-- 11 less than what is held: who holds keeps it, and nobody else gets it
SELECT qflow.alter_resource('gpu', 3);
SELECT take('a', 'q', '{"gpu": 2, "licence": 3, "worker": "w"}'), take('b', 'q', '{"gpu": [2]}');
SELECT qflow.alter_resource('gpu', 1), qflow.alter_resource('licence', 1);
SELECT resource, capacity, slot, units, lease FROM held WHERE resource IN ('gpu', 'licence');
SELECT take('c', 'q', '{"gpu": 1}'), take('c', 'q', '{"licence": 1}'), says($$take('c', 'q', '{"gpu": 2}')$$), says($$take('c', 'q', '{"gpu": [2]}')$$), says($$take('c', 'q', '{"licence": 2}')$$);
SELECT take('d', 'q', '{"gpu": 1, "worker": "w"}');
SELECT says($$qflow.alter_resource('gpu', 0)$$), says($$take('c', 'q', '{"gpu": 1}')$$), says($$qflow.drop_resource('gpu')$$), says($$qflow.drop_resource('licence')$$);
SELECT done('a'), done('b');
SELECT resource, capacity, slot, units, lease FROM held WHERE resource IN ('gpu', 'licence');
SELECT done('d'), is_clean();
SELECT says($$qflow.drop_resource('gpu')$$), says($$qflow.drop_resource('licence')$$);
-- a workflow whose resource is gone
SELECT qflow.alter_workflow('r', resource_hints => '{"lab": 1}');
SELECT says($$qflow.drop_resource('lab')$$);
SELECT says($$take('a', 'r', NULL)$$), says($$take('a', 'r', '{"lab": false}')$$);
SELECT check_name, detail, remedy FROM qflow.readiness('r') WHERE check_name = 'resources' AND NOT ok;
-- made again as units
SELECT qflow.create_resource('lab', 2, 'units');
SELECT take('a', 'r', NULL);
SELECT done('a', 'r'), is_clean();
SELECT qflow.alter_workflow('r', resource_hints => '{}');

-- 12 rows of another database: a copy made with CREATE DATABASE ... TEMPLATE brings its holders along
SELECT take('a', 'q', '{"gpu": 1, "memory_gb": 3}');
UPDATE qflow.holder SET database_oid = 1;
SELECT resource, slot, units, lease FROM held WHERE resource IN ('gpu', 'memory_gb');
SELECT says($$take('b', 'q', '{"gpu": 1, "memory_gb": 4}')$$);
SELECT resource, slot, units, lease FROM held WHERE resource IN ('gpu', 'memory_gb');
SELECT done('a'), done('b'), is_clean();

-- 13 rights: an ordinary role fetches with what there is; making, changing and breaking are granted by name
CREATE ROLE resources_user;
CREATE ROLE resources_admin;
GRANT USAGE ON SCHEMA public TO resources_user;
GRANT EXECUTE ON FUNCTION qflow.create_resource, qflow.alter_resource, qflow.drop_resource, qflow.break_lease TO resources_admin;
SELECT qflow.grant_consumer('r', 'resources_user');
SELECT take('a', 'q', '{"gpu": 1, "worker": "secret"}'), take('b', 'r', '{"lab": 1}'), take('b', 'r', '{"memory_gb": 1, "worker": "mine"}');
SET SESSION AUTHORIZATION resources_user;
SELECT qflow.create_resource('x', 1);
SELECT qflow.alter_resource('gpu', 2);
SELECT qflow.drop_resource('lab');
SELECT qflow.break_lease(1);
SELECT count(*) FROM qflow.holder;
SELECT count(*) FROM qflow.holder_lease;
INSERT INTO qflow.resource (resource, kind) VALUES ('x', 'units');
SELECT resource, kind, capacity FROM qflow.resource;
-- he sees what is held, but not by whom of a queue that is not his
SELECT resource, slot, units, lease IS NOT NULL AS lease, workflow, worker FROM qflow.resource_status;
SELECT count(resources) FROM qflow.fetch('r', 1, hints => '{"gpu": 1}');
SELECT resources FROM qflow.fetch('r', 1, hints => '{"lab": 1, "memory_gb": 5}');
RESET SESSION AUTHORIZATION;
SELECT qflow.break_lease(lease) FROM (SELECT DISTINCT lease FROM qflow.lease_status WHERE workflow = 'r' AND resources ? 'lab') AS l;
SET SESSION AUTHORIZATION resources_admin;
SELECT qflow.create_resource('x', 1), qflow.alter_resource('x', 2), qflow.drop_resource('x');
SELECT qflow.break_lease(9223372036854775807);
SELECT qflow.break_lease(lease) FROM qflow.resource_status WHERE resource = 'gpu' AND lease IS NOT NULL;
SELECT lease FROM qflow.resource_status WHERE resource = 'gpu';
RESET SESSION AUTHORIZATION;
SELECT done('a'), done('b', 'r'), is_clean();
-- reading only
BEGIN READ ONLY;
SELECT says($$qflow.create_resource('x', 1)$$), says($$qflow.alter_resource('gpu', 2)$$), says($$qflow.drop_resource('lab')$$), says($$qflow.break_lease(1)$$),
    says($$(SELECT count(*) FROM qflow.fetch('q', 1, hints => '{"gpu": 1}'))$$), (SELECT count(*) FROM qflow.resource_status);
COMMIT;
DROP OWNED BY resources_user, resources_admin;
DROP ROLE resources_user, resources_admin;

-- 14 wait: returns at once where the resources are free too, else at its deadline; takes and leaves nothing
SET qflow.poll_interval_ms = 10;
CREATE TABLE clock AS SELECT clock_timestamp() AS at;
CREATE PROCEDURE start() LANGUAGE sql AS 'UPDATE clock SET at = clock_timestamp()';
CREATE FUNCTION came() RETURNS text LANGUAGE sql AS
    $$SELECT CASE WHEN clock_timestamp() - at < '30 s' THEN 'early' ELSE 'late' END FROM clock$$;
CREATE FUNCTION waited(ms bigint) RETURNS text LANGUAGE sql AS
    $$SELECT CASE WHEN clock_timestamp() - at >= make_interval(secs => ms / 1000.0) THEN 'to the end' ELSE 'less' END FROM clock$$;
CALL start();
CALL qflow.wait('q', 60000, '{"gpu": 1, "memory_gb": 1, "cpu_cores": 1}');
SELECT came(), is_clean();
-- with preload the turn is its caller's for a while, whose next fetch takes it
SELECT take('a', 'q', '{"gpu": 1}');
SELECT done('a'), take('a', 'r', '{"gpu": 1, "worker": "w"}');
CALL start();
CALL qflow.wait('q', 200, '{"gpu": 1}');
SELECT waited(200);
CALL start();
CALL qflow.wait('q', 60000, '{"gpu": false}');
-- the one who has it, by its name
CALL qflow.wait('r', 60000, '{"gpu": 1, "worker": "w"}');
SELECT came();
CALL start();
CALL qflow.wait('r', 200, '{"gpu": 1, "worker": "v"}');
SELECT waited(200);
SELECT done('a', 'r'), is_clean();
