-- bigger_statements: what happens when qflow.fetch stands in a bigger statement: the page "fetch in bigger statements",
-- one part a line of it. Never is a job claimed and the claim, or an ack, lost.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT qflow.create_queue('q');
CREATE VIEW now AS SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM q GROUP BY status) AS s;
-- Twelve fresh jobs.
CREATE PROCEDURE again() LANGUAGE plpgsql AS $$ BEGIN
    TRUNCATE q RESTART IDENTITY;
    INSERT INTO q (data) SELECT jsonb_build_object('n', n) FROM generate_series(1, 12) AS n; END $$;

-- LIMIT over it still claims demand
CALL again();
SELECT id FROM qflow.fetch('q', 3) LIMIT 1;
TABLE now;
SELECT (qflow.fetch('q', 3)).id LIMIT 1;
TABLE now;
SELECT EXISTS (SELECT FROM qflow.fetch('q', 2));
TABLE now;

-- a CTE nobody reads claims nothing; one that is read twice claims once
CALL again();
WITH taken AS (SELECT * FROM qflow.fetch('q', 3)) SELECT 'nobody reads it';
TABLE now;
WITH taken AS MATERIALIZED (SELECT * FROM qflow.fetch('q', 3)) SELECT 'nobody reads it either';
TABLE now;
WITH taken AS (SELECT * FROM qflow.fetch('q', 3)) SELECT (SELECT count(*) FROM taken), (SELECT sum(id) FROM taken);
TABLE now;
-- a filter is applied to what was claimed: claimed is claimed
SELECT id FROM qflow.fetch('q', 3) WHERE id = 5;
TABLE now;
SELECT count(*) FROM qflow.fetch('q', 3) WHERE false;
TABLE now;

-- a join with the queue shows the old version of the row
CALL again();
SELECT j.id, j.status, j.attempt, j.lease IS NULL AS no_lease, f.attempt AS new_attempt FROM qflow.fetch('q', 2) AS f JOIN q AS j USING (id) ORDER BY 1;
SELECT (SELECT count(*) FROM qflow.fetch('q', 2)) AS claimed, (SELECT count(*) FROM q WHERE status = 'in_progress') AS shown;
TABLE now;

-- EXPLAIN claims nothing, EXPLAIN ANALYZE claims
CALL again();
EXPLAIN SELECT * FROM qflow.fetch('q', 3) \g /dev/null
TABLE now;
EXPLAIN ANALYZE SELECT * FROM qflow.fetch('q', 3) \g /dev/null
TABLE now;
BEGIN;
EXPLAIN ANALYZE SELECT * FROM qflow.fetch('q', 3) \g /dev/null
ROLLBACK;
TABLE now;
PREPARE p AS SELECT count(*) FROM qflow.fetch('q', 1);
EXPLAIN EXECUTE p \g /dev/null
TABLE now;
EXECUTE p;
EXECUTE p;
DEALLOCATE p;
TABLE now;

-- ack, and the other settles, in the same statement
CALL again();
SELECT f.id, qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]) FROM qflow.fetch('q', 2) AS f;
TABLE now;
SELECT qflow.ack('q', array_agg(f.id), array_agg(f.lease), true) FROM qflow.fetch('q', 2) AS f;
TABLE now;
WITH taken AS (SELECT * FROM qflow.fetch('q', 2)) SELECT qflow.ack('q', array_agg(id), ARRAY[max(lease)]) FROM taken;
TABLE now;
SELECT f.id, a.n FROM qflow.fetch('q', 2) AS f CROSS JOIN LATERAL qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]) AS a (n);
TABLE now;
SELECT f.id, s.outcome FROM qflow.fetch('q', 2) AS f CROSS JOIN LATERAL qflow.settle('q',
    jsonb_build_array(jsonb_build_object('id', f.id, 'lease', f.lease, 'outcome', CASE f.id % 2 WHEN 0 THEN 'ack' ELSE 'fail' END))) AS s;
