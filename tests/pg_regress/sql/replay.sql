-- replay: settles that are repeated, mixed, doubled, misshapen, strict or without leases.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT qflow.create_queue('q', retries => 5);

-- 'ok' with what a statement returns, or its SQLSTATE; what fails leaves nothing.
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE got text;
BEGIN EXECUTE 'SELECT string_agg(x::text, '' '' ORDER BY x::text) FROM (' || sql || ') AS x' INTO got; RETURN 'ok ' || coalesce(got, '-');
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
-- Fetches n jobs: their lease.
CREATE FUNCTION take(n int) RETURNS bigint LANGUAGE sql AS $$ SELECT max(f.lease) FROM qflow.fetch('q', n) AS f $$;
-- How jobs stand.
CREATE VIEW now AS SELECT string_agg(id || ' ' || status || ' ' || attempt, ', ' ORDER BY id) FROM q;
CREATE FUNCTION outcomes(VARIADIC entries text[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT ('[' || array_to_string(entries, ',') || ']')::jsonb $$;

-- a repeated ack is the same ack, as often as one likes, in halves and with one lease for all or one for each
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 4);
SELECT take(4) AS a \gset
SELECT qflow.ack('q', ARRAY[1, 2], ARRAY[:a]), qflow.ack('q', ARRAY[1, 2], ARRAY[:a]), qflow.ack('q', ARRAY[2, 3], ARRAY[:a, :a]);
SELECT qflow.ack('q', ARRAY[1, 2, 3, 4], ARRAY[:a]), qflow.ack('q', ARRAY[4, 3, 2, 1], ARRAY[:a, :a, :a, :a]);
TABLE now;
SELECT count(*) FROM qflow.lease_status;

-- so are a repeated requeue, release and fail; the delay and the attempt are those of the first call
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 3);
SELECT take(3) AS a \gset
SELECT qflow.requeue('q', ARRAY[1], ARRAY[:a], 'first', 3600000), qflow.requeue('q', ARRAY[1], ARRAY[:a], 'second', 0);
SELECT qflow.release('q', ARRAY[2], ARRAY[:a]), qflow.release('q', ARRAY[2], ARRAY[:a]);
SELECT qflow.fail('q', ARRAY[3], ARRAY[:a], 'first'), qflow.fail('q', ARRAY[3], ARRAY[:a], 'second');
TABLE now;
SELECT id, failure_reason, available_at > now() FROM q ORDER BY id;
SELECT count(*) FROM qflow.lease_status;

-- two leases of one job in one call: the one that holds counts, in whatever order they come
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) VALUES ('{}');
SELECT take(1) AS old \gset
SELECT qflow.requeue('q', ARRAY[1], ARRAY[:old], delay_ms => 0);
SELECT take(1) AS new \gset
SELECT qflow.ack('q', ARRAY[1, 1], ARRAY[:old, :new]);
SELECT qflow.ack('q', ARRAY[1, 1], ARRAY[:new, :old]);
TABLE now;
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) VALUES ('{}');
SELECT take(1) AS old \gset
SELECT qflow.requeue('q', ARRAY[1], ARRAY[:old], delay_ms => 0);
SELECT take(1) AS new \gset
SELECT id, lease = :new AS held, outcome FROM qflow.settle('q', outcomes(
    format('{"id": 1, "lease": %s, "outcome": "fail"}', :old), format('{"id": 1, "lease": "%s", "outcome": "ack"}', :new)));
SELECT id, lease = :new AS held, outcome FROM qflow.settle('q', outcomes(
    format('{"id": 1, "lease": %s, "outcome": "ack"}', :new), format('{"id": 1, "lease": %s, "outcome": "requeue"}', :old)));
TABLE now;

-- a pair that comes twice is one: in arrays, and in outcomes when both say the same; two outcomes for one are refused
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 3);
SELECT take(3) AS a \gset
SELECT qflow.ack('q', ARRAY[1, 1, 1], ARRAY[:a]), qflow.ack('q', ARRAY[1, 2, 1, 2], ARRAY[:a]);
SELECT id, outcome FROM qflow.settle('q', outcomes(
    format('{"id": 3, "lease": %s, "outcome": "requeue"}', :a), format('{"id": "3", "lease": "%s", "outcome": "requeue"}', :a)));
SELECT try(format($$SELECT id, outcome FROM qflow.settle('q', outcomes('{"id": 3, "lease": %1$s, "outcome": "ack"}', '{"id": 3, "lease": %1$s, "outcome": "fail"}'))$$, :a));
TABLE now;

