-- hostile_faults: what an owner does to his own queue (errors that look like a cancel, rights taken from himself, a table
-- that becomes a view, calls back into qflow, deferred triggers) stays his: the others' queues and views go on.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET qflow.sweep = off;
CREATE ROLE hf_mallory;
CREATE ROLE hf_alice;
CREATE ROLE hf_monitor;
GRANT CREATE ON SCHEMA public TO hf_mallory, hf_alice;
-- mallory's queue is older: each pass comes to it first
SET ROLE hf_mallory;
SELECT qflow.create_queue('public.m', retries => 1000), qflow.alter_workflow('m', retry_delay_ms => 0);
GRANT SELECT ON m TO hf_monitor;
INSERT INTO m (data) VALUES ('{}'), ('{}');
SET ROLE hf_alice;
SELECT qflow.create_queue('public.a', retries => 1000), qflow.alter_workflow('a', retry_delay_ms => 0);
GRANT SELECT ON a TO hf_monitor;
INSERT INTO a (data) VALUES ('{}'), ('{}');
RESET ROLE;
-- claims both, and lets the time run out
CREATE PROCEDURE expire() LANGUAGE plpgsql SET client_min_messages = error AS $$ BEGIN
    PERFORM qflow.fetch('a'), qflow.fetch('m');
    UPDATE qflow.lease SET deadline = now() - interval '1 hour';
END $$;
-- what a pass took back
CREATE FUNCTION passed() RETURNS SETOF text LANGUAGE sql AS $$ SELECT concat_ws('|', r.queue, r.returned, r.failed) FROM qflow.reap() AS r $$;

-- errors with the codes of a cancel, of a shutdown, of an internal fault: they are the trigger's, and its queue's alone
SET ROLE hf_mallory;
CREATE FUNCTION m_raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.status = 'pending' THEN RAISE EXCEPTION 'not you' USING ERRCODE = current_setting('hf.code'); END IF;
    RETURN new; END $$;
CREATE TRIGGER m_raise BEFORE UPDATE ON m FOR EACH ROW EXECUTE FUNCTION m_raise();
RESET ROLE;
CALL expire();
SET hf.code = '57014';
SELECT passed();
CALL expire();
SET hf.code = '57P01';
SELECT passed();
CALL expire();
SET hf.code = '57P02';
SELECT passed();
CALL expire();
SET hf.code = 'XX000';
SELECT passed();
-- in a fetch of that queue, too: what it does on the way fails, the fetch goes on
CALL expire();
\c -
SET client_min_messages = warning;
SET qflow.sweep = off;
SET hf.code = '57014';
INSERT INTO m (data) VALUES ('{}');
SELECT id FROM qflow.fetch('m');
DROP TRIGGER m_raise ON m;
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SELECT passed();

-- an owner who may not read his table: named, and the views show the others' numbers
CALL expire();
REVOKE ALL ON m FROM hf_mallory;
SELECT passed();
CALL expire();
SELECT queue, in_progress FROM qflow.queue_stats ORDER BY 1;
SELECT workflow, in_flight FROM qflow.workflow_status ORDER BY 1;
SELECT workflow, jobs, unsettled FROM qflow.lease_status ORDER BY 1;
SET ROLE hf_monitor;
SELECT workflow, in_flight FROM qflow.workflow_status ORDER BY 1;
SELECT workflow, jobs, unsettled FROM qflow.lease_status ORDER BY 1;
SELECT * FROM qflow.verify('m');
SELECT check_name FROM qflow.verify('a') WHERE NOT ok;
RESET ROLE;
GRANT ALL ON m TO hf_mallory;
SELECT passed();

-- a trigger that calls back into qflow, also for the row that is being changed: it gets what its owner may, and PostgreSQL's
-- own 27000 where it changed that row
SET ROLE hf_mallory;
CREATE FUNCTION m_call() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE s text;
BEGIN
    IF pg_trigger_depth() > 1 THEN RETURN new; END IF;
    FOREACH s IN ARRAY ARRAY['SELECT qflow.drop_queue(''public.m'')', 'SELECT qflow.drop_queue(''public.m'', false)', 'SELECT qflow.alter_workflow(''m'', retries => 999)',
        'SELECT count(*) FROM qflow.reap()', 'SELECT count(*) FROM qflow.fetch(''m'')', 'SELECT count(*) FROM qflow.fetch(''a'')', 'SELECT qflow.pause_queue(''public.a'')',
        'SELECT qflow.ack(''m'', ARRAY[1], ARRAY[1])', 'SELECT count(*) FROM qflow.verify(''public.m'')', 'SELECT count(*) FROM qflow.queue_stats'] LOOP
        BEGIN
            EXECUTE s;
            RAISE WARNING '%: ok', s;
        EXCEPTION WHEN OTHERS THEN RAISE WARNING '%: %', s, SQLSTATE;
        END;
    END LOOP;
    RETURN new; END $$;
