-- wait: arguments, rights, when it returns, and where it can let go of its transaction. That it holds nothing while it
-- waits, and what ends it, is seen by other sessions: tests/process/test_wait.py.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
SELECT qflow.create_queue('jobs');
SELECT qflow.create_workflow('other', 'jobs');

-- arguments: no jobs, so each of these that is accepted looks once
CALL qflow.wait('jobs', 0);
CALL qflow.wait('jobs', timeout_ms => 0, hints => NULL);
CALL qflow.wait('jobs', 0, '{"timeout_ms": 5000, "wait_ms": 10, "worker": "me", "gpu": false}');
CALL qflow.wait('jobs', 0, '{"gpu": 1, "memory_gb": 16}');
CALL qflow.wait(NULL);
CALL qflow.wait('nosuch');
CALL qflow.wait('', 0);
CALL qflow.wait('jobs', -1);
CALL qflow.wait('jobs', 86400001);
CALL qflow.wait('jobs', 0, '[]');
CALL qflow.wait('jobs', 0, '{"worker": 7}');
CALL qflow.wait('jobs', 0, '{"tpu": 1}');
CALL qflow.wait('jobs', 0, '{"gpu": 2}');
CALL qflow.wait();
CALL qflow.wait('jobs', '1s');
SELECT qflow.wait('jobs');
-- what a fetch says to hints, wait says too
\set VERBOSITY sqlstate
\pset tuples_only on
CREATE TABLE hints (hints jsonb);
INSERT INTO hints VALUES ('7'), ('null'), ('"x"'), ('{}'), ('{"": 1}'), ('{"timeout_ms": 0}'), ('{"on_busy": "x"}'),
    ('{"gpu": []}'), ('{"nosuch": 0}'), ('{"a": {"a": {"a": {}}}}');
SELECT format('SELECT count(*) FROM qflow.fetch(''jobs'', hints => %L)', hints),
    format('CALL qflow.wait(''jobs'', 0, %L)', hints) FROM hints \gexec
\pset tuples_only off
\set VERBOSITY default
-- the cap on a wait is a setting
SET qflow.max_wait_ms = 1000;
CALL qflow.wait('jobs', 1001);
RESET qflow.max_wait_ms;
SET qflow.poll_interval_ms = 9;
SET qflow.poll_interval_ms = 60001;

-- when it returns: at once where a fetch would bring rows, else at its deadline. The times are far apart.
SET qflow.poll_interval_ms = 10;
CREATE TABLE clock (at timestamptz);
INSERT INTO clock VALUES (now());
CREATE PROCEDURE start() LANGUAGE sql AS 'UPDATE clock SET at = clock_timestamp()';
CREATE FUNCTION came() RETURNS text LANGUAGE sql AS
    $$SELECT CASE WHEN clock_timestamp() - at < '30 s' THEN 'early' ELSE 'late' END FROM clock$$;
CREATE FUNCTION waited(ms bigint) RETURNS text LANGUAGE sql AS
    $$SELECT CASE WHEN clock_timestamp() - at >= make_interval(secs => ms / 1000.0) THEN 'to the end' ELSE 'less' END FROM clock$$;
CALL start();
CALL qflow.wait('jobs', 200);
SELECT waited(200);
-- a second where nobody says
CALL start();
CALL qflow.wait('jobs', NULL);
SELECT waited(1000);
CALL start();
CALL qflow.wait('jobs');
SELECT waited(1000);
-- a fresh job; it is not taken
INSERT INTO jobs (data) VALUES ('1');
CALL start();
CALL qflow.wait('jobs', 60000);
SELECT came();
SELECT status, attempt FROM jobs;
-- nor is it there for a paused queue or workflow
SELECT qflow.pause_workflow('jobs');
CALL start();
CALL qflow.wait('jobs', 200);
SELECT waited(200);
CALL start();
CALL qflow.wait('other', 60000);
SELECT came();
SELECT qflow.resume_workflow('jobs');
SELECT qflow.pause_queue('jobs');
CALL start();
CALL qflow.wait('jobs', 200);
SELECT waited(200);
SELECT qflow.resume_queue('jobs');
SELECT count(*) FROM qflow.fetch('jobs');
CALL start();
CALL qflow.wait('jobs', 200);
SELECT waited(200);
-- a job with a delay: it is waited for until then, not until the next look
SET qflow.poll_interval_ms = 60000;
SELECT qflow.enqueue('jobs', '2', delay_ms => 500);
CALL start();
CALL qflow.wait('jobs', 600000);
SELECT waited(300), clock_timestamp() - at < '5 s' AS in_time FROM clock;
SELECT data FROM qflow.fetch('jobs');
-- an expired lease, which a fetch takes back
SELECT qflow.alter_workflow('jobs', timeout_ms => 1, retry_delay_ms => 0);
INSERT INTO jobs (data) VALUES ('3');
SELECT data, attempt FROM qflow.fetch('jobs');
SET qflow.poll_interval_ms = 10;
CALL start();
CALL qflow.wait('jobs', 600000);
SELECT came();
SELECT data, attempt FROM qflow.fetch('jobs');
SELECT qflow.alter_workflow('jobs', timeout_ms => 60000);
DELETE FROM jobs;
SELECT * FROM qflow.reap();

