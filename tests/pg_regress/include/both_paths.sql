-- Run by sql/both_paths.sql for each kind of table on each path. Nothing here raises, says a notice, or prints a time.
SELECT '--', current_setting('both.kind'), current_setting('qflow.direct_access');

\echo the jobs of before
SELECT take(9);
SELECT qflow.ack('q', '{1,3,4}', leases(1, 3, 4));
SELECT keep('old');
SELECT bool_and(note = 'as ever' AND nothing IS NULL) FROM q;

\echo each outcome
SELECT qflow.enqueue_batch('q', (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 10) AS n));
SELECT keep('enqueued');
SELECT take(10);
SELECT keep('fetched');
SELECT 'ack', qflow.ack('q', '{5,6}', leases(5, 6));
SELECT 'again', qflow.ack('q', '{5}', leases(5)), 'stale', qflow.ack('q', '{7}', ARRAY[(leases(7))[1] + 1000]);
SELECT 'requeue', qflow.requeue('q', '{7}', leases(7), 'later'), qflow.requeue('q', '{8}', leases(8), 'much later', 3600000);
SELECT 'fail', qflow.fail('q', '{9}', leases(9), 'never');
SELECT 'release', qflow.release('q', '{10}', leases(10));
SELECT 'settle', id, outcome FROM qflow.settle('q', (SELECT jsonb_agg(jsonb_build_object('id', id, 'lease', coalesce(lease, 1), 'reason', 'of ' || id,
    'outcome', CASE id WHEN 11 THEN 'ack' WHEN 12 THEN 'requeue' WHEN 13 THEN 'fail' ELSE 'release' END) ORDER BY id DESC) FROM q WHERE id BETWEEN 11 AND 14));
SELECT keep('settled');
SELECT take(10);
SELECT 'extend', count(*) FROM qflow.extend('q', leases(7), 7200000);
SELECT 'deadline', bool_and(deadline BETWEEN clock_timestamp() + interval '119 minutes' AND clock_timestamp() + interval '121 minutes') FROM qflow.lease;
UPDATE qflow.lease SET deadline = clock_timestamp() - interval '1 hour';
SELECT 'reap', returned, failed FROM qflow.reap();
SELECT keep('reaped');
SELECT take(10);
SELECT qflow.requeue('q', '{7,12}', leases(7, 12), 'spent');
SELECT keep('spent');
UPDATE qflow.lease SET deadline = clock_timestamp() - interval '1 hour';
SELECT 'reap', returned, failed FROM qflow.reap();
SELECT take(10);
SELECT qflow.ack('q', '{10,14}', leases(10, 14));
SELECT keep('retried');
SELECT qflow.retry_failed('q');
UPDATE q SET available_at = now() WHERE id = 8;
SELECT take(20);
SELECT qflow.ack('q', array_agg(id::bigint), array_agg(lease)) FROM q WHERE status = 'in_progress';
SELECT keep('all done');

\echo bigger statements
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(1, 40) AS n;
SELECT done($$ UPDATE q SET metadata = '{"seen": true}' FROM qflow.fetch('q', 2) AS f WHERE q.id = f.id $$);
SELECT done($$ UPDATE q SET metadata = '{"seen": true}' FROM qflow.fetch('q', 2) AS f WHERE q.id = f.id + 20 $$);
SELECT done($$ DELETE FROM q USING qflow.fetch('q', 2) AS f WHERE q.id = f.id $$);
SELECT keep('update from fetch');
SELECT qflow.ack('q', array_agg(f.id), array_agg(f.lease), true) FROM qflow.fetch('q', 3) AS f;
WITH f AS (SELECT * FROM qflow.fetch('q', 3)) SELECT qflow.ack('q', array_agg(id), array_agg(lease), true), (SELECT count(*) FROM q WHERE status = 'completed') FROM f;
SELECT f.id, qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]), qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]) FROM qflow.fetch('q', 2) AS f;
SELECT count(*), count(DISTINCT f.id) FROM (SELECT id FROM qflow.fetch('q', 2) UNION ALL SELECT id FROM qflow.fetch('q', 2)) AS f;
WITH new AS (INSERT INTO q (data, priority) VALUES ('"new"', 0) RETURNING id) SELECT (SELECT count(*) FROM new), count(f.id) FROM qflow.fetch('q', 1) AS f;
SELECT (qflow.enqueue_batch('q', '{"\"newer\""}', priority => 0))[1] > 0, (SELECT data FROM qflow.fetch('q', 1));
SELECT keep('statements');
\echo a statement that changes a job by hand, then settles it
SELECT done($$ WITH u AS (UPDATE q SET metadata = '{"by": "hand"}' WHERE id = (SELECT max(id) FROM q WHERE status = 'in_progress') RETURNING id, lease)
    SELECT qflow.ack('q', ARRAY[id::bigint], ARRAY[lease]) FROM u $$);
