-- order: what fetch takes first: due jobs by their time, at most half of the demand rounded up while fresh jobs wait;
-- fresh jobs by priority, then in the order of arrival. And how a fetch falls into batches.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT qflow.create_queue('q');
-- The ids of a fetch, in the order in which they come.
CREATE FUNCTION take(n int) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(f.id::text, ' ' ORDER BY f.at) FROM (
    SELECT * FROM qflow.fetch('q', n) WITH ORDINALITY AS f (batch_no, id, data, metadata, attempt, max_attempts, lease, lease_until,
        inserted_at, failure_reason, resources, at)) AS f $$;

-- priority before arrival; within a priority the transaction, then the id
INSERT INTO q (data, priority) VALUES ('1', 4), ('2', 9), ('3', 0), ('4', 4), ('5', 0);
INSERT INTO q (data, priority) VALUES ('6', 4), ('7', 1);
SELECT qflow.enqueue('q', '8', priority => 0), qflow.enqueue('q', '9');
SELECT take(4), take(1), take(10), take(1);
-- ids chosen by hand come by their transaction first
INSERT INTO q (id, data) VALUES (1005, '1'), (1003, '2');
INSERT INTO q (id, data) VALUES (1004, '3'), (1001, '4');
INSERT INTO q (id, data) OVERRIDING SYSTEM VALUE VALUES (-7, '5');
SELECT take(10);
-- a COPY of a thousand rows, a fetch at a time
INSERT INTO q (id, data) SELECT i, '{}' FROM generate_series(2001, 3000) AS i;
CREATE TABLE taken (turn int, at int, id bigint);
DO $$ BEGIN FOR turn IN 1..10 LOOP INSERT INTO taken SELECT turn, a.at, a.id::bigint FROM unnest(string_to_array(take(100), ' ')) WITH ORDINALITY AS a (id, at); END LOOP; END $$;
SELECT count(*), count(DISTINCT id), bool_and(id = 2000 + (turn - 1) * 100 + at) FROM taken;

-- delayed jobs: not before their time, whatever their priority
TRUNCATE q RESTART IDENTITY;
SELECT qflow.enqueue('q', '{}', priority => 0, delay_ms => 3600000), qflow.enqueue('q', '{}', priority => 9), qflow.enqueue('q', '{}', delay_ms => 200);
SELECT take(10);
DO $$ BEGIN PERFORM pg_sleep(0.25); END $$;
SELECT take(10), take(10);
INSERT INTO q (data, available_at) VALUES ('4', now() + interval '1 hour'), ('5', now() - interval '1 hour'), ('6', 'infinity'), ('7', '-infinity');
SELECT take(10), take(10);
SELECT id, available_at > now() FROM q WHERE status = 'pending' ORDER BY id;

-- due jobs by their time, not by priority or id; half of the demand, rounded up, while fresh jobs wait
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data, priority, available_at) SELECT '{}', i % 10, now() - i * interval '1 s' FROM generate_series(1, 20) AS i;
INSERT INTO q (data) SELECT '{}' FROM generate_series(21, 30);
SELECT take(1), take(1), take(2), take(3), take(4), take(5);
-- with too few fresh jobs the due ones take more, and with too few due ones the fresh
SELECT take(10), take(100), take(1);
INSERT INTO q (data, available_at) VALUES ('{}', now());
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 10);
SELECT take(8), take(8);
-- requeued with 0 delay, released, retried: due, in the order in which that was done
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 8);
SELECT max(lease) AS lease FROM qflow.fetch('q', 6) \gset
SELECT qflow.requeue('q', ARRAY[6], ARRAY[:lease], delay_ms => 0);
SELECT qflow.release('q', ARRAY[2], ARRAY[:lease]);
SELECT qflow.fail('q', ARRAY[4], ARRAY[:lease]);
SELECT qflow.retry_failed('q');
SELECT take(2), take(2), take(2);

-- batches: numbered from 1, of at most batch_size, all but the last full; the demand is the batch size unless given
TRUNCATE q RESTART IDENTITY;
CREATE FUNCTION batches(demand bigint, size bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE got text;
BEGIN
    SELECT string_agg(n::text, '+' ORDER BY batch_no) || CASE WHEN bool_and(first) THEN '' ELSE ' mixed' END INTO got FROM (
        SELECT batch_no, count(*) AS n, bool_and(batch_no = (f.at - 1) / coalesce(size, 16) + 1) AS first
        FROM qflow.fetch('q', demand, size) WITH ORDINALITY AS f (batch_no, id, data, metadata, attempt, max_attempts, lease, lease_until,
            inserted_at, failure_reason, resources, at) GROUP BY batch_no) AS b;
    UPDATE q SET status = 'pending';
    RETURN got;
END $$;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 50);
SELECT batches(NULL, NULL), batches(10, NULL), batches(40, NULL), batches(NULL, 7), batches(10, 3), batches(10, 5), batches(10, 10), batches(3, 10), batches(100, 20), batches(1, 1);
-- all jobs of a fetch have one lease, however many batches
SELECT count(*), count(DISTINCT lease), count(DISTINCT lease_until), max(batch_no) FROM qflow.fetch('q', 50, 4);
-- any demand and batch size: sizes, totals, no id twice
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data, priority) SELECT '{}', (random() * 9)::int FROM generate_series(1, 2000) AS i;
DO $$
DECLARE wanted int; size int; f record; total int := 0; turns int := 0; seen bigint[] := '{}'; faults int := 0; last int := -1;
BEGIN
    LOOP
        wanted := 1 + (random() * 60)::int; size := 1 + (random() * 20)::int;
        SELECT count(*) AS n, count(DISTINCT g.batch_no) AS batches, max(g.size) AS largest, min(g.size) FILTER (WHERE g.batch_no < g.batches) AS smallest,
            array_agg(g.id) AS ids, coalesce(max(g.batches), 0) AS most INTO f
        FROM (SELECT *, count(*) OVER (PARTITION BY batch_no) AS size, max(batch_no) OVER () AS batches FROM qflow.fetch('q', wanted, size)) AS g;
        EXIT WHEN f.n = 0;
        turns := turns + 1; total := total + f.n;
        IF f.n > wanted OR f.n < least(wanted, 2000 - total + f.n) OR f.largest > size OR f.smallest < size OR f.batches <> f.most OR f.ids && seen THEN
            faults := faults + 1;
            RAISE NOTICE 'demand %, batch size %: %', wanted, size, f;
        END IF;
        seen := seen || f.ids;
    END LOOP;
    RAISE NOTICE '% jobs, some in many turns: %, % faults', total, turns > 30, faults;
END $$;

DROP TABLE taken;
SELECT qflow.drop_queue('q', false);
