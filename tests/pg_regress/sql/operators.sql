-- operators: people and programs that write to a queue's table with plain SQL: nothing of that is lost to fetch.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT qflow.create_queue('q', retries => 0);
CREATE FUNCTION take(n int) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(f.id::text, ' ' ORDER BY f.at) FROM (
    SELECT * FROM qflow.fetch('q', n) WITH ORDINALITY AS f (batch_no, id, data, metadata, attempt, max_attempts, lease, lease_until,
        inserted_at, failure_reason, resources, at)) AS f $$;
-- The same in the order of their ids, where PostgreSQL is free to choose in which order it updates rows.
CREATE FUNCTION take_all() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(f.id::text, ' ' ORDER BY f.id) FROM qflow.fetch('q', 1000) AS f $$;
-- A queue through which 500 jobs have gone, each step committed, so that its floor is past them all, and in which one is completed (1), one failed (2), one in progress (3).
CREATE PROCEDURE busy() LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM q;
    ALTER TABLE q ALTER COLUMN id RESTART WITH 1;
    INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 3);
    COMMIT;
    PERFORM qflow.fetch('q', 3);
    COMMIT;
    PERFORM qflow.ack('q', ARRAY[1], ARRAY[(SELECT lease FROM q WHERE id = 1)]), qflow.fail('q', ARRAY[2], ARRAY[(SELECT lease FROM q WHERE id = 1)], 'why');
    FOR turn IN 1..10 LOOP
        INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 50);
        COMMIT;
        PERFORM qflow.ack('q', array_agg(id), array_agg(lease), true) FROM qflow.fetch('q', 50);
        COMMIT;
    END LOOP; END $$;

-- UPDATE … SET status = 'pending' on a completed, a failed and an in-progress job: each is fetched next, attempt kept,
-- one more claim although all were spent, the old lease stale
CALL busy();
SELECT lease AS old FROM q WHERE id = 1 \gset
INSERT INTO q (data) VALUES ('"fresh"');
UPDATE q SET status = 'pending' WHERE id = 1;
SELECT id, attempt, max_attempts, failure_reason FROM qflow.fetch('q', 1);
SELECT qflow.ack('q', ARRAY[1], ARRAY[:old]) AS old_lease, qflow.ack('q', ARRAY[1], ARRAY[lease]) AS new_lease FROM q WHERE id = 1;
UPDATE q SET status = 'pending' WHERE id = 2;
SELECT id, attempt, max_attempts, failure_reason FROM qflow.fetch('q', 1);
SELECT qflow.ack('q', ARRAY[2], ARRAY[:old]) AS old_lease, qflow.requeue('q', ARRAY[2], ARRAY[lease]) AS new_lease FROM q WHERE id = 2;
UPDATE q SET status = 'pending' WHERE id = 3;
SELECT id, attempt, max_attempts, failure_reason FROM qflow.fetch('q', 1);
SELECT qflow.ack('q', ARRAY[3], ARRAY[:old]) AS old_lease, qflow.ack('q', ARRAY[3], ARRAY[lease]) AS new_lease FROM q WHERE id = 3;
SELECT id, status, attempt, failure_reason FROM q WHERE id <= 3 ORDER BY id;
SELECT take(2), take(1);
-- all three at once, and once more in a transaction that fetches
CALL busy();
UPDATE q SET status = 'pending' WHERE id <= 3;
SELECT take_all(), take(1);
CALL busy();
BEGIN;
UPDATE q SET status = 'pending' WHERE id <= 3;
SELECT take_all(), take(1);
ROLLBACK;
SELECT take(10);
UPDATE q SET status = 'pending';
SELECT count(*), count(DISTINCT id) FROM qflow.fetch('q', 1000);

-- other words are refused, not lost; so are other priorities
\set VERBOSITY sqlstate
INSERT INTO q (data, status) VALUES ('{}', 'Pending');
INSERT INTO q (data, status) VALUES ('{}', ' pending');
INSERT INTO q (data, status) VALUES ('{}', 'archived');
INSERT INTO q (data, status) VALUES ('{}', NULL);
UPDATE q SET status = 'PENDING' WHERE id = 1;
UPDATE q SET status = 'a word that is longer than twenty letters' WHERE id = 1;
INSERT INTO q (data, priority) VALUES ('{}', 10);
INSERT INTO q (data, priority) VALUES ('{}', -1);
UPDATE q SET priority = NULL WHERE id = 1;
\set VERBOSITY default

-- set by hand: available_at = NULL, priority = 0, enqueued_xid, id, and all of them
CALL busy();
SELECT qflow.enqueue_batch('q', ARRAY['1', '2', '3', '4']::jsonb[], delay_ms => 3600000);
UPDATE q SET available_at = NULL WHERE id = 504;
SELECT take(10);
UPDATE q SET available_at = now() WHERE id = 505;
SELECT take(10);
UPDATE q SET available_at = NULL, priority = 0, enqueued_xid = '3' WHERE id = 506;
UPDATE q SET id = -506, available_at = NULL WHERE id = 507;
SELECT take(10);
CALL busy();
INSERT INTO q (data, priority) SELECT '{}', 5 FROM generate_series(1, 4);
SELECT take(1);
UPDATE q SET priority = 0 WHERE id = 505;
UPDATE q SET enqueued_xid = '3' WHERE id = 506;
UPDATE q SET id = 0 WHERE id = 507;
SELECT id, available_at IS NOT NULL AS due FROM q WHERE status = 'pending' ORDER BY id;
SELECT take_all(), take(1);
-- what changes nothing of that leaves them where they are
INSERT INTO q (data) VALUES ('{}'), ('{}');
UPDATE q SET data = '1', metadata = '{"x": 1}', updated_at = now() WHERE status = 'pending';
UPDATE q SET status = 'pending' WHERE status = 'pending';
SELECT available_at IS NULL FROM q WHERE status = 'pending';
SELECT take(10);