SELECT done($$ WITH u AS (UPDATE q SET metadata = '{"by": "hand"}' WHERE id = (SELECT min(id) FROM q WHERE status = 'in_progress') RETURNING id, lease)
    SELECT qflow.requeue('q', ARRAY[id::bigint], ARRAY[lease]) FROM u $$);
SELECT keep('by hand');

\echo one transaction
BEGIN;
SELECT take(2) = take(2);
SELECT qflow.enqueue_batch('q', '{"1", "2"}') IS NOT NULL;
SELECT count(*) FROM qflow.fetch('q', 3);
SELECT count(*) FROM q WHERE status = 'in_progress';
SELECT qflow.ack('q', array_agg(id::bigint), array_agg(lease)) FROM q WHERE status = 'in_progress';
SELECT keep('transaction');
SAVEPOINT here;
SELECT count(*) FROM qflow.fetch('q', 3);
SELECT count(*) FROM q WHERE status = 'in_progress';
ROLLBACK TO here;
SELECT count(*) FROM q WHERE status = 'in_progress';
SELECT count(*) FROM qflow.fetch('q', 3);
SAVEPOINT there;
SELECT qflow.ack('q', array_agg(id::bigint), array_agg(lease), true) FROM q WHERE status = 'in_progress';
ROLLBACK TO there;
SELECT qflow.requeue('q', array_agg(id::bigint), array_agg(lease)) FROM q WHERE status = 'in_progress' AND id % 2 = 0;
RELEASE there;
SELECT count(*) FROM qflow.fetch('q', 1);
COMMIT;
SELECT keep('savepoints');
SELECT qflow.ack('q', array_agg(id::bigint), array_agg(lease), true) FROM q WHERE status = 'in_progress';
BEGIN;
SELECT count(*) FROM qflow.fetch('q', 3);
ROLLBACK;
SELECT keep('rolled back');

\echo jobs that a row of this transaction refers to
UPDATE q SET status = 'completed' WHERE status <> 'completed';
SELECT qflow.enqueue_batch('q', '{"1", "2", "3", "4"}') IS NOT NULL;
SELECT max(id) - 3 AS first FROM q \gset
BEGIN;
INSERT INTO part SELECT :first;
SAVEPOINT here;
INSERT INTO part SELECT :first + 1;
INSERT INTO part SELECT :first;
SELECT count(*) FROM qflow.fetch('q', 4);
RELEASE here;
INSERT INTO part SELECT :first + 2;
SAVEPOINT there;
INSERT INTO part SELECT :first + 2;
SELECT qflow.ack('q', array_agg(id::bigint), array_agg(lease), true) FROM q WHERE status = 'in_progress' AND id < :first + 3;
RELEASE there;
INSERT INTO part SELECT :first + 3;
SELECT qflow.requeue('q', array_agg(id::bigint), array_agg(lease)) FROM q WHERE status = 'in_progress';
COMMIT;
SELECT keep('referred to');
SELECT count(*) FROM part JOIN q ON q.id = part.job;
\echo their transaction is over, and a job was locked by a subtransaction that is undone
BEGIN;
SAVEPOINT here;
SELECT count(*) FROM (SELECT FROM q WHERE id = :first + 3 FOR UPDATE) AS l;
ROLLBACK TO here;
SELECT count(*) FROM qflow.fetch('q', 4);
COMMIT;
SELECT qflow.ack('q', ARRAY[:first + 3]::bigint[], leases(:first + 3), true);
SELECT keep('locked and undone');

\echo large payloads come back as they were, whatever is done to them
SELECT string_agg(md5(n::text), '') AS hex FROM generate_series(1, 3200) AS n \gset
SELECT qflow.enqueue_batch('q', ARRAY[to_jsonb(:'hex'::text), jsonb_build_object('short', repeat('x', 4000))], ARRAY['{}', to_jsonb(:'hex'::text)]) IS NOT NULL;
SELECT pg_column_size(data) > 60000 FROM q WHERE id = (SELECT max(id) - 1 FROM q);
SELECT count(*), bool_and(md5(f.data::text) = md5(q.data::text)), bool_and(f.metadata = q.metadata), max(length(f.data::text)) FROM qflow.fetch('q', 2) AS f JOIN q USING (id);
SELECT qflow.requeue('q', array_agg(id::bigint), array_agg(lease), repeat('why ', 1000)) FROM q WHERE status = 'in_progress';
SELECT count(*), max(length(data::text)), max(length(metadata::text)), max(length(failure_reason)) FROM qflow.fetch('q', 2);
SELECT qflow.ack('q', array_agg(id::bigint), array_agg(lease)) FROM q WHERE status = 'in_progress';
SELECT id - :first, md5(data::text), md5(metadata::text), length(failure_reason) FROM q ORDER BY id DESC LIMIT 2;
SELECT keep('large');