TABLE now;
SELECT f.id, qflow.release('q', ARRAY[f.id], ARRAY[f.lease]), qflow.fail('q', ARRAY[f.id], ARRAY[f.lease]) FROM qflow.fetch('q', 1) AS f;
SELECT f.id, f.attempt, e.lease = f.lease AS held FROM qflow.fetch('q', 1) AS f CROSS JOIN LATERAL qflow.extend('q', ARRAY[f.lease]) AS e;
TABLE now;
SELECT count(*) FROM qflow.lease_status;
-- ack of what an earlier call in the same statement acked
CALL again();
SELECT qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]) AS first, qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]) AS replayed FROM qflow.fetch('q', 1) AS f;
-- fetch and ack in one statement that fails: nothing is claimed, nothing completed
SELECT qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]), 1 / (f.id - 3) FROM qflow.fetch('q', 5) AS f;
TABLE now;

-- effects: INSERT … SELECT from fetch, with the ack behind it
CREATE TABLE effect (id bigint PRIMARY KEY, n int);
INSERT INTO effect SELECT id, (data ->> 'n')::int FROM qflow.fetch('q', 3);
SELECT count(*) FROM effect;
TABLE now;
WITH f AS (SELECT * FROM qflow.fetch('q', 3)), e AS (INSERT INTO effect SELECT id, (data ->> 'n')::int FROM f RETURNING id)
SELECT qflow.ack('q', array_agg(f.id), array_agg(f.lease), true) FROM f JOIN e USING (id);
SELECT count(*) FROM effect;
TABLE now;

-- a statement that writes to the rows it fetches: refused, or the effect is there; never silently without it
CALL again();
\set VERBOSITY sqlstate
UPDATE q SET metadata = '{"seen": true}' FROM qflow.fetch('q', 2) AS f WHERE q.id = f.id;
\echo :SQLSTATE :ROW_COUNT
TABLE now;
SELECT count(*) FROM q WHERE metadata <> '{}';
DELETE FROM q USING qflow.fetch('q', 2) AS f WHERE q.id = f.id;
TABLE now;
SELECT count(*) FROM q;
WITH f AS (SELECT * FROM qflow.fetch('q', 2)) UPDATE q SET metadata = '{"seen": true}' FROM f WHERE q.id = f.id;
TABLE now;
SELECT f.id FROM qflow.fetch('q', 2) AS f JOIN q USING (id) FOR UPDATE OF q;
TABLE now;
SELECT count(*) FROM q WHERE metadata <> '{}';
\set VERBOSITY default

-- rows that it does not fetch can be written, and what it fetched afterwards
UPDATE q SET metadata = '{"seen": true}' FROM qflow.fetch('q', 2) AS f WHERE q.id = f.id + 10;
SELECT id, status, metadata FROM q WHERE metadata <> '{}' OR status <> 'pending' ORDER BY id;
BEGIN;
SELECT f.id FROM qflow.fetch('q', 1) AS f \gset
UPDATE q SET metadata = '{"seen": true}' WHERE id = :id;
COMMIT;
SELECT status, metadata FROM q WHERE id = :id;
-- jobs made and fetched in one statement: a statement does not see what it inserts
CALL again();
WITH new AS (INSERT INTO q (data, priority) VALUES ('"new"', 0) RETURNING id) SELECT (SELECT count(*) FROM new), array_agg(f.id) FROM qflow.fetch('q', 2) AS f;
SELECT data FROM qflow.fetch('q', 1);
SELECT qflow.enqueue('q', '"newer"', priority => 0), (SELECT data FROM qflow.fetch('q', 1));

-- two fetches in one statement: no job twice
CALL again();
SELECT count(*), count(DISTINCT f.id) FROM (SELECT id FROM qflow.fetch('q', 4) UNION ALL SELECT id FROM qflow.fetch('q', 4)) AS f;
SELECT count(*), count(DISTINCT a.lease) FROM qflow.fetch('q', 2) AS a JOIN qflow.fetch('q', 2) AS b ON true;
TABLE now;
-- once a row of what is before it
CALL again();
SELECT count(*), count(DISTINCT f.id), count(DISTINCT f.lease) FROM generate_series(1, 3) AS i CROSS JOIN LATERAL qflow.fetch('q', i) AS f;
TABLE now;

-- in a function, a DO block, a cursor
CALL again();
CREATE FUNCTION few(n int) RETURNS SETOF bigint LANGUAGE sql AS $$ SELECT f.id FROM qflow.fetch('q', n) AS f $$;
SELECT few(2);
SELECT count(*) FROM few(2);
DO $$ DECLARE f record; n int := 0; BEGIN
    FOR f IN SELECT * FROM qflow.fetch('q', 2) LOOP n := n + qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]); END LOOP;
    RAISE NOTICE '% acked', n; END $$;