-- rights: those of a consumer
CREATE ROLE wait_nobody;
CREATE ROLE wait_reader;
CREATE ROLE wait_consumer;
GRANT SELECT ON jobs TO wait_reader;
GRANT SELECT, UPDATE ON jobs TO wait_consumer;
SET ROLE wait_nobody;
CALL qflow.wait('jobs', 0);
SET ROLE wait_reader;
CALL qflow.wait('jobs', 0);
SET ROLE wait_consumer;
CALL qflow.wait('jobs', 0);
RESET ROLE;
-- as the caller: a job that row security hides from him is none
ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
CREATE POLICY theirs ON jobs TO wait_consumer USING (data <> '"hidden"');
INSERT INTO jobs (data) VALUES ('"hidden"');
SET ROLE wait_consumer;
SET qflow.poll_interval_ms = 10;
SELECT clock_timestamp() AS started \gset
CALL qflow.wait('jobs', 200);
SELECT clock_timestamp() - :'started' >= '200 ms' AS waited;
-- a look is READ COMMITTED whatever the session's transactions are
RESET ROLE;
CREATE FUNCTION tells() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'a look is %', current_setting('transaction_isolation'); RETURN false; END $$;
ALTER POLICY theirs ON jobs USING (tells());
SET ROLE wait_consumer;
SET default_transaction_isolation = 'serializable';
CALL qflow.wait('jobs', 0);
RESET default_transaction_isolation;
-- what it calls may take a transaction id: outside of a block that ends with the look, in one it stays
RESET ROLE;
CREATE FUNCTION numbers() RETURNS boolean LANGUAGE sql AS $$ SELECT pg_current_xact_id() IS NULL $$;
ALTER POLICY theirs ON jobs USING (numbers());
SET ROLE wait_consumer;
CALL qflow.wait('jobs', 20);
BEGIN;
CALL qflow.wait('jobs', 20);
ROLLBACK;
RESET ROLE;
DROP POLICY theirs ON jobs;
ALTER TABLE jobs DISABLE ROW LEVEL SECURITY;
DELETE FROM jobs;

-- in a transaction block: READ COMMITTED, no transaction id, no snapshot
BEGIN;
CALL qflow.wait('jobs', 20);
-- it has left no lock
SELECT relation::regclass, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('jobs'::regclass, 'qflow.queue'::regclass, 'qflow.workflow'::regclass);
SELECT pg_current_xact_id_if_assigned();
CALL qflow.wait('jobs', 20);
-- what the block locked stays
LOCK TABLE hints IN ACCESS SHARE MODE;
CALL qflow.wait('jobs', 20);
SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'hints'::regclass;
SAVEPOINT s;
CALL qflow.wait('jobs', 20);
RELEASE s;
-- an empty fetch is no obstacle, one that brings rows is
SELECT count(*) FROM qflow.fetch('jobs');
CALL qflow.wait('jobs', 20);
SELECT qflow.enqueue('jobs', '4') > 0;
CALL qflow.wait('jobs', 20);
ROLLBACK;
-- a savepoint gets one out of that, as of every error
BEGIN;
SAVEPOINT s;
CALL qflow.wait('nosuch', 20);
ROLLBACK TO s;
CALL qflow.wait('jobs', 20);
SELECT 'goes on';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL qflow.wait('jobs', 0);
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
CALL qflow.wait('jobs', 0);
ROLLBACK;
BEGIN READ ONLY;
CALL qflow.wait('jobs', 0);
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM hints;
CALL qflow.wait('jobs', 0);
ROLLBACK;
BEGIN;
SELECT pg_current_xact_id() > '0';
CALL qflow.wait('jobs', 0);
ROLLBACK;
-- several statements in one message are a block
-- psql up to 14 shows the last result only
\set SHOW_ALL_RESULTS off
SELECT 'first'\; CALL qflow.wait('jobs', 20)\; SELECT 'last';
INSERT INTO clock VALUES (now())\; CALL qflow.wait('jobs', 20);
SELECT count(*) FROM clock;
-- the isolation of a session that waits outside of a block does not matter
SET default_transaction_isolation = 'repeatable read';
CALL qflow.wait('jobs', 20);
SHOW transaction_isolation;
SET default_transaction_isolation = 'serializable';
CALL qflow.wait('jobs', 20);
DO $$ BEGIN CALL qflow.wait('jobs', 20); RAISE NOTICE '%', current_setting('transaction_isolation'); END $$;
RESET default_transaction_isolation;
SET default_transaction_read_only = on;
CALL qflow.wait('jobs', 0);
RESET default_transaction_read_only;

