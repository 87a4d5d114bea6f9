-- hostile_owner: an owner plants code in all that a table can call: triggers, CHECKs, defaults, generated columns, index
-- expressions, domains, casts, operators, rules, policies. Where qflow touches the table for others it runs as the owner,
-- restricted; where somebody touches it himself (fetch, settle, enqueue) it runs as him, exactly as on a plain statement.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT current_user AS home \gset
SELECT current_database() AS db \gset
LOAD 'qflow';
ALTER DATABASE :"db" SET qflow.sweep = off;
\set quiet 'SET client_min_messages = warning;'
:quiet
CREATE ROLE ho_super SUPERUSER LOGIN;
CREATE ROLE ho_mallory LOGIN;
CREATE ROLE ho_consumer LOGIN;
CREATE ROLE ho_producer LOGIN;
CREATE ROLE ho_monitor LOGIN;
CREATE ROLE ho_nobody LOGIN;
CREATE SCHEMA hostile AUTHORIZATION ho_mallory;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
GRANT TEMPORARY ON DATABASE :"db" TO PUBLIC;

SET SESSION AUTHORIZATION ho_mallory;
CREATE TABLE hostile.log (step text, what text, who name, login name, by_return boolean, gained text);
GRANT INSERT, SELECT ON hostile.log TO PUBLIC;
-- Says who runs it, and what he gets away with; whatever works is undone at once.
CREATE FUNCTION hostile.note(what text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE sql text; gained text := '';
BEGIN
    IF current_setting('hostile.step', true) IS NULL OR current_setting('hostile.step') = '' THEN RETURN true; END IF;
    FOREACH sql IN ARRAY ARRAY['SET ROLE ho_super', 'RESET ROLE', 'SET SESSION AUTHORIZATION DEFAULT', 'SET LOCAL SESSION AUTHORIZATION ho_super',
        'ALTER ROLE ho_mallory SUPERUSER', 'CREATE TEMP TABLE planted ()', 'DECLARE planted CURSOR WITH HOLD FOR SELECT 1',
        'UPDATE qflow.queue SET paused = paused', 'DELETE FROM qflow.lease WHERE false'] LOOP
        BEGIN
            EXECUTE sql;
            RAISE EXCEPTION USING ERRCODE = 'HOOK1';
        EXCEPTION
            WHEN SQLSTATE 'HOOK1' THEN gained := gained || CASE gained WHEN '' THEN '' ELSE ', ' END || sql;
            WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    -- (in the words of the test: who has a right by himself is not told apart from who was given one)
    INSERT INTO hostile.log VALUES (current_setting('hostile.step'), what, current_user, session_user,
        pg_trigger_depth() > CASE WHEN what ~ 'trigger' THEN 1 ELSE 0 END, gained);
    RETURN true;
END $$;
CREATE FUNCTION hostile.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM hostile.note(pg_catalog.lower(TG_WHEN OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) TG_LEVEL) OPERATOR(pg_catalog.||) ' trigger');
    -- what is set here must not stay in the session of whoever is served
    PERFORM pg_catalog.set_config('search_path', 'hostile', false), pg_catalog.set_config('hostile.planted', CURRENT_USER, false);
    RETURN CASE WHEN TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN old ELSE new END; END $$;