TABLE now;
-- fetched by a cursor: claimed at its first FETCH, whole
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM qflow.fetch('q', 3);
TABLE now;
FETCH 1 FROM c;
TABLE now;
FETCH 1 FROM c;
CLOSE c;
COMMIT;
TABLE now;
-- WITH HOLD, not read before the commit: run by the commit itself
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT id FROM qflow.fetch('q', 2);
COMMIT;
TABLE now;
FETCH ALL FROM c;
CLOSE c;
-- in a function that fails and is caught: not claimed
CALL again();
DO $$ BEGIN
    BEGIN PERFORM qflow.fetch('q', 5); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END;
    RAISE NOTICE '% in progress', (SELECT count(*) FROM q WHERE status = 'in_progress');
    RAISE NOTICE '% fetched', (SELECT count(*) FROM qflow.fetch('q', 5)); END $$;
SELECT array_agg(id) FROM q WHERE status = 'in_progress';
-- in a trigger
CREATE TABLE bell (n int);
CREATE FUNCTION rung() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% fetched', (SELECT count(*) FROM qflow.fetch('q', new.n)); RETURN NULL; END $$;
CREATE TRIGGER rung AFTER INSERT ON bell FOR EACH ROW EXECUTE FUNCTION rung();
INSERT INTO bell VALUES (1), (2);
TABLE now;
-- in a view: once a read
CREATE VIEW taken AS SELECT id FROM qflow.fetch('q', 1);
SELECT count(*) FROM taken AS a;
TABLE now;
-- CREATE TABLE AS, and a materialized view
CREATE TABLE kept AS SELECT id FROM qflow.fetch('q', 1);
CREATE TABLE not_kept AS SELECT id FROM qflow.fetch('q', 1) WITH NO DATA;
TABLE now;
COPY (SELECT count(*) FROM qflow.fetch('q', 1)) TO STDOUT;
TABLE now;

-- read-only transactions are refused, before anything is done
BEGIN READ ONLY;
\set VERBOSITY sqlstate
SELECT qflow.fetch('q');
ROLLBACK;
\set VERBOSITY default

-- a fetch that finds nothing assigns no transaction id and leaves no lease; with the sweep on it does not either
CREATE FUNCTION nothing(workflow text, demand bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE before bigint := (SELECT last_value FROM qflow.lease_id); n int;
BEGIN
    n := count(*) FROM qflow.fetch(workflow, demand);
    RETURN concat_ws(', ', n || ' rows', CASE WHEN pg_current_xact_id_if_assigned() IS NULL THEN 'no transaction id' ELSE 'a transaction id' END,
        (SELECT last_value FROM qflow.lease_id) - before || ' lease ids');
END $$;
SELECT qflow.create_queue('e');
SELECT nothing('e', 5);
SELECT nothing('e', 5);
SELECT qflow.enqueue('e', '{}', delay_ms => 3600000);
SELECT nothing('e', 5) AS only_delayed;
INSERT INTO e (data) SELECT '{}' FROM generate_series(1, 100);
SELECT qflow.pause_workflow('e');
SELECT nothing('e', 5) AS paused_workflow;
SELECT qflow.resume_workflow('e'), qflow.pause_queue('e');
SELECT nothing('e', 5) AS paused_queue;
SELECT qflow.resume_queue('e');
SELECT nothing('e', 200) AS all_of_them;
SELECT nothing('e', 5) AS all_in_progress;
SELECT qflow.ack('e', array_agg(id), array_agg(lease)) FROM e WHERE status = 'in_progress';
SELECT nothing('e', 5) AS all_done;
SET qflow.sweep = on;
SELECT nothing('e', 5) AS with_the_sweep;
DO $$ BEGIN PERFORM pg_sleep(1.1); END $$;
SELECT nothing('e', 5) AS with_the_sweep_after_a_second;
\c -
SELECT nothing('e', 5) AS new_session_with_the_sweep;
SET qflow.sweep = off;
SELECT nothing('e', 5) AS without_it;
BEGIN;
SELECT count(*) FROM qflow.fetch('e');
SELECT pg_current_xact_id_if_assigned() IS NULL AS still_none;
COMMIT;
