-- users_objects: what a user hangs on a queue's table keeps its effect through fetch, settle, reap and enqueue: triggers of
-- every kind, CHECKs, generated columns, rules, foreign keys, column rights, row security.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET qflow.sweep = off;
CREATE ROLE uo_owner;
CREATE ROLE uo_consumer;
CREATE ROLE uo_producer;
GRANT CREATE ON SCHEMA public TO uo_owner;
CREATE TABLE log (nr int GENERATED ALWAYS AS IDENTITY, act text, entry text, who name DEFAULT current_user);
GRANT ALL ON log TO PUBLIC;
CREATE FUNCTION note(entry text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.log (act, entry) VALUES (pg_catalog.current_setting('uo.act', true), entry) $$;
-- what was noted since the last look
CREATE FUNCTION noted() RETURNS SETOF text LANGUAGE sql AS $$
    WITH taken AS (DELETE FROM log RETURNING *)
    SELECT concat_ws(' | ', act, who, entry, CASE WHEN n > 1 THEN n || ' times' END) FROM (
        SELECT act, entry, who, count(*) AS n, min(nr) AS first FROM taken GROUP BY act, entry, who) AS t
    ORDER BY min(first) OVER (PARTITION BY act), entry COLLATE "C" $$;

SET ROLE uo_owner;
SELECT qflow.create_queue('public.q', retries => 100), qflow.alter_workflow('q', retry_delay_ms => 0);
CREATE FUNCTION q_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM public.note(concat(TG_NAME, ' of job ', coalesce(new.id, old.id), ': ', CASE WHEN TG_OP <> 'INSERT' THEN old.status END, ' > ', CASE WHEN TG_OP <> 'DELETE' THEN new.status END));
    RETURN CASE WHEN TG_OP = 'DELETE' THEN old ELSE new END; END $$;
CREATE FUNCTION q_statement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM public.note(concat(TG_NAME, ' of ', (SELECT count(*) FROM changed), ' jobs')); RETURN NULL; END $$;
CREATE FUNCTION q_fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.touched := coalesce(new.touched, 0) + 1; RETURN new; END $$;
-- the lease of a job
CREATE FUNCTION held(job int) RETURNS bigint[] LANGUAGE sql AS $$ SELECT ARRAY[lease] FROM q WHERE id = job $$;
RESET ROLE;
GRANT SELECT, UPDATE, DELETE ON q TO uo_consumer;
GRANT INSERT ON q TO uo_producer;
GRANT USAGE ON SEQUENCE q_id_seq TO uo_producer;
ALTER TABLE q ADD COLUMN touched int, ADD COLUMN tens int GENERATED ALWAYS AS (attempt * 10) STORED,
    ADD COLUMN is_over boolean GENERATED ALWAYS AS (status IN ('completed', 'failed')) STORED;

-- triggers: each act shows those that a statement on those columns fires
CREATE TRIGGER before_any BEFORE INSERT OR UPDATE ON q FOR EACH ROW EXECUTE FUNCTION q_fill();
CREATE TRIGGER after_status AFTER INSERT OR UPDATE OF status OR DELETE ON q FOR EACH ROW EXECUTE FUNCTION q_row();
CREATE TRIGGER after_lease AFTER UPDATE OF lease ON q FOR EACH ROW EXECUTE FUNCTION q_row();
CREATE TRIGGER after_reason AFTER UPDATE OF failure_reason ON q FOR EACH ROW EXECUTE FUNCTION q_row();
CREATE TRIGGER after_data AFTER UPDATE OF data, metadata, inserted_at, priority ON q FOR EACH ROW EXECUTE FUNCTION q_row();
CREATE TRIGGER after_failure AFTER UPDATE ON q FOR EACH ROW WHEN (new.status = 'failed' AND old.status <> 'failed') EXECUTE FUNCTION q_row();
CREATE TRIGGER statement_insert AFTER INSERT ON q REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION q_statement();
CREATE TRIGGER statement_update AFTER UPDATE ON q REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION q_statement();
CREATE TRIGGER statement_delete AFTER DELETE ON q REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION q_statement();
SET uo.act = 'enqueue';
SET ROLE uo_producer;
SELECT qflow.enqueue('q', '1');
SET uo.act = 'enqueue_batch';
SELECT qflow.enqueue_batch('q', '{2,3,4,5,6}');
RESET ROLE;
SELECT noted();
SET ROLE uo_consumer;
SET uo.act = 'fetch';
SELECT count(*) FROM qflow.fetch('q', 2);
SELECT count(*) FROM qflow.fetch('q', 4);
SET uo.act = 'ack';
SELECT qflow.ack('q', '{1}', held(1));
SET uo.act = 'requeue';
SELECT qflow.requeue('q', '{2}', held(2), 'why');
SET uo.act = 'fail';
SELECT qflow.fail('q', '{3}', held(3));
SET uo.act = 'release';
SELECT qflow.release('q', '{4}', held(4));
SET uo.act = 'settle';
SELECT id, outcome FROM qflow.settle('q', jsonb_build_array(jsonb_build_object('id', 5, 'lease', (held(5))[1], 'outcome', 'ack'),
    jsonb_build_object('id', 6, 'lease', (held(6))[1], 'outcome', 'requeue')));
RESET ROLE;
SELECT noted();
SET uo.act = 'fetch again';
SELECT count(*) FROM qflow.fetch('q', 10);
DELETE FROM log;
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SET uo.act = 'reap';
SELECT * FROM qflow.reap();
SET uo.act = 'retry_failed';
SELECT qflow.retry_failed('q');
SELECT noted();
SET uo.act = 'ack, on_complete delete';
SELECT qflow.alter_queue('q', on_complete => 'delete');
SELECT count(*) FROM qflow.fetch('q', 10);
DELETE FROM log;
SELECT qflow.ack('q', '{2}', held(2));
SET uo.act = 'purge';
SELECT qflow.purge_queue('q', older_than_ms => 0);
SELECT noted();
SELECT id, status, attempt, tens, is_over, touched > attempt AS touched FROM q ORDER BY id;
SELECT qflow.alter_queue('q', on_complete => 'keep');
DROP TRIGGER before_any ON q;
DROP TRIGGER after_status ON q;
DROP TRIGGER after_lease ON q;
DROP TRIGGER after_reason ON q;
DROP TRIGGER after_data ON q;
DROP TRIGGER after_failure ON q;
DROP TRIGGER statement_insert ON q;
DROP TRIGGER statement_update ON q;
DROP TRIGGER statement_delete ON q;

-- a queue made anew, with so many jobs
CREATE PROCEDURE anew(jobs int) LANGUAGE plpgsql SET client_min_messages = error AS $$ BEGIN
    DELETE FROM log;
    DELETE FROM qflow.lease;
    TRUNCATE q RESTART IDENTITY CASCADE;
    INSERT INTO q (data) SELECT '{}' FROM generate_series(1, jobs);
END $$;
CREATE FUNCTION states() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(concat(id, ' ', status), ', ' ORDER BY id) FROM q $$;

-- a BEFORE trigger that keeps a row as it is: the job is not counted, not reported as settled, and its lease stays
SET ROLE uo_owner;
CREATE FUNCTION q_keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF coalesce(new.id, old.id) = ANY (current_setting('uo.keep')::bigint[]) THEN RETURN NULL; END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN old ELSE new END; END $$;
RESET ROLE;
CREATE TRIGGER q_keep BEFORE INSERT OR UPDATE OR DELETE ON q FOR EACH ROW EXECUTE FUNCTION q_keep();
SET uo.keep = '{}';
CALL anew(9);
SET uo.keep = '{2}';
SELECT 'fetch', array_agg(id ORDER BY id) FROM qflow.fetch('q', 9);
SELECT states();
SET uo.keep = '{3,4,5,6,7,8,9}';
SELECT 'ack', qflow.ack('q', '{1,3}', held(1));
SELECT 'requeue', qflow.requeue('q', '{4}', held(4));
SELECT 'fail', qflow.fail('q', '{5}', held(5));
SELECT 'release', qflow.release('q', '{6}', held(6));
SELECT 'settle', id, outcome FROM qflow.settle('q', jsonb_build_array(jsonb_build_object('id', 7, 'lease', (held(7))[1], 'outcome', 'requeue'),
    jsonb_build_object('id', 7, 'lease', (held(7))[1], 'outcome', 'requeue'), jsonb_build_object('id', 8, 'lease', (held(8))[1], 'outcome', 'ack')));
SELECT 'strict', outcome FROM qflow.settle('q', jsonb_build_array(jsonb_build_object('id', 7, 'lease', (held(7))[1], 'outcome', 'fail')), true);
SELECT states();
SELECT jobs, unsettled FROM qflow.lease_status;
-- all that is left of the lease at once: it stays with them
SELECT 'all', qflow.requeue('q', '{3,4,5,6,7,8,9}', held(3));
SELECT jobs, unsettled FROM qflow.lease_status;
SELECT qflow.alter_queue('q', on_complete => 'delete');
SELECT 'ack and delete', qflow.ack('q', '{8}', held(8));
SELECT 'settle and delete', id, outcome FROM qflow.settle('q', jsonb_build_array(jsonb_build_object('id', 8, 'lease', (held(8))[1], 'outcome', 'ack'),
    jsonb_build_object('id', 9, 'lease', (held(9))[1], 'outcome', 'requeue')));
SELECT qflow.alter_queue('q', on_complete => 'keep');
SELECT 'retry_failed', qflow.retry_failed('q', '{5}');
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SET uo.keep = '{8,9}';
SELECT 'reap', returned, failed FROM qflow.reap();
SELECT jobs, unsettled FROM qflow.lease_status;
SET uo.keep = '{8}';
SELECT 'reap', returned, failed FROM qflow.reap();
SET uo.keep = '{}';
SELECT 'reap', returned, failed FROM qflow.reap();
SELECT states(), (SELECT count(*) FROM qflow.lease_status);
-- an insert that a trigger turns away answers the id that was drawn, as a sequence would
SET uo.keep = '{10}';
SELECT 'enqueue', qflow.enqueue('q', '1'), qflow.enqueue('q', '1');
SELECT max(id), count(*) FROM q;
DROP TRIGGER q_keep ON q;

-- a trigger that raises: what it forbids does not happen, and nothing else of that call
SET ROLE uo_owner;
CREATE FUNCTION q_forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'job %: no % for you', new.id, new.status USING ERRCODE = 'check_violation'; END $$;
RESET ROLE;
CREATE TRIGGER q_forbid BEFORE UPDATE ON q FOR EACH ROW WHEN (new.id = 2 AND new.status = current_setting('uo.forbid')) EXECUTE FUNCTION q_forbid();
CALL anew(2);
\set VERBOSITY sqlstate
SET uo.forbid = 'in_progress';
SELECT count(*) FROM qflow.fetch('q', 2);
SELECT states(), (SELECT count(*) FROM qflow.lease_status);
SET uo.forbid = 'completed';
SELECT count(*) FROM qflow.fetch('q', 2);
SELECT qflow.ack('q', '{1,2}', held(1));
SET uo.forbid = 'pending';
SELECT qflow.requeue('q', '{1,2}', held(1));
SELECT qflow.release('q', '{1,2}', held(1));
SET uo.forbid = 'failed';
SELECT qflow.fail('q', '{1,2}', held(1));
SELECT states(), (SELECT unsettled FROM qflow.lease_status);
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SET uo.forbid = 'pending';
\set VERBOSITY default
SELECT * FROM qflow.reap();
SELECT states(), (SELECT unsettled FROM qflow.lease_status);
DROP TRIGGER q_forbid ON q;

-- CHECKs
ALTER TABLE q ADD CONSTRAINT two_tries CHECK (attempt <= 2), ADD CONSTRAINT a_reason CHECK (status <> 'failed' OR failure_reason IS NOT NULL),
    ADD CONSTRAINT not_now CHECK (failure_reason <> 'no' OR failure_reason IS NULL), ADD CONSTRAINT an_object CHECK (jsonb_typeof(data) = 'object');
CALL anew(2);
\set VERBOSITY terse
SELECT count(*) FROM qflow.fetch('q', 2);
SELECT qflow.fail('q', '{1}', held(1));
SELECT qflow.fail('q', '{1}', held(1), 'no');
SELECT qflow.fail('q', '{1}', held(1), 'yes');
SELECT qflow.requeue('q', '{2}', held(2), 'no');
SELECT qflow.requeue('q', '{2}', held(2), 'yes');
SELECT count(*) FROM qflow.fetch('q', 2);
SELECT qflow.requeue('q', '{2}', held(2));
SELECT count(*) FROM qflow.fetch('q', 2);
SELECT qflow.enqueue('q', '[]');
SELECT qflow.enqueue_batch('q', '{"{}","[]"}');
SELECT states();
ALTER TABLE q DROP CONSTRAINT two_tries, DROP CONSTRAINT a_reason, DROP CONSTRAINT not_now, DROP CONSTRAINT an_object;
-- and one that a reap would break: that queue's jobs stay, and it is said
ALTER TABLE q ADD CONSTRAINT never_expired CHECK (failure_reason IS DISTINCT FROM 'lease expired');
CALL anew(1);
SELECT count(*) FROM qflow.fetch('q', 1);
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SELECT * FROM qflow.reap();
ALTER TABLE q DROP CONSTRAINT never_expired;
SELECT returned FROM qflow.reap();

-- rules: DO ALSO adds to each act; DO INSTEAD takes its place, or is refused where a row must be answered
CREATE RULE also_update AS ON UPDATE TO q DO ALSO INSERT INTO log (act, entry) VALUES (current_setting('uo.act'), concat('rule: ', old.status, ' > ', new.status));
CREATE RULE also_insert AS ON INSERT TO q DO ALSO INSERT INTO log (act, entry) VALUES (current_setting('uo.act'), concat('rule: ', new.data));
CREATE RULE also_delete AS ON DELETE TO q DO ALSO INSERT INTO log (act, entry) VALUES (current_setting('uo.act'), concat('rule: ', old.status, ' > gone'));
SET uo.act = 'rule';
CALL anew(4);
DELETE FROM log;
SET uo.act = 'fetch';
SELECT count(*) FROM qflow.fetch('q', 4);
SET uo.act = 'ack';
SELECT qflow.ack('q', '{1}', held(1));
SET uo.act = 'requeue';
SELECT qflow.requeue('q', '{2}', held(2));
SET uo.act = 'fail';
SELECT qflow.fail('q', '{3}', held(3));
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SET uo.act = 'reap';
SELECT returned, failed FROM qflow.reap();
SET uo.act = 'enqueue_batch';
SELECT qflow.enqueue_batch('q', '{7,8}');
SET uo.act = 'purge';
SELECT qflow.purge_queue('q');
SELECT noted();
SELECT states();
DROP RULE also_update ON q;
DROP RULE also_insert ON q;
DROP RULE also_delete ON q;
CALL anew(3);
SELECT count(*) FROM qflow.fetch('q', 2);
CREATE RULE instead AS ON UPDATE TO q DO INSTEAD NOTHING;
UPDATE q SET status = 'pending' WHERE id = 1 RETURNING id;
SELECT count(*) FROM qflow.fetch('q', 2);
SELECT qflow.ack('q', '{1}', held(1));
SELECT qflow.requeue('q', '{1}', held(1));
SELECT qflow.fail('q', '{1}', held(1));
SELECT states();
DROP RULE instead ON q;
CREATE RULE instead AS ON UPDATE TO q WHERE old.id = 2 DO INSTEAD NOTHING;
SELECT qflow.requeue('q', '{1,2}', held(1));
DROP RULE instead ON q;
CREATE TABLE aside (data jsonb);
GRANT INSERT ON aside TO PUBLIC;
CREATE RULE instead AS ON INSERT TO q DO INSTEAD INSERT INTO aside VALUES (new.data);
SELECT qflow.enqueue('q', '"redirected"') IS NOT NULL;
SELECT * FROM aside;
SELECT states();
DROP RULE instead ON q;

-- foreign keys, in both directions
CREATE TABLE customer (name text PRIMARY KEY);
INSERT INTO customer VALUES ('ann');
CREATE TABLE part (job bigint CONSTRAINT part_of REFERENCES q ON UPDATE CASCADE);
CALL anew(3);
ALTER TABLE q ADD COLUMN customer text DEFAULT 'ann' CONSTRAINT customer_known REFERENCES customer;
INSERT INTO part VALUES (1), (2);
SELECT count(*) FROM qflow.fetch('q', 3);
SELECT qflow.ack('q', '{1,2}', held(1)), qflow.requeue('q', '{3}', held(3));
SELECT qflow.purge_queue('q');
SELECT qflow.enqueue('q', '{}');
ALTER TABLE q ALTER COLUMN customer SET DEFAULT 'bob';
SELECT qflow.enqueue('q', '{}');
SELECT qflow.alter_queue('q', on_complete => 'delete');
INSERT INTO part VALUES (3);
SELECT count(*) FROM qflow.fetch('q', 3);
SELECT qflow.ack('q', '{3}', held(3));
ALTER TABLE part DROP CONSTRAINT part_of, ADD CONSTRAINT part_of FOREIGN KEY (job) REFERENCES q ON DELETE CASCADE;
SELECT qflow.ack('q', '{3}', held(3));
SELECT job FROM part ORDER BY 1;
SELECT qflow.purge_queue('q');
SELECT count(*) FROM part;
SELECT qflow.alter_queue('q', on_complete => 'keep');
DROP TABLE part;
ALTER TABLE q DROP COLUMN customer;

-- deferred constraint triggers: at the end of the transaction, as whoever is in it then; a pass, which runs restricted,
-- cannot have them and says so
CREATE FUNCTION q_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note(concat('at the end: ', new.id, ' ', new.status)); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER q_later AFTER INSERT OR UPDATE ON q DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION q_later();
SET uo.act = '';
CALL anew(4);
DELETE FROM log;
SET ROLE uo_consumer;
BEGIN;
SET uo.act = 'fetch';
SELECT count(*) FROM qflow.fetch('q', 4);
SELECT count(*) AS none_yet FROM log;
COMMIT;
SET uo.act = 'ack';
SELECT qflow.ack('q', '{1}', held(1));
SET uo.act = 'requeue';
SELECT qflow.requeue('q', '{2}', held(2));
SET uo.act = 'fail';
SELECT qflow.fail('q', '{3}', held(3));
SET ROLE uo_producer;
SET uo.act = 'enqueue';
SELECT qflow.enqueue('q', '{}');
RESET ROLE;
SELECT noted();
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SET uo.act = 'reap';
SELECT * FROM qflow.reap();
SELECT noted();
SELECT states();
DROP TRIGGER q_later ON q;
SELECT returned FROM qflow.reap();
-- one that forbids: the commit fails, and the job is as it was
CREATE FUNCTION q_not_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'job % must not be %', new.id, new.status; END $$;
CREATE CONSTRAINT TRIGGER q_not_later AFTER UPDATE ON q DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.status = 'completed') EXECUTE FUNCTION q_not_later();
CALL anew(1);
SELECT count(*) FROM qflow.fetch('q', 1);
SELECT qflow.ack('q', '{1}', held(1), true);
SELECT states(), (SELECT unsettled FROM qflow.lease_status);
DROP TRIGGER q_not_later ON q;