-- declared immutable, which it is not: a constant call is folded by whoever plans a statement on the table
CREATE FUNCTION hostile.fixed(what text, value bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.note(what); RETURN value; END $$;
CREATE FUNCTION hostile.same(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN hostile.note('operator'); END $$;
CREATE OPERATOR hostile.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.same);
CREATE TYPE hostile.pair AS (a int);
CREATE FUNCTION hostile.to_pair(value int) RETURNS hostile.pair LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.note('cast'); RETURN ROW(value); END $$;
CREATE CAST (int AS hostile.pair) WITH FUNCTION hostile.to_pair(int) AS IMPLICIT;
CREATE DOMAIN hostile.word AS text CHECK (hostile.note('domain'));
-- (an operator class is a superuser's)
\set VERBOSITY sqlstate
CREATE OPERATOR CLASS hostile.ops DEFAULT FOR TYPE hostile.pair USING btree AS STORAGE hostile.pair;
\set VERBOSITY default
SELECT qflow.create_queue('hostile.q', retries => 5), qflow.alter_workflow('q', retry_delay_ms => 3600000);
ALTER TABLE hostile.q
    ADD COLUMN word hostile.word DEFAULT 'x',
    ADD COLUMN extra bigint DEFAULT hostile.fixed('default', 1),
    ADD COLUMN made bigint GENERATED ALWAYS AS (hostile.fixed('generated column', attempt)) STORED,
    ADD CONSTRAINT a_check CHECK (hostile.note('check')),
    ADD CONSTRAINT a_operator CHECK (id OPERATOR(hostile.=) 1),
    ADD CONSTRAINT a_cast CHECK ((attempt::hostile.pair).a >= 0);
CREATE INDEX ON hostile.q (hostile.fixed('index expression', attempt));
CREATE INDEX ON hostile.q (id) WHERE attempt >= hostile.fixed('index predicate', 0);
CREATE TRIGGER a_before BEFORE INSERT OR UPDATE OR DELETE ON hostile.q FOR EACH ROW EXECUTE FUNCTION hostile.fire();
CREATE TRIGGER a_after AFTER INSERT OR UPDATE OR DELETE ON hostile.q FOR EACH ROW EXECUTE FUNCTION hostile.fire();
CREATE TRIGGER a_statement BEFORE INSERT OR UPDATE OR DELETE ON hostile.q FOR EACH STATEMENT EXECUTE FUNCTION hostile.fire();
CREATE TABLE hostile.sink (noted boolean);
GRANT INSERT ON hostile.sink TO PUBLIC;
CREATE RULE a_rule AS ON UPDATE TO hostile.q DO ALSO INSERT INTO hostile.sink VALUES (hostile.note('rule'));
ALTER TABLE hostile.q ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY a_policy ON hostile.q USING (hostile.note('policy'));
GRANT INSERT ON hostile.q TO ho_producer;
GRANT USAGE ON SEQUENCE hostile.q_id_seq TO ho_producer;
GRANT SELECT, UPDATE ON hostile.q TO ho_consumer;
GRANT SELECT ON hostile.q TO ho_monitor;
RESET SESSION AUTHORIZATION;
INSERT INTO hostile.q (data) SELECT '{}' FROM generate_series(1, 12);
TRUNCATE hostile.sink;

-- 1. What somebody does himself runs as himself, restricted by nothing but his rights: line for line as by hand.
\c - ho_producer
:quiet
SET hostile.step = 'a producer inserts';
INSERT INTO hostile.q (data) VALUES ('{}');
\c - ho_producer
:quiet
SET hostile.step = 'a producer enqueues';
SELECT qflow.enqueue('hostile.q', '{}') > 0;
\c - ho_consumer
:quiet
SET hostile.step = 'a consumer updates';
UPDATE hostile.q SET attempt = attempt + 1 WHERE id = 12 RETURNING id;
\c - ho_consumer
:quiet
SET hostile.step = 'a consumer fetches';
SELECT id, lease AS l FROM qflow.fetch('q', 5) ORDER BY id LIMIT 1 \gset
SET hostile.step = 'a consumer acks';
SELECT qflow.ack('q', '{1}', ARRAY[:l]);
SET hostile.step = 'a consumer requeues';
SELECT qflow.requeue('q', '{2}', ARRAY[:l]);
SET hostile.step = 'a consumer fails';
SELECT qflow.fail('q', '{3}', ARRAY[:l]);
SET hostile.step = 'a consumer releases';
SELECT qflow.release('q', '{4}', ARRAY[:l]);
SET hostile.step = 'a consumer extends';
SELECT count(*) FROM qflow.extend('q', ARRAY[:l]);
RESET hostile.step;
SELECT step, who, login, gained, string_agg(DISTINCT what, ', ' ORDER BY what) FROM hostile.log GROUP BY 1, 2, 3, 4 ORDER BY 1, 2;

-- 2. What qflow does for others runs as the owner, restricted: whoever calls.
\c - :home
:quiet
TRUNCATE hostile.log;
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
\c - ho_nobody
:quiet
SET hostile.step = 'reap by nobody';
SELECT * FROM qflow.reap();
SHOW search_path;
SELECT coalesce(current_setting('hostile.planted', true), '') AS planted;
\c - ho_consumer
:quiet
SET hostile.step = 'a consumer fetches what is left';
SELECT count(*) FROM qflow.fetch('q', 2);
\c - ho_super
:quiet
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SET hostile.step = 'reap by a superuser';
SELECT * FROM qflow.reap();
SHOW search_path;
SELECT coalesce(current_setting('hostile.planted', true), '') AS planted;
-- the sweep: a job in progress without a lease, a pending one that no floor reaches
SET hostile.step = '';
SET session_replication_role = replica;
ALTER TABLE hostile.q DISABLE TRIGGER qflow_return_update;
UPDATE hostile.q SET status = 'in_progress', lease = 1, updated_at = now() - interval '1 year' WHERE id = 10;
UPDATE hostile.q SET enqueued_xid = '99999999999' WHERE id = 11;
ALTER TABLE hostile.q ENABLE ALWAYS TRIGGER qflow_return_update;
RESET session_replication_role;
\c - ho_super
:quiet
SET qflow.sweep = on;
SET hostile.step = 'sweep by a superuser';
SELECT * FROM qflow.reap();
SELECT id, status, available_at IS NOT NULL AS due FROM hostile.q WHERE id IN (10, 11) ORDER BY id;
-- the look through a restored table
UPDATE qflow.queue SET system_identifier = 0;
SET hostile.step = '';
UPDATE hostile.q SET status = 'in_progress', lease = 1, updated_at = now() - interval '1 year' WHERE id = 12;
\c - ho_super
:quiet
SET hostile.step = 'a restored table, reap by a superuser';
SELECT * FROM qflow.reap();
SELECT system_identifier <> 0 AS at_home FROM qflow.queue;
-- the return trigger: what it writes, apart from the statement that it follows
SET hostile.step = 'update by a superuser';
UPDATE hostile.q SET status = 'pending', available_at = NULL WHERE id = 1;
SELECT id, status, available_at IS NOT NULL AS due FROM hostile.q WHERE id = 1;
SET hostile.step = '';
UPDATE hostile.log SET step = 'return trigger after an ' || step WHERE by_return;
DELETE FROM hostile.log WHERE step = 'update by a superuser';
-- those who only look
\c - ho_super
:quiet
SET hostile.step = 'views by a superuser';
SELECT queue, in_progress FROM qflow.queue_stats;
SELECT workflow, in_flight FROM qflow.workflow_status;
SELECT count(*) FROM qflow.lease_status;
\c - ho_monitor
:quiet
SET hostile.step = 'views by a monitor';
SELECT queue, in_progress FROM qflow.queue_stats;
SELECT workflow, in_flight FROM qflow.workflow_status;
SELECT count(*) FROM qflow.lease_status;
\c - ho_super
:quiet
SET hostile.step = 'verify by a superuser';
SELECT check_name, detail FROM qflow.verify('hostile.q') WHERE NOT ok;
\c - ho_monitor
:quiet
SET hostile.step = 'verify by a monitor';
SELECT check_name, detail FROM qflow.verify('hostile.q') WHERE NOT ok;
-- administration that writes no job
\c - ho_super
:quiet
SET hostile.step = 'administration by a superuser';
SELECT qflow.alter_queue('hostile.q', timeout_ms => 1000), qflow.pause_queue('hostile.q'), qflow.resume_queue('hostile.q'), qflow.create_workflow('w', 'hostile.q'),
    qflow.alter_workflow('w', retries => 1), qflow.pause_workflow('w'), qflow.resume_workflow('w'), qflow.drop_workflow('w');
SET hostile.step = '';
SELECT step, who, login, gained, string_agg(DISTINCT what, ', ' ORDER BY what) FROM hostile.log GROUP BY 1, 2, 3, 4 ORDER BY 1, 2;
-- the promise in one line each: none of it as a superuser, none of it with more than the owner has
SELECT 'as a superuser', l.* FROM hostile.log AS l JOIN pg_roles AS r ON r.rolname = l.who WHERE r.rolsuper;
SELECT 'as somebody else', l.* FROM hostile.log AS l WHERE l.who <> 'ho_mallory' AND l.step !~ '^a consumer';
SELECT 'unrestricted', l.* FROM hostile.log AS l WHERE l.gained <> '' AND l.step !~ '^a consumer';
SELECT rolsuper FROM pg_roles WHERE rolname = 'ho_mallory';

-- 3. A superuser who changes jobs does it himself, and the owner's code runs as him: as on his plain statement. SET ROLE is
-- no protection, the code can go back; a connection as the owner is.
TRUNCATE hostile.log;
SET hostile.step = 'a superuser updates';
UPDATE hostile.q SET status = 'failed' WHERE id = 5;
SET hostile.step = 'a superuser retries';
SELECT qflow.retry_failed('hostile.q');
SET hostile.step = '';
UPDATE hostile.q SET status = 'failed' WHERE id = 5;
SET hostile.step = 'a superuser in the role of the owner retries';
SET ROLE ho_mallory;
SELECT qflow.retry_failed('hostile.q');
RESET ROLE;
SET hostile.step = '';
UPDATE hostile.q SET status = 'failed' WHERE id = 5;
\c - ho_mallory
:quiet
SET hostile.step = 'the owner retries';
SELECT qflow.retry_failed('hostile.q');
\c - :home
:quiet
SELECT step, who, login, gained ~ 'SET ROLE ho_super' AS becomes_superuser, count(DISTINCT what) > 8 AS all_of_it FROM hostile.log
WHERE NOT by_return GROUP BY 1, 2, 3, 4 ORDER BY 1, 2;

DROP OWNED BY ho_mallory, ho_consumer, ho_producer, ho_monitor, ho_nobody CASCADE;
DROP ROLE ho_super, ho_mallory, ho_consumer, ho_producer, ho_monitor, ho_nobody;
