-- ack_and_fetch: jobs are acked and others fetched in one call, all or nothing; what the acked leases held goes to the fetch.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SELECT qflow.create_queue('q');
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(1, 7) AS n;

-- The leases as they were noted, and what comes of acking jobs under them and fetching others: 'id/attempt resources, …'.
CREATE TABLE got (id bigint PRIMARY KEY, lease bigint);
CREATE FUNCTION turn(ids bigint[], demand bigint = 2, hints jsonb = NULL, flow text = 'q') RETURNS text LANGUAGE sql AS $$
    WITH f AS MATERIALIZED (SELECT * FROM qflow.ack_and_fetch(flow, ids,
            (SELECT coalesce(array_agg(g.lease ORDER BY i.at), '{}') FROM unnest(ids) WITH ORDINALITY AS i (id, at) JOIN got AS g USING (id)), demand, hints => hints)),
        noted AS (INSERT INTO got SELECT f.id, f.lease FROM f ON CONFLICT (id) DO UPDATE SET lease = excluded.lease)
    SELECT coalesce(string_agg(concat_ws(' ', f.id || '/' || f.attempt, f.resources), ', ' ORDER BY f.id), 'nothing') FROM f $$;
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
-- How the jobs stand, and how many leases there are.
CREATE FUNCTION stand(queue regclass = 'q') RETURNS text LANGUAGE plpgsql AS $$
DECLARE jobs text;
BEGIN
    EXECUTE format('SELECT string_agg(state || '': '' || ids, '', '' ORDER BY state)
        FROM (SELECT status AS state, string_agg(id::text, '' '' ORDER BY id) AS ids FROM %s GROUP BY status) AS s', queue) INTO jobs;
    RETURN concat_ws('; ', jobs, (SELECT count(*) FROM qflow.lease) || ' leases');
END $$;

-- 1 a consumer's loop: the first turn acks nothing, the last brings nothing. The columns are those of fetch
SELECT batch_no, id, data, metadata, attempt, max_attempts, lease = (SELECT max(l.lease) FROM qflow.lease_status AS l) AS lease,
    lease_until = (SELECT max(l.lease_until) FROM qflow.lease_status AS l) AS lease_until, inserted_at <= now(), failure_reason, resources
FROM qflow.ack_and_fetch('q', '{}', '{}', 3, 2);
INSERT INTO got SELECT id, lease FROM q WHERE status = 'in_progress';
SELECT turn('{1,2,3}', 3);
SELECT stand();
SELECT turn('{4,5,6}', 3), stand();
SELECT stand();
SELECT turn('{7}', 3);
SELECT stand();

-- 2 the answer got lost: the same ack again is accepted, and what the first brought is not brought again
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(8, 13) AS n;
SELECT turn('{}'), turn('{8,9}');
SELECT turn('{8,9}'), stand();
-- a pair twice is one
SELECT turn('{10,10,11,10}');
SELECT stand();

-- 3 some jobs of a lease: the others stay under it
SELECT turn('{12}', 1), stand();
SELECT turn('{13}', 1);
SELECT stand();

-- 4 what is not accepted: 55000, nothing is acked, nothing fetched, no attempt charged
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(14, 20) AS n;
SELECT turn('{}', 4);
-- under a lease that is none
SELECT says($$(SELECT count(*) FROM qflow.ack_and_fetch('q', ARRAY[14, 15], ARRAY[$$ || lease || ', ' || lease + 1000 || ']))') FROM got WHERE id = 14;
-- under that of another workflow
SELECT qflow.create_workflow('other', 'q');
SELECT turn('{}', 1, NULL, 'other');
SELECT says($$turn('{14,15,18}')$$);
-- given back since; a job that there is not
SELECT qflow.release('q', ARRAY[16], ARRAY[lease]) FROM got WHERE id = 16;
SELECT says($$turn('{14,16}')$$);
SELECT says($$(SELECT count(*) FROM qflow.ack_and_fetch('q', ARRAY[14, 999], ARRAY[$$ || lease || ']))') FROM got WHERE id = 14;
SELECT stand();
SELECT id, attempt FROM q WHERE status = 'pending' ORDER BY id;
-- taken back since
UPDATE qflow.lease SET deadline = clock_timestamp() - interval '1 second' WHERE workflow = 'q';
SELECT returned FROM qflow.reap();
SELECT says($$turn('{14,15}')$$);
SELECT stand();
SELECT qflow.ack('other', ARRAY[18], ARRAY[lease]) FROM got WHERE id = 18;
UPDATE q SET status = 'completed' WHERE status = 'pending';

-- 5 the fetch fails: nothing is acked
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(21, 30) AS n;
SELECT turn('{}', 2);
SELECT qflow.create_queue('r');
INSERT INTO r (data) SELECT to_jsonb(n) FROM generate_series(1, 3) AS n;
SELECT id, resources FROM qflow.fetch('r', 1, hints => '{"gpu": 1}');
SELECT says($$turn('{21,22}', 2, '{"gpu": 1, "on_busy": "error"}')$$);
SELECT says($$turn('{21,22}', 2, '{"tpu": 1}')$$);
SELECT says($$turn('{21,22}', 2, '{"gpu": [7]}')$$);
SELECT says($$turn('{21,22}', 0)$$);
SELECT says($$turn('{21,22}', 10001)$$);
SELECT stand();
-- but busy alone is no failure: acked, no rows
SELECT turn('{21}', 2, '{"gpu": 1}');
SELECT turn('{21}', 2, '{"gpu": 1, "wait_ms": 1}');
SELECT stand();
SELECT qflow.drop_queue('r', false);

-- 6 NULL, lengths, shapes; without ids it is a plain fetch, of a workflow that there is
SELECT says($$(SELECT count(*) FROM qflow.ack_and_fetch($$ || call || '))') FROM (VALUES
    ('NULL, ARRAY[1], ARRAY[1]'), ('''q'', NULL, ARRAY[1]'), ('''q'', ARRAY[1], NULL'), ('''q'', ''{}'', NULL'), ('''q'', ARRAY[1, NULL], ARRAY[1, 1]'),
    ('''q'', ARRAY[1], ARRAY[NULL::bigint]'), ('''q'', ARRAY[1, 2], ARRAY[1, 2, 3]'), ('''q'', ARRAY[1, 2, 3], ARRAY[1, 2]'), ('''q'', ARRAY[1], ''{}'''),
    ('''q'', ''{}'', ARRAY[1, 2]'), ('''q'', ''{{1},{2}}'', ARRAY[1]'), ('''nosuch'', ''{}'', ''{}'''), ('''q'', ''{}'', ''{}'', -1'),
    ('''q'', ''{}'', ''{}'', NULL, 0'), ('''q'', ''{}'', ''{}'', NULL, NULL, ''[]''')) AS c (call);
SELECT stand();
SELECT id FROM qflow.ack_and_fetch('q', '{}', ARRAY[4711], 1);
SELECT count(*), max(batch_no) FROM got, qflow.ack_and_fetch('q', ARRAY[got.id], ARRAY[got.lease], NULL, 3, NULL) WHERE got.id = 22;
SELECT stand();
BEGIN READ ONLY;
SELECT count(*) FROM qflow.ack_and_fetch('q', '{}', '{}');
ROLLBACK;
SELECT qflow.ack('q', array_agg(id), array_agg(lease)) FROM q WHERE status = 'in_progress';
UPDATE q SET status = 'completed' WHERE status = 'pending';

-- 7 on_complete delete: the rows are gone, so a replay finds none
SELECT qflow.create_queue('d', on_complete => 'delete');
INSERT INTO d (data) SELECT to_jsonb(n) FROM generate_series(1, 5) AS n;
DELETE FROM got;
SELECT turn('{}', 2, NULL, 'd');
SELECT turn('{1,2}', 2, NULL, 'd');
SELECT stand('d');
SELECT says($$turn('{1,2}', 2, NULL, 'd')$$);
SELECT turn('{3}', 2, NULL, 'd');
SELECT stand('d');
SELECT turn('{4,5}', 2, NULL, 'd');
SELECT stand('d');

-- 8 paused, the workflow or its queue: acked, no rows
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(31, 42) AS n;
DELETE FROM got;
SELECT turn('{}', 2), qflow.pause_workflow('q');
SELECT turn('{31}');
SELECT qflow.resume_workflow('q'), qflow.pause_queue('q');
SELECT turn('{32}');
SELECT stand();
SELECT qflow.resume_queue('q'), turn('{}', 1);

-- 9 the slot of the acked lease is free for this fetch; while a job is left under it, it is taken, but not for the same worker
CREATE VIEW held AS SELECT resource, slot, units, (SELECT string_agg(g.id::text, ' ' ORDER BY g.id) FROM got AS g WHERE g.lease = s.lease) AS lease, worker
    FROM qflow.resource_status AS s WHERE s.lease IS NOT NULL;
SELECT turn('{33}', 1, '{"gpu": 1}');
SELECT turn('{34}', 2, '{"gpu": 1}');
SELECT turn('{35}', 1, '{"gpu": 1}');
TABLE held;
SELECT turn('{36}', 2, '{"gpu": 1, "worker": "w", "memory_gb": 4}');
SELECT turn('{37}', 1, '{"gpu": 1, "worker": "w", "memory_gb": 6}');
SELECT * FROM held ORDER BY resource, lease;
SELECT turn('{38,39}', 1, '{"gpu": 1, "worker": "w"}');
TABLE held;
-- where nothing comes, it is nobody's
UPDATE q SET available_at = now() + interval '1 day' WHERE status = 'pending';
SELECT turn('{40}', 1, '{"gpu": 1, "worker": "w"}');
TABLE held;
UPDATE q SET available_at = now() WHERE status = 'pending';

-- 10 in a transaction: with it, or not at all
SELECT turn('{}', 1, '{"gpu": 1}');
BEGIN;
SELECT turn('{41}', 1, '{"gpu": 1}'), stand();
SELECT stand();
SELECT turn('{42}', 1, '{"gpu": 1}');
SELECT stand();
TABLE held;
ROLLBACK;
SELECT stand();
UPDATE got SET lease = q.lease FROM q WHERE q.id = got.id;
TABLE held;
BEGIN;
SAVEPOINT s;
SELECT turn('{41}', 1, '{"gpu": 1}');
ROLLBACK TO s;
SELECT stand();
UPDATE got SET lease = q.lease FROM q WHERE q.id = got.id;
SELECT turn('{41}', 1, '{"gpu": 1}');
COMMIT;
TABLE held;
-- what one call of a statement fetched, the next acks
SELECT f.id, a.id, a.attempt FROM qflow.ack_and_fetch('q', ARRAY[42], (SELECT array_agg(lease) FROM got WHERE id = 42), 1, hints => '{"gpu": 1}') AS f
    LEFT JOIN LATERAL qflow.ack_and_fetch('q', ARRAY[f.id], ARRAY[f.lease], 1, hints => '{"gpu": 1}') AS a ON true;
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(43, 48) AS n;
SELECT f.id, a.id, a.attempt FROM qflow.ack_and_fetch('q', '{}', '{}', 1, hints => '{"gpu": 1}') AS f
    LEFT JOIN LATERAL qflow.ack_and_fetch('q', ARRAY[f.id], ARRAY[f.lease], 1, hints => '{"gpu": 1}') AS a ON true;
SELECT stand();

-- 11 by ids alone, where that is allowed: jobs in progress under a lease of this workflow, and nothing is a replay
SET qflow.allow_unfenced = on;
SELECT id FROM qflow.ack_and_fetch('q', ARRAY[44], NULL, 2);
SELECT says($$(SELECT count(*) FROM qflow.ack_and_fetch('q', ARRAY[44, 45], NULL, 2))$$);
SELECT stand();
SELECT id FROM qflow.ack_and_fetch('q', ARRAY[45, 46], NULL, 1);
SELECT id FROM qflow.ack_and_fetch('q', '{}', NULL, 1);
SELECT count(*) FROM qflow.ack_and_fetch('q', ARRAY[47, 48], NULL);
SELECT stand();
RESET qflow.allow_unfenced;

-- 12 counted like an ack and a fetch
SET qflow.exact_counts = on;
SELECT queue, pending, in_progress, completed, failed FROM qflow.queue_stats ORDER BY queue;