CREATE TRIGGER m_call BEFORE UPDATE ON m FOR EACH ROW WHEN (new.id = 1 AND new.status = 'pending') EXECUTE FUNCTION m_call();
RESET ROLE;
CALL expire();
SELECT passed();
DROP TRIGGER m_call ON m;
SELECT queue, paused FROM qflow.queue_stats ORDER BY 1;
SELECT workflow, retries FROM qflow.workflow_status ORDER BY 1;
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SELECT count(*) > 0 FROM passed();

-- an empty table that becomes a view (up to PostgreSQL 15): its functions would run as whoever reads it
SET ROLE hf_mallory;
SELECT qflow.create_queue('public.v');
CREATE TABLE leaked (who name);
GRANT INSERT ON leaked TO PUBLIC;
CREATE FUNCTION v_leak() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.leaked VALUES (current_user); RETURN 1; END $$;
ALTER TABLE v ALTER id DROP IDENTITY, ALTER enqueued_xid DROP DEFAULT, ALTER inserted_at DROP DEFAULT, DROP CONSTRAINT v_pkey,
    DROP CONSTRAINT qflow_status, DROP CONSTRAINT qflow_priority, DROP CONSTRAINT qflow_metadata_size, DROP CONSTRAINT qflow_data_size;
DROP TRIGGER qflow_return_insert ON v;
DROP TRIGGER qflow_return_update ON v;
DO $$ DECLARE i regclass; BEGIN FOR i IN SELECT indexrelid FROM pg_index WHERE indrelid = 'v'::regclass LOOP EXECUTE format('DROP INDEX %s', i); END LOOP; END $$;
VACUUM v;
DO $$
DECLARE columns text;
BEGIN
    SELECT string_agg(format('%s::%s AS %I', CASE attname WHEN 'id' THEN 'v_leak()' WHEN 'status' THEN '''pending''' WHEN 'data' THEN '''{}''' WHEN 'metadata' THEN '''{}'''
        WHEN 'enqueued_xid' THEN '''3''' WHEN 'priority' THEN '4' WHEN 'attempt' THEN '0' WHEN 'lease' THEN '1' WHEN 'available_at' THEN 'NULL' WHEN 'failure_reason' THEN 'NULL'
        ELSE 'now()' END, format_type(atttypid, atttypmod), attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute WHERE attrelid = 'v'::regclass AND attnum > 0;
    EXECUTE 'CREATE RULE "_RETURN" AS ON SELECT TO v DO INSTEAD SELECT ' || columns;
EXCEPTION WHEN OTHERS THEN
    -- (from PostgreSQL 16 on: not possible; something else that is no queue any more then)
    ALTER TABLE v DROP COLUMN attempt;
END $$;
RESET ROLE;
SET client_min_messages = error;
SELECT count(*) FROM qflow.verify('v') WHERE NOT ok;
\set VERBOSITY sqlstate
SELECT * FROM qflow.fetch('v');
SELECT qflow.ack('v', ARRAY[1], ARRAY[1]);
SELECT qflow.enqueue('v', '{}');
SELECT qflow.create_workflow('vv', 'v');
\set VERBOSITY default
SELECT count(*) FROM qflow.queue_stats;
SELECT count(*) > 0 FROM qflow.workflow_status;
SELECT count(*) FROM passed() AS p WHERE p ~ 'public.v';
SET client_min_messages = warning;
SELECT who, 'read by' FROM leaked WHERE who <> 'hf_mallory';
SELECT qflow.drop_queue('v');

-- deferred triggers cannot run restricted: the pass says so, and the others' jobs come back
SET ROLE hf_mallory;
CREATE FUNCTION m_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER m_later AFTER UPDATE ON m DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION m_later();
RESET ROLE;
CALL expire();
SELECT passed();
DROP TRIGGER m_later ON m;
SELECT passed();

DROP PROCEDURE expire;
DROP OWNED BY hf_mallory, hf_alice, hf_monitor CASCADE;
DROP ROLE hf_mallory, hf_alice, hf_monitor;
