-- readiness: why a consumer cannot start, or gets nothing. Each fault has a SQLSTATE and a hint of its own where it is met,
-- and readiness names it. (A standby, and a database without qflow: tests/process.)
SET qflow.sweep = off;
\set SHOW_CONTEXT never
CREATE ROLE ready_consumer;
CREATE SCHEMA app;
SELECT qflow.create_queue('app.jobs', workflow => 'embed');
GRANT USAGE ON SCHEMA app TO ready_consumer;
SELECT qflow.grant_consumer('app.jobs', 'ready_consumer');
INSERT INTO app.jobs (data) VALUES ('1'), ('2'), ('3');
-- What a call says: SQLSTATE, message, hint.
CREATE FUNCTION says(call text) RETURNS text LANGUAGE plpgsql AS $$
    DECLARE hint text; rows bigint;
    BEGIN
        EXECUTE 'SELECT count(*) FROM ' || call INTO rows;
        RETURN rows || ' rows';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
        RETURN sqlstate || ': ' || sqlerrm || ' | ' || hint;
    END $$;
CREATE VIEW faults AS SELECT check_name, detail, remedy FROM qflow.readiness('embed') WHERE NOT ok;
GRANT SELECT ON faults TO ready_consumer;
CREATE FUNCTION faults() RETURNS SETOF faults LANGUAGE sql AS 'SELECT check_name, detail, remedy FROM qflow.readiness(''embed'') WHERE NOT ok';

SET ROLE ready_consumer;
SELECT * FROM qflow.readiness('embed');
RESET ROLE;

-- 1 a name that is not registered
SELECT says($$qflow.fetch('embedding')$$);
SELECT check_name, ok, detail, remedy FROM qflow.readiness('embedding');
-- 2 no rights
SELECT qflow.revoke_consumer('app.jobs', 'ready_consumer');
SET ROLE ready_consumer;
SELECT says($$qflow.fetch('embed')$$);
SELECT * FROM faults();
RESET ROLE;
GRANT SELECT, UPDATE ON app.jobs TO ready_consumer;
SELECT qflow.alter_queue('app.jobs', on_complete => 'delete');
SET ROLE ready_consumer;
SELECT * FROM faults();
RESET ROLE;
SELECT qflow.alter_queue('app.jobs', on_complete => 'keep');
REVOKE USAGE ON SCHEMA app FROM ready_consumer;
SET ROLE ready_consumer;
SELECT says($$qflow.fetch('embed')$$);
SELECT * FROM faults();
RESET ROLE;
GRANT USAGE ON SCHEMA app TO ready_consumer;
-- 3 the schema
ALTER TABLE app.jobs RENAME COLUMN failure_reason TO reason;
SELECT says($$qflow.fetch('embed')$$);
SELECT * FROM faults();
ALTER TABLE app.jobs RENAME COLUMN reason TO failure_reason;
-- 4 the name is taken: start-up code that registers
SELECT qflow.create_queue('app.other');
SELECT says($$qflow.create_workflow('embed', 'app.other')$$);
SELECT says($$qflow.create_workflow('embed', 'app.jobs')$$);
-- 5 configuration: a resource that does not exist, a lease bound to the session without preload, a bad number
SELECT says($$qflow.create_workflow('train', 'app.jobs', resource_hints => '{"tpu": 1}')$$);
SELECT says($$qflow.fetch('embed', 0)$$);
UPDATE qflow.workflow SET resource_hints = '{"tpu": 1}' WHERE workflow = 'embed';
SELECT says($$qflow.fetch('embed')$$);
SELECT * FROM faults();
UPDATE qflow.workflow SET resource_hints = NULL WHERE workflow = 'embed';
-- 6 paused: no error, no rows
SELECT qflow.pause_workflow('embed');
SELECT says($$qflow.fetch('embed')$$);
SELECT * FROM faults();
SELECT qflow.resume_workflow('embed'), qflow.pause_queue('app.jobs');
SELECT * FROM faults();
SELECT qflow.resume_queue('app.jobs');
-- 7 the table is gone
BEGIN;
DROP TABLE app.jobs;
SELECT * FROM faults();
ROLLBACK;
-- Nothing to do: no fault, but said.
SELECT detail FROM qflow.readiness('embed') WHERE check_name = 'jobs';
SELECT count(*) FROM qflow.fetch('embed', 10);
SELECT detail FROM qflow.readiness('embed') WHERE check_name = 'jobs';
SELECT qflow.enqueue('app.jobs', '4', delay_ms => 3600000);
SELECT regexp_replace(detail, '\d{7}', 'N') AS detail FROM qflow.readiness('embed') WHERE check_name = 'jobs';
-- Times without end are no numbers to count with.
UPDATE app.jobs SET available_at = '-infinity' WHERE status = 'pending';
SELECT detail FROM qflow.readiness('embed') WHERE check_name = 'jobs';
UPDATE app.jobs SET available_at = 'infinity' WHERE status = 'pending';
SELECT regexp_replace(detail, '\d{13,}', 'N') AS detail FROM qflow.readiness('embed') WHERE check_name = 'jobs';
-- Looking changes nothing.
BEGIN;
SELECT count(*) FROM qflow.readiness('embed');
SELECT pg_current_xact_id_if_assigned() IS NULL AS read_only;
SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'app.jobs'::regclass;
COMMIT;
SELECT says('qflow.readiness(NULL)');
DROP OWNED BY ready_consumer;
DROP ROLE ready_consumer;