-- column rights: a producer needs those columns that enqueue writes, a consumer the whole table
CALL anew(2);
REVOKE ALL ON q FROM uo_producer, uo_consumer;
GRANT INSERT (data) ON q TO uo_producer;
SET ROLE uo_producer;
INSERT INTO q (data) VALUES ('{}');
SELECT qflow.enqueue('q', '{}');
INSERT INTO q (data, metadata) VALUES ('{}', '{}');
RESET ROLE;
GRANT INSERT (id, metadata, priority, available_at) ON q TO uo_producer;
SET ROLE uo_producer;
SELECT qflow.enqueue('q', '{}') IS NOT NULL;
INSERT INTO q (data, status) VALUES ('{}', 'failed');
RESET ROLE;
GRANT SELECT, UPDATE (status, lease, attempt, available_at, updated_at, failure_reason) ON q TO uo_consumer;
SET ROLE uo_consumer;
SELECT count(*) FROM qflow.fetch('q', 1);
UPDATE q SET data = '{}' WHERE id = 1;
RESET ROLE;
REVOKE ALL ON q FROM uo_consumer;
GRANT UPDATE, SELECT (id, status) ON q TO uo_consumer;
SET ROLE uo_consumer;
SELECT count(*) FROM qflow.fetch('q', 1);
SELECT qflow.ack('q', '{1}', '{1}');
SELECT queue, pending FROM qflow.queue_stats;
RESET ROLE;
REVOKE ALL ON q FROM uo_consumer;
GRANT SELECT, UPDATE ON q TO uo_consumer;
GRANT INSERT ON q TO uo_producer;

