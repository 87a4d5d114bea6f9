-- both_paths: whatever is done, a table comes out the same whether jobs are reached directly or through the executor.
-- include/both_paths.sql runs for each kind of table on each path; what is left in the tables is compared at the end.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET qflow.sweep = off;
SET qflow.naive_timezone = 'Asia/Kolkata';
\set folder `echo "$PG_ABS_SRCDIR"`
\set script :folder '/include/both_paths.sql'
CREATE TABLE kept (path text, kind text, step text, id bigint, job jsonb, PRIMARY KEY (path, kind, step, id));
CREATE TABLE outcomes (path text, kind text, nr int GENERATED ALWAYS AS IDENTITY, outcome text);
-- the queue q, made anew on a table of some kind that has jobs already; `note` comes later than they do, a column is gone
CREATE PROCEDURE make(kind text) LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('both.kind', kind, false);
    DROP TABLE IF EXISTS part;
    IF to_regclass('q') IS NOT NULL THEN DROP TABLE q; END IF;
    DROP SEQUENCE IF EXISTS q_nr;
    CREATE SEQUENCE q_nr;
    IF kind = 'int' THEN
        CREATE TABLE q (id serial PRIMARY KEY, data jsonb, metadata jsonb DEFAULT '{}', status varchar(20) DEFAULT 'pending',
            inserted_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(), failure_reason text);
    ELSIF kind = 'bigint' THEN
        CREATE TABLE q (id bigserial PRIMARY KEY, data jsonb NOT NULL, metadata jsonb DEFAULT '{}'::jsonb,
            status varchar(20) DEFAULT 'pending' NOT NULL, inserted_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(),
            failure_reason text);
    ELSE
        PERFORM qflow.create_queue('q', retries => 2);
    END IF;
    INSERT INTO q (data, status) SELECT to_jsonb('old ' || n), CASE n WHEN 2 THEN 'completed' ELSE 'pending' END FROM generate_series(1, 4) AS n;
    ALTER TABLE q ADD COLUMN gone int DEFAULT 7;
    IF kind <> 'made' THEN PERFORM qflow.create_queue('q', retries => 2); END IF;
    PERFORM qflow.alter_workflow('q', retry_delay_ms => 0);
    ALTER TABLE q ADD COLUMN note text DEFAULT 'as ever', ADD COLUMN nothing text;
    ALTER TABLE q DROP COLUMN gone;
    CREATE TABLE part (job bigint REFERENCES q (id));
END $$;
-- what a call answers, or the error that it raises
CREATE FUNCTION answer(call text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE answered text; BEGIN
    EXECUTE 'SELECT (' || call || ')::text' INTO answered;
    RETURN answered;
EXCEPTION WHEN OTHERS THEN RETURN concat(SQLSTATE, ' ', SQLERRM); END $$;
CREATE FUNCTION done(command text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN
    EXECUTE command;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n || ' rows';
EXCEPTION WHEN OTHERS THEN RETURN concat(SQLSTATE, ' ', SQLERRM); END $$;
-- a fetch: which jobs, and which attempts
CREATE FUNCTION take(demand int) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', count(*), 'jobs:', string_agg(concat_ws('/', id, attempt, failure_reason), ' ' ORDER BY id)) FROM qflow.fetch('q', demand) $$;
CREATE FUNCTION leases(VARIADIC jobs int[]) RETURNS bigint[] LANGUAGE plpgsql AS $$ BEGIN
    RETURN (SELECT array_agg(q.lease ORDER BY j.nr) FROM unnest(jobs) WITH ORDINALITY AS j (id, nr) JOIN q USING (id)); END $$;
-- keeps what stands in the table, but for times and what differs from run to run; says how its jobs are
CREATE FUNCTION keep(step text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO kept SELECT current_setting('qflow.direct_access'), current_setting('both.kind'), step, id,
        to_jsonb(q) - '{inserted_at,updated_at,available_at,enqueued_xid,lease}'::text[]
        || jsonb_build_object('is_due', available_at <= clock_timestamp(), 'has_lease', lease IS NOT NULL, 'has_xid', enqueued_xid IS NOT NULL)
        FROM q;
    RETURN (SELECT string_agg(concat(n, ' ', status), ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM q GROUP BY status) AS s)
        || (SELECT concat(', ', count(*), ' leases') FROM qflow.lease); END $$;

SET qflow.direct_access = on;
\set ECHO none
CALL make('made');
SELECT detail FROM qflow.verify('q') WHERE check_name = 'access';
\i :script
CALL make('int');
SELECT detail FROM qflow.verify('q') WHERE check_name = 'access';
\i :script
CALL make('bigint');
SELECT detail FROM qflow.verify('q') WHERE check_name = 'access';
\i :script
SET qflow.direct_access = off;
CALL make('made');
\i :script
CALL make('int');
\i :script
CALL make('bigint');
\i :script
\set ECHO all
-- the same was left, in each step
SELECT coalesce(a.kind, b.kind), coalesce(a.step, b.step), a.job AS direct, b.job AS executor
FROM (SELECT * FROM kept WHERE path = 'on') AS a FULL JOIN (SELECT * FROM kept WHERE path = 'off') AS b USING (kind, step, id)
WHERE a.job IS DISTINCT FROM b.job;
SELECT kind, count(DISTINCT step), count(*) > 1000 FROM kept GROUP BY kind ORDER BY kind;
DROP TABLE part, kept;
SET qflow.direct_access = on;