\echo full pages: a new version lies elsewhere, and is found
ALTER TABLE q SET (fillfactor = 100);
INSERT INTO q (data, metadata) SELECT to_jsonb(n), jsonb_build_object('pad', repeat('p', 20)) FROM generate_series(1, 400) AS n;
SELECT count(*) FROM qflow.fetch('q', 300);
SELECT count(*), count(DISTINCT ctid) FROM q WHERE status = 'in_progress';
SELECT qflow.requeue('q', array_agg(id::bigint), array_agg(lease)) FROM q WHERE status = 'in_progress' AND id % 3 = 0;
SELECT qflow.ack('q', array_agg(id::bigint), array_agg(lease), true) FROM q WHERE status = 'in_progress' AND id % 3 = 1;
SET enable_seqscan = off;
SELECT count(*) FROM generate_series(1, 400) AS n CROSS JOIN LATERAL (SELECT status FROM q WHERE id = :first + n OFFSET 0) AS by_id;
SELECT count(*) FROM q WHERE available_at > '2000-01-01' AND status = 'pending';
SELECT count(*) FROM q WHERE priority = 4 AND enqueued_xid > '0';
RESET enable_seqscan;
SELECT count(*) FROM qflow.fetch('q', 200);
SELECT count(*) FROM qflow.fetch('q', 200);
SELECT keep('full pages');
SELECT qflow.ack('q', array_agg(id::bigint), array_agg(lease), true) FROM q WHERE status = 'in_progress';
SELECT keep('full pages done');

\echo enqueue_batch with all that it can be given, and columns of the user
CREATE FUNCTION drawn() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT nextval('q_nr') $$;
ALTER TABLE q ADD COLUMN nr bigint, ADD COLUMN day date, ADD COLUMN half int;
ALTER TABLE q ALTER COLUMN nr SET DEFAULT drawn() * 10, ALTER COLUMN day SET DEFAULT date '2001-01-01' + 1, ALTER COLUMN half SET DEFAULT 1 / 2;
SELECT qflow.enqueue_batch('q', '{"1","2","3"}', '{"{\"m\": 1}","{}","null"}', 7, 3600000) IS NOT NULL;
SELECT qflow.enqueue_batch('q', '{"{\"a\": [1, 2.50, 1e3]}"}', priority => 0) IS NOT NULL;
SELECT qflow.enqueue_batch('q', '{}');
SELECT data, metadata, priority, status, attempt, available_at > clock_timestamp() + interval '59 minutes', nr, day - date '2001-01-01', half, note, lease FROM q ORDER BY id DESC LIMIT 4;
SELECT count(*) FROM qflow.fetch('q', 10);
SELECT keep('enqueue_batch');
ALTER TABLE q ADD CONSTRAINT small CHECK (data <> '"no"'), ADD CONSTRAINT not_eight CHECK (priority <> 8);
SELECT answer($$ qflow.enqueue_batch('q', '{6,"\"no\"",8}') $$), answer($$ qflow.enqueue_batch('q', '{6}', priority => 8) $$);
ALTER TABLE q ALTER COLUMN note SET NOT NULL, ALTER COLUMN note DROP DEFAULT;
SELECT answer($$ qflow.enqueue_batch('q', '{6}') $$);
ALTER TABLE q ALTER COLUMN half SET DEFAULT 1 / 0;
SELECT answer($$ qflow.enqueue_batch('q', '{6}') $$);
SELECT nextval('q_nr') > 4, keep('refused');
DROP FUNCTION drawn CASCADE;

\echo times: as the columns have them, and none moved by hours
SELECT bool_and(extract(epoch FROM CASE pg_typeof(inserted_at)::text WHEN 'timestamp with time zone' THEN clock_timestamp() - updated_at::timestamptz
    ELSE (clock_timestamp() AT TIME ZONE 'Asia/Kolkata') - updated_at::timestamp END) BETWEEN -1 AND 300)
FROM q WHERE status <> 'pending' AND id > 4;
ALTER TABLE q ALTER COLUMN half DROP DEFAULT;
INSERT INTO q (data, note) VALUES ('1', 'timed');
SELECT count(*), bool_and(inserted_at BETWEEN clock_timestamp() - interval '5 minutes' AND clock_timestamp()) FROM qflow.fetch('q', 1);
SELECT count(*) FROM qflow.verify('q') WHERE NOT ok;
UPDATE q SET status = 'completed' WHERE status = 'in_progress';
DELETE FROM qflow.lease;