-- row security: who does not see a job does not get it, cannot settle it, cannot make it; upkeep sees all
CALL anew(0);
ALTER TABLE q ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON q FOR SELECT USING (data ->> 'tenant' = current_setting('uo.tenant'));
CREATE POLICY changed ON q FOR UPDATE USING (data ->> 'tenant' = current_setting('uo.tenant')) WITH CHECK (status <> 'failed');
CREATE POLICY made ON q FOR INSERT WITH CHECK (data ->> 'tenant' = current_setting('uo.tenant'));
SET uo.tenant = 'a';
SET ROLE uo_producer;
SELECT qflow.enqueue_batch('q', ARRAY['{"tenant": "a"}', '{"tenant": "a"}', '{"tenant": "a"}']::jsonb[]);
SELECT qflow.enqueue('q', '{"tenant": "b"}');
SET uo.tenant = 'b';
SELECT qflow.enqueue('q', '{"tenant": "b"}');
SET ROLE uo_consumer;
SET uo.tenant = 'a';
SELECT 'a fetches', array_agg(id ORDER BY id) FROM qflow.fetch('q', 10);
SET uo.tenant = 'b';
SELECT 'b fetches', array_agg(id ORDER BY id) FROM qflow.fetch('q', 10);
RESET ROLE;
SELECT lease AS of_a FROM q WHERE id = 1 \gset
SET ROLE uo_consumer;
SELECT 'b settles a''s', id, outcome FROM qflow.settle('q', jsonb_build_array(jsonb_build_object('id', 1, 'lease', :of_a, 'outcome', 'ack')));
SELECT 'b acks a''s', qflow.ack('q', '{1}', ARRAY[:of_a]);
SET uo.tenant = 'a';
SELECT 'a acks', qflow.ack('q', '{1}', ARRAY[:of_a]);
SELECT 'a fails', qflow.fail('q', '{2}', ARRAY[:of_a]);
SELECT 'a requeues', qflow.requeue('q', '{2}', ARRAY[:of_a]);
RESET ROLE;
SELECT states();
SELECT jobs, unsettled FROM qflow.lease_status ORDER BY lease;
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SET ROLE uo_consumer;
SELECT 'reap', returned, failed FROM qflow.reap();
-- (without a tenant the policy itself fails: the caller's own statement, the caller's own error)
SET uo.tenant = '';
SELECT 'nobody fetches', count(*) FROM qflow.fetch('q', 10);
RESET ROLE;
-- a policy that fails
ALTER POLICY seen ON q USING (1 / (current_setting('uo.tenant') <> '')::int = 1);
SET ROLE uo_consumer;
SELECT count(*) FROM qflow.fetch('q', 10);
RESET ROLE;
SELECT states();

DROP PROCEDURE anew;
DROP FUNCTION states;
SELECT qflow.drop_queue('q', false);
DROP OWNED BY uo_owner, uo_consumer, uo_producer CASCADE;
DROP ROLE uo_owner, uo_consumer, uo_producer;