-- in what another calls: allowed where that may commit and has changed nothing
CREATE PROCEDURE waits() LANGUAGE plpgsql AS $$ BEGIN CALL qflow.wait('jobs', 20); END $$;
CREATE PROCEDURE waits_again() LANGUAGE plpgsql AS $$
    DECLARE i int; n bigint;
    BEGIN
        FOR i IN SELECT generate_series(1, 3) LOOP
            CALL qflow.wait('jobs', 20);
            SELECT count(*) INTO n FROM qflow.fetch('jobs');
            RAISE NOTICE '%: %', i, n;
        END LOOP;
    END $$;
CREATE PROCEDURE waits_after_a_change() LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO clock VALUES (now()); CALL qflow.wait('jobs', 20); END $$;
CREATE PROCEDURE commits_and_waits() LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO clock VALUES (now()); COMMIT; CALL qflow.wait('jobs', 20); END $$;
CREATE PROCEDURE waits_in_a_handler() LANGUAGE plpgsql AS $$
    BEGIN
        CALL qflow.wait('jobs', 20);
    EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, SQLERRM;
    END $$;
CREATE PROCEDURE waits_with_setting() LANGUAGE plpgsql SET work_mem = '1MB' AS $$ BEGIN CALL qflow.wait('jobs', 20); END $$;
CREATE PROCEDURE waits_in_sql() LANGUAGE sql AS $$ CALL qflow.wait('jobs', 20) $$;
CREATE FUNCTION waits_in_function() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CALL qflow.wait('jobs', 20); RETURN 1; END $$;
CREATE FUNCTION waits_in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN CALL qflow.wait('jobs', 20); RETURN NEW; END $$;
CREATE TABLE triggered (n int);
CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION waits_in_trigger();
CALL waits();
CALL waits_again();
DO $$ BEGIN CALL qflow.wait('jobs', 20); CALL waits(); END $$;
CALL commits_and_waits();
SELECT count(*) FROM clock;
CALL waits_after_a_change();
SELECT count(*) FROM clock;
CALL waits_in_a_handler();
CALL waits_with_setting();
CALL waits_in_sql();
SELECT waits_in_function();
INSERT INTO triggered VALUES (1);
BEGIN; CALL waits(); ROLLBACK;
BEGIN; DO $$ BEGIN CALL qflow.wait('jobs', 20); END $$; ROLLBACK;
BEGIN; SELECT waits_in_function(); ROLLBACK;
SELECT 1\; CALL waits();

-- after all these errors the session is as it was
CALL qflow.wait('jobs', 20);
SELECT pg_current_xact_id_if_assigned();
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation = 'jobs'::regclass;

-- cancelled by its own timeout
SET statement_timeout = 200;
CALL qflow.wait('jobs', 60000);
BEGIN;
CALL qflow.wait('jobs', 60000);
ROLLBACK;
RESET statement_timeout;

-- gone
SELECT qflow.drop_workflow('other');
CALL qflow.wait('other');
SELECT qflow.drop_queue('jobs');
CALL qflow.wait('jobs');
DROP EXTENSION qflow CASCADE;
CREATE EXTENSION qflow;
CALL qflow.wait('jobs');
DROP ROLE wait_nobody;
DROP OWNED BY wait_reader, wait_consumer;
DROP ROLE wait_reader, wait_consumer;