-- explicit lower ids, explicit enqueued_xid, explicit NULL of it
CALL busy();
INSERT INTO q (id, data) VALUES (-5, '{}'), (-6, '{}');
SELECT take(10);
INSERT INTO q (data, enqueued_xid) VALUES ('{}', '3'), ('{}', '9000000000000000000'), ('{}', NULL);
INSERT INTO q (data, enqueued_xid) VALUES ('{}', pg_current_xact_id());
SELECT take(10), take(10);

-- INSERT … SELECT * FROM another queue: whatever the rows say, they are jobs here. A table of another order of columns
CALL busy();
SELECT qflow.create_queue('r');
INSERT INTO r (id, data, priority) SELECT i, jsonb_build_object('n', i), i % 10 FROM generate_series(10001, 10020) AS i;
SELECT count(*) FROM qflow.fetch('r', 5);
SELECT qflow.ack('r', array_agg(id), array_agg(lease)) FROM (SELECT * FROM r WHERE status = 'in_progress' LIMIT 2) AS taken;
INSERT INTO r (id, data, available_at) VALUES (10021, '"later"', now() + interval '1 hour');
INSERT INTO q SELECT * FROM r;
SELECT status, count(*) FROM q WHERE id > 10000 GROUP BY status ORDER BY status;
SELECT count(*), count(DISTINCT id) FROM qflow.fetch('q', 100);
SELECT status, available_at > now() AS later, count(*) FROM q WHERE id > 10000 GROUP BY 1, 2 ORDER BY 1, 2;
-- from the queue itself, as new jobs
INSERT INTO q (data, metadata) SELECT data, metadata FROM q WHERE id BETWEEN 10 AND 19;
SELECT count(*) FROM qflow.fetch('q', 100);
-- upsert on the id
INSERT INTO q (id, data) VALUES (10, '"again"') ON CONFLICT (id) DO UPDATE SET data = excluded.data, status = 'pending';
SELECT id, data FROM qflow.fetch('q', 100);

-- TRUNCATE and reload; also with the very rows
CALL busy();
CREATE TABLE saved AS TABLE q;
TRUNCATE q;
SELECT take(10);
INSERT INTO q SELECT * FROM saved;
UPDATE q SET status = 'pending';
SELECT count(*), count(DISTINCT id) FROM qflow.fetch('q', 1000);
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 20);
SELECT take(5);
BEGIN;
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 10);
SELECT take(3);
ROLLBACK;
SELECT take(100);
UPDATE saved SET status = 'pending', available_at = NULL;
TRUNCATE q;
INSERT INTO q SELECT * FROM saved;
SELECT count(*), count(DISTINCT id) FROM qflow.fetch('q', 1000);

-- INSERT with columns left out, several rows at a time; COPY; defaults
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) VALUES ('1'), ('2');
INSERT INTO q (data, metadata) VALUES ('3', '{"m": 3}');
INSERT INTO q (data, status) VALUES ('4', 'pending'), ('5', DEFAULT);
INSERT INTO q (data, metadata, status) VALUES ('6', DEFAULT, 'pending');
INSERT INTO q VALUES (DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, '7');
COPY q (data) FROM STDIN;
8
9
\.
COPY q (data, status, metadata) FROM STDIN WITH (FORMAT csv);
10,pending,"{""m"": 10}"
\.
SELECT id, data, metadata, status, priority, attempt, lease, available_at, failure_reason, inserted_at = updated_at AS same, enqueued_xid IS NOT NULL AS xid FROM q ORDER BY id;
SELECT take(10);
-- done already when inserted: history, not work
INSERT INTO q (data, status) VALUES ('{}', 'completed'), ('{}', 'failed');
SELECT take(10);

-- the query with which people look after their queue
UPDATE q SET status = 'completed' WHERE id <= 4;
INSERT INTO q (data) VALUES ('{}');
SELECT status, COUNT(*) FROM q GROUP BY status ORDER BY status;
SELECT pending, in_progress, completed, failed FROM qflow.queue_stats WHERE queue = 'public.q';

-- rows deleted by hand: while pending, and while in progress under a lease with others
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 6);
SELECT max(lease) AS lease FROM qflow.fetch('q', 4) \gset
DELETE FROM q WHERE id IN (2, 5);
SELECT take(10);
SELECT id, outcome FROM qflow.settle('q', (SELECT jsonb_agg(jsonb_build_object('id', i, 'lease', :lease, 'outcome', 'ack')) FROM generate_series(1, 4) AS i)) ORDER BY id;
SELECT count(*) FROM qflow.lease_status WHERE lease = :lease;
-- all of a lease
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 2);
SELECT max(lease) AS lease FROM qflow.fetch('q', 2) \gset
DELETE FROM q;
SELECT count(*) FROM qflow.extend('q', ARRAY[:lease]);
SELECT count(*) FROM qflow.lease_status WHERE lease = :lease AND unsettled > 0;

SELECT qflow.drop_queue('q', false), qflow.drop_queue('r', false);
