-- retries: how often a job runs, how long it waits in between, and what its row says in the end.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT qflow.create_queue('q', retries => 2);

-- Runs a job to its end by fetching and not completing it; how often it was fetched, and how the row stands then.
CREATE FUNCTION run_out(workflow text, how text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    job bigint := qflow.enqueue('q', '{}'); f record; runs int := 0; most int;
BEGIN
    LOOP
        SELECT * INTO f FROM qflow.fetch(workflow, 1, hints => CASE how WHEN 'reap' THEN '{"timeout_ms": 1}'::jsonb END);
        EXIT WHEN f.id IS NULL OR runs > 20;
        runs := runs + 1; most := f.max_attempts;
        IF f.id <> job OR f.attempt <> runs THEN RAISE NOTICE 'run %: job % attempt %', runs, f.id, f.attempt; END IF;
        CASE how
        WHEN 'requeue' THEN PERFORM qflow.requeue(workflow, ARRAY[f.id], ARRAY[f.lease], 'run ' || runs, 0);
        WHEN 'settle' THEN PERFORM qflow.settle(workflow, jsonb_build_array(jsonb_build_object(
            'id', f.id, 'lease', f.lease, 'outcome', 'requeue', 'reason', 'run ' || runs, 'delay_ms', 0)));
        WHEN 'reap' THEN
            PERFORM pg_sleep(0.005);
            PERFORM qflow.reap();
            PERFORM qflow.reap(); -- a second one finds nothing more
        END CASE;
    END LOOP;
    RETURN (SELECT concat_ws(' ', runs, 'runs:', q.status, 'attempt', q.attempt, 'max', most, coalesce(q.failure_reason, '-'))
        FROM q WHERE id = job);
END $$;

-- retries + 1 executions, whoever counts: the consumer who requeues, settle, or the reaper
CREATE TABLE ways AS SELECT r.retries, h.how FROM unnest(ARRAY[0, 1, 3, 5]) AS r (retries) CROSS JOIN unnest(ARRAY['requeue', 'settle', 'reap']) AS h (how);
SELECT count(*) FROM ways AS w WHERE qflow.create_workflow('w' || w.retries || w.how, 'q', retries => w.retries, retry_delay_ms => 0);
SELECT retries, how, run_out('w' || retries || how, how) FROM ways ORDER BY how, retries;
-- a workflow without a number of its own has the queue's, and that without one the setting's
SELECT run_out('q', 'requeue');
SELECT qflow.create_queue('s');
SET qflow.default_retries = 1;
SELECT qflow.enqueue('s', '{}');
SELECT max_attempts FROM qflow.fetch('s');
RESET qflow.default_retries;
SELECT qflow.drop_queue('s', false);

-- what was refunded does not count: release between the runs, then still retries + 1
DELETE FROM q;
SELECT qflow.enqueue('q', '{}') > 0;
DO $$
DECLARE f record; runs int := 0;
BEGIN
    FOR turn IN 1..20 LOOP
        SELECT * INTO f FROM qflow.fetch('w1requeue', 1);
        EXIT WHEN f.id IS NULL;
        IF turn % 2 = 1 THEN PERFORM qflow.release('w1requeue', ARRAY[f.id], ARRAY[f.lease]);
        ELSE runs := runs + 1; PERFORM qflow.requeue('w1requeue', ARRAY[f.id], ARRAY[f.lease], NULL, 0); END IF;
    END LOOP;
    RAISE NOTICE '% runs that counted', runs;
END $$;
SELECT status, attempt FROM q;

-- back-off: delay doubles from retry_delay_ms to retry_max_delay_ms, with up to a quarter more, after requeue and after reap
SELECT qflow.create_workflow('backoff', 'q', retries => 20, retry_delay_ms => 1000, retry_max_delay_ms => 60000);
DO $$
DECLARE
    f record; how text; from_at timestamptz; to_at timestamptz; due timestamptz; base int; outside int := 0; jittered int := 0; tries int := 0;
BEGIN
    FOREACH how IN ARRAY ARRAY['requeue', 'reap'] LOOP
        DELETE FROM q;
        PERFORM qflow.enqueue_batch('q', array_agg('{}'::jsonb)) FROM generate_series(1, 5);
        FOR turn IN 1..10 LOOP
            SELECT array_agg(id) AS ids, max(lease) AS lease, max(attempt) AS attempt INTO f
            FROM qflow.fetch('backoff', 5, hints => CASE how WHEN 'reap' THEN '{"timeout_ms": 1}'::jsonb END);
            IF f.attempt IS DISTINCT FROM turn OR cardinality(f.ids) <> 5 THEN RAISE NOTICE 'turn % has attempt %', turn, f.attempt; END IF;
            from_at := clock_timestamp();
            IF how = 'reap' THEN PERFORM pg_sleep(0.005), qflow.reap(); ELSE PERFORM qflow.requeue('backoff', f.ids, ARRAY[f.lease]); END IF;
            to_at := clock_timestamp();
            base := least(1000 * 2 ^ (turn - 1), 60000);
            tries := tries + 5;
            SELECT outside + count(*) FILTER (WHERE available_at NOT BETWEEN from_at + base * interval '1 ms' AND to_at + base * interval '1.25 ms' + interval '6 ms'),
                jittered + count(*) FILTER (WHERE available_at > to_at + base * interval '1.01 ms')
            INTO outside, jittered FROM q;
            UPDATE q SET available_at = now() - interval '1 s' WHERE status = 'pending';
        END LOOP;
    END LOOP;
    RAISE NOTICE '% delays, % out of bounds, some with jitter: %', tries, outside, jittered > 0;
END $$;

-- a delay of the call's own is taken as it is, without jitter
DELETE FROM q;
SELECT qflow.enqueue('q', '{}') > 0;
SELECT id, lease FROM qflow.fetch('backoff', 1) \gset
SELECT qflow.requeue('backoff', ARRAY[:id], ARRAY[:lease], 'later', 3600000);
SELECT available_at BETWEEN now() + interval '3590 s' AND now() + interval '3610 s', status, attempt, failure_reason FROM q;
-- not fetched before its time, fetched at it
SELECT count(*) FROM qflow.fetch('backoff', 1);
UPDATE q SET available_at = now();
SELECT attempt, failure_reason FROM qflow.fetch('backoff', 1);

-- the settings count as they were at the fetch
DELETE FROM q;
SELECT qflow.reap();
SELECT qflow.create_workflow('changing', 'q', retries => 0, retry_delay_ms => 3600000, retry_max_delay_ms => 3600000);
SELECT qflow.enqueue('q', '{}') > 0;
SELECT id, lease FROM qflow.fetch('changing', 1) \gset
SELECT qflow.alter_workflow('changing', retries => 5);
SELECT qflow.requeue('changing', ARRAY[:id], ARRAY[:lease]);
SELECT status, attempt FROM q;

-- failed: the reason stays; retry_failed gives fresh attempts, an operator's UPDATE one more claim
SELECT qflow.retry_failed('q');
SELECT status, attempt FROM q;
SELECT id, lease, attempt, max_attempts FROM qflow.fetch('changing', 1) \gset
SELECT :attempt, :max_attempts;
SELECT qflow.fail('changing', ARRAY[:id], ARRAY[:lease], 'no good');
SELECT status, attempt, failure_reason, available_at FROM q;
SELECT qflow.fail('changing', ARRAY[:id], ARRAY[:lease], 'still no good'), (SELECT failure_reason FROM q);
UPDATE q SET status = 'pending', attempt = 6;
SELECT id, lease, attempt, max_attempts, failure_reason FROM qflow.fetch('changing', 1) \gset
SELECT :attempt, :max_attempts, :'failure_reason';
SELECT qflow.requeue('changing', ARRAY[:id], ARRAY[:lease]), (SELECT status FROM q) AS before, (SELECT failure_reason FROM q);
SELECT status, attempt FROM q;

-- the reaper: what it returns, and its reason
DELETE FROM q;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 5);
SELECT max(lease) AS l0 FROM qflow.fetch('w0reap', 2) \gset
SELECT max(lease) AS l1 FROM qflow.fetch('w1reap', 2) \gset
SELECT count(*) FROM qflow.fetch('w1reap', 1);
SELECT count(*) FROM (SELECT qflow.extend('w0reap', ARRAY[:l0], 1), qflow.extend('w1reap', ARRAY[:l1], 1)) AS expired;
DO $$ BEGIN PERFORM pg_sleep(0.005); END $$;
SELECT * FROM qflow.reap();
SELECT * FROM qflow.reap();
SELECT status, attempt, failure_reason, count(*) FROM q GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT jobs, unsettled FROM qflow.lease_status ORDER BY lease;

DROP TABLE ways;
SELECT qflow.drop_queue('q', false);