-- strict: one stale or unknown pair, and nothing is changed
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 4);
SELECT take(4) AS a \gset
SELECT qflow.requeue('q', ARRAY[4], ARRAY[:a], delay_ms => 3600000);
SELECT try(format('SELECT qflow.ack(''q'', ARRAY[1, 2, 4], ARRAY[%s], true)', :a)) AS stale,
    try(format('SELECT qflow.ack(''q'', ARRAY[1, 99], ARRAY[%s], strict => true)', :a)) AS unknown,
    try(format('SELECT qflow.ack(''q'', ARRAY[1, 2], ARRAY[%s, %s], true)', :a, :a + 1)) AS other_lease,
    try(format($$SELECT * FROM qflow.settle('q', outcomes('{"id": 1, "lease": %1$s, "outcome": "ack"}', '{"id": 4, "lease": %1$s, "outcome": "ack"}'), true)$$, :a)) AS settle;
TABLE now;
SELECT jobs, unsettled FROM qflow.lease_status;
-- without it the rest is done; what was done before is accepted by strict
SELECT qflow.ack('q', ARRAY[1, 4, 99], ARRAY[:a]) AS one_of_three, qflow.ack('q', ARRAY[1, 2], ARRAY[:a], true) AS one_new_one_replayed;
SELECT try(format($$SELECT * FROM qflow.settle('q', outcomes('{"id": 4, "lease": %1$s, "outcome": "requeue"}', '{"id": 3, "lease": %1$s, "outcome": "fail"}'), true)$$, :a)) LIKE 'ok %' AS strict_settle;
TABLE now;
-- the effects of a job and its strict ack exist together or not at all
CREATE TABLE effect (id bigint);
\set VERBOSITY terse
BEGIN;
INSERT INTO effect VALUES (4);
SELECT qflow.ack('q', ARRAY[4], ARRAY[:a], strict => true);
COMMIT;
\set VERBOSITY default
SELECT count(*) FROM effect;

-- without leases: refused, unless allowed
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 8);
SELECT qflow.create_workflow('other', 'q');
SELECT take(4) AS a \gset
SELECT f.id AS foreign_job, f.lease AS foreign_lease FROM qflow.fetch('other', 1) AS f \gset
SELECT try('SELECT qflow.ack(''q'', ARRAY[1], NULL)') AS ack, try('SELECT qflow.requeue(''q'', ARRAY[1], NULL)') AS requeue,
    try('SELECT qflow.fail(''q'', ARRAY[1], NULL)') AS fail, try('SELECT qflow.release(''q'', ARRAY[1], NULL)') AS release,
    try($$SELECT * FROM qflow.settle('q', '[{"id": 1, "outcome": "ack"}]')$$) AS settle,
    try($$SELECT * FROM qflow.settle('q', '[{"id": 1, "lease": null, "outcome": "ack"}]')$$) AS settle_null;
TABLE now;
SET qflow.allow_unfenced = on;
-- in progress under a live lease of this workflow: accepted. Another workflow's, pending, no such row: not
SELECT qflow.ack('q', ARRAY[1], NULL) AS ours, qflow.ack('q', ARRAY[5], NULL) AS another_workflows,
    qflow.ack('q', ARRAY[6], NULL) AS pending, qflow.ack('q', ARRAY[99], NULL) AS nobodys;
-- nothing is `already`
SELECT qflow.ack('q', ARRAY[1], NULL) AS replayed_ack, qflow.requeue('q', ARRAY[2], NULL, delay_ms => 3600000) AS requeue, qflow.requeue('q', ARRAY[2], NULL) AS replayed_requeue;
SELECT id, lease = :a AS found, outcome FROM qflow.settle('q', '[{"id": 3, "outcome": "fail", "reason": "x"}, {"id": 5, "outcome": "ack"},
    {"id": 6, "outcome": "ack"}, {"id": 1, "outcome": "ack"}, {"id": 99, "outcome": "ack"}, {"id": 4, "lease": null, "outcome": "release"}]') ORDER BY id;
SELECT try('SELECT qflow.ack(''q'', ARRAY[6], NULL, true)') AS strict;
-- whose lease row is gone: no live lease, so not accepted
INSERT INTO q (data, status, lease, attempt) VALUES ('{}', 'in_progress', :a, 1);
SELECT qflow.ack('q', ARRAY[9], NULL) AS no_live_lease;
TABLE now;
-- one job with its lease and without is one job, and has one outcome
INSERT INTO q (data) VALUES ('{}'), ('{}');
SELECT array_agg(f.id ORDER BY f.id) AS two, min(f.lease) AS b FROM qflow.fetch('q', 2, hints => '{"timeout_ms": 60000}') AS f \gset
SELECT id, outcome FROM qflow.settle('q', format('[{"id": %s, "outcome": "ack"}, {"id": %s, "lease": %s, "outcome": "ack"}]',
    (:'two'::bigint[])[1], (:'two'::bigint[])[1], :b)::jsonb);
SELECT try(format($$SELECT * FROM qflow.settle('q', '[{"id": %s, "outcome": "ack"}, {"id": %s, "lease": %s, "outcome": "fail"}]')$$,
    (:'two'::bigint[])[2], (:'two'::bigint[])[2], :b)) AS contradiction;
RESET qflow.allow_unfenced;
SELECT qflow.ack('other', ARRAY[:foreign_job], ARRAY[:foreign_lease]);

-- empty arrays are no work: 0, or no rows
SELECT qflow.ack('q', '{}', '{}'), qflow.ack('q', '{}', ARRAY[7]), qflow.ack('q', '{}', '{}', true), qflow.requeue('q', '{}', '{}'),
    qflow.fail('q', '{}', '{}'), qflow.release('q', '{}', '{}');
SELECT count(*) FROM qflow.settle('q', '[]');
SELECT count(*) FROM qflow.settle('q', '[]', true);
SELECT count(*) FROM qflow.extend('q', '{}');
SELECT qflow.enqueue_batch('q', '{}'), qflow.enqueue_batch('q', '{}', '{}'), qflow.retry_failed('q', '{}');
-- but the workflow must exist
SELECT try('SELECT qflow.ack(''nosuch'', ''{}'', ''{}'')'), try('SELECT qflow.settle(''nosuch'', ''[]'')'), try('SELECT qflow.extend(''nosuch'', ''{}'')');

-- lengths: one lease for all, or one for each
SELECT try('SELECT qflow.ack(''q'', ARRAY[1, 2], ARRAY[1, 2, 3])') AS more, try('SELECT qflow.ack(''q'', ARRAY[1, 2, 3], ARRAY[1, 2])') AS fewer,
    try('SELECT qflow.ack(''q'', ARRAY[1], ''{}'')') AS none, try('SELECT qflow.ack(''q'', ''{}'', ARRAY[1, 2])') AS no_ids,
    try($$SELECT qflow.enqueue_batch('q', ARRAY['1', '2']::jsonb[], ARRAY['{}']::jsonb[])$$) AS metadata;

-- what outcomes must look like
SELECT o, try(format('SELECT * FROM qflow.settle(''q'', %L)', o)) FROM unnest(ARRAY[
    '{}', '7', '"x"', 'null', '[[]]', '[null]', '[7]',
    '[{}]',
    '[{"lease": 1, "outcome": "ack"}]',
    '[{"id": 1, "lease": 1}]',
    '[{"id": null, "lease": 1, "outcome": "ack"}]',
    '[{"id": 1, "lease": 1, "outcome": null}]',
    '[{"id": 1, "lease": 1, "outcome": "nack"}]',
    '[{"id": 1, "lease": 1, "outcome": "ACK"}]',
    '[{"id": 1.5, "lease": 1, "outcome": "ack"}]',
    '[{"id": 1e3, "lease": 1, "outcome": "ack"}]',
    '[{"id": 9223372036854775808, "lease": 1, "outcome": "ack"}]',
    '[{"id": 9223372036854775807, "lease": "9223372036854775807", "outcome": "ack"}]',
    '[{"id": "x", "lease": 1, "outcome": "ack"}]',
    '[{"id": "", "lease": 1, "outcome": "ack"}]',
    '[{"id": true, "lease": 1, "outcome": "ack"}]',
    '[{"id": [1], "lease": 1, "outcome": "ack"}]',
    '[{"id": -1, "lease": -1, "outcome": "ack"}]',
    '[{"id": 99, "lease": 1, "outcome": "ack", "reson": "x"}]',
    '[{"id": 99, "lease": 1, "outcome": "fail", "reason": 7}]',
    '[{"id": 99, "lease": 1, "outcome": "fail", "reason": null}]',
    '[{"id": 99, "lease": 1, "outcome": "requeue", "delay_ms": null}]',
    '[{"id": 99, "lease": 1, "outcome": "requeue", "delay_ms": "0"}]',
    '[{"id": 99, "lease": 1, "outcome": "requeue", "delay_ms": -1}]',
    '[{"id": 99, "lease": 1, "outcome": "requeue", "delay_ms": 9223372036854775807}]',
    '[{"id": 99, "lease": 1, "outcome": "ack", "delay_ms": 5}]']) AS o;
-- the path of what is wrong is in the detail
SELECT qflow.settle('q', '[{"id": 1, "lease": 1, "outcome": "ack"}, {"id": 2, "lease": 1, "outcome": "ack", "colour": "red"}]');

DROP VIEW now;
SELECT qflow.drop_queue('q', false);
