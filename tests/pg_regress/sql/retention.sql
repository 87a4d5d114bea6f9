-- retention: reap() removes completed jobs after retention_ms, failed ones after failed_retention_ms, and nothing else; as
-- the table's owner, restricted; a little at a time; whatever refuses, the rest goes.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on

-- by age and status: failed ones only where that is set, pending ones and those in progress never
CREATE PROCEDURE fill(q regclass) LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format($q$INSERT INTO %s (data, status, updated_at) SELECT to_jsonb(s.status || ' ' || a.age), s.status, now() - a.age
        FROM unnest(ARRAY['completed', 'failed', 'pending', 'in_progress']) AS s (status)
            CROSS JOIN unnest(ARRAY['59 min', '61 min', '23 h', '25 h']::interval[]) AS a (age)$q$, q);
END $$;
SELECT qflow.create_queue('neither', timeout_ms => 1000000000), qflow.create_queue('done', retention_ms => 3600000, timeout_ms => 1000000000),
    qflow.create_queue('failures', failed_retention_ms => 86400000, timeout_ms => 1000000000), qflow.create_queue('ended', timeout_ms => 1000000000, retention_ms => 3600000, failed_retention_ms => 86400000);
CALL fill('neither');
CALL fill('done');
CALL fill('failures');
CALL fill('ended');
SELECT * FROM qflow.reap();
SELECT count(*) FROM neither;
SELECT status, string_agg(data->>0, ', ' ORDER BY id) FROM done GROUP BY 1 ORDER BY 1;
SELECT status, count(*), string_agg(data->>0, ', ' ORDER BY id) FILTER (WHERE status = 'failed') FROM failures GROUP BY 1 ORDER BY 1;
SELECT status, string_agg(data->>0, ', ' ORDER BY id) FILTER (WHERE status IN ('completed', 'failed')) FROM ended GROUP BY 1 ORDER BY 1;
-- a fetch removes nothing
CALL fill('done');
SELECT count(*) FROM qflow.fetch('done', 100);
SELECT count(*) FROM done WHERE status = 'completed';
-- in the same session: what grows old in between, what is changed by hand, and a shorter retention
SELECT * FROM qflow.reap();
SELECT count(*) FROM done WHERE status = 'completed';
UPDATE done SET updated_at = '-infinity' WHERE status = 'completed' AND id > 16;
SELECT * FROM qflow.reap();
SELECT count(*) FROM done WHERE status = 'completed';
SELECT qflow.alter_queue('done', retention_ms => 60000);
UPDATE done SET updated_at = 'infinity' WHERE status = 'failed';
SELECT * FROM qflow.reap();
SELECT status, count(*) FROM done GROUP BY 1 ORDER BY 1;
DROP TABLE neither, done, failures, ended;

-- on_complete 'delete': every way to ack deletes; a replay of either kind is unknown, and counts for nothing
SELECT qflow.create_queue('gone', on_complete => 'delete'), qflow.create_queue('aged', retention_ms => 1000);
INSERT INTO gone (data) SELECT to_jsonb(n) FROM generate_series(1, 6) AS n;
INSERT INTO aged (data) SELECT to_jsonb(n) FROM generate_series(1, 6) AS n;
SELECT max(lease) AS gone FROM qflow.fetch('gone', 6) \gset
SELECT max(lease) AS aged FROM qflow.fetch('aged', 6) \gset
SELECT qflow.ack('gone', ARRAY[1, 2], ARRAY[:gone]), qflow.ack('gone', ARRAY[3], ARRAY[:gone], true), qflow.ack('aged', ARRAY[1, 2, 3], ARRAY[:aged]);
SELECT w.name, s.* FROM (VALUES ('gone', :gone), ('aged', :aged)) AS w (name, lease), qflow.settle(w.name,
    jsonb_build_array(jsonb_build_object('id', 4, 'lease', w.lease, 'outcome', 'ack'), jsonb_build_object('id', 5, 'lease', w.lease, 'outcome', 'requeue'),
        jsonb_build_object('id', 6, 'lease', w.lease, 'outcome', 'fail'))) AS s (id, lease, outcome)
    WHERE s.lease = w.lease AND (s.id, s.outcome) IN ((4, 'acked'), (5, 'requeued'), (6, 'failed')) IS NOT TRUE;
SELECT id, status FROM gone ORDER BY id;
UPDATE aged SET updated_at = now() - interval '2 seconds';
SELECT * FROM qflow.reap();
SELECT id, status FROM aged ORDER BY id;
SELECT w.name, qflow.ack(w.name, ARRAY[1, 4], ARRAY[w.lease]) AS counted FROM (VALUES ('gone', :gone), ('aged', :aged)) AS w (name, lease);
SELECT w.name, s.id, s.outcome FROM (VALUES ('gone', :gone), ('aged', :aged)) AS w (name, lease), qflow.settle(w.name,
    jsonb_build_array(jsonb_build_object('id', 1, 'lease', w.lease, 'outcome', 'ack'), jsonb_build_object('id', 2, 'lease', w.lease, 'outcome', 'requeue'),
        jsonb_build_object('id', 4, 'lease', w.lease, 'outcome', 'fail'))) AS s ORDER BY 1, 2;
\set VERBOSITY terse
SELECT qflow.ack('aged', ARRAY[1], ARRAY[:aged], true);
SELECT count(*) FROM qflow.lease;
DROP TABLE gone, aged;

-- many ids with gaps, in steps of a thousand
SELECT qflow.create_queue('many', retention_ms => 1000);
INSERT INTO many (id, data, status, updated_at)
SELECT CASE WHEN n % 7 = 0 THEN -n * 1000000007 ELSE n * (1 + n % 5) * 100003 + n END, '{}', CASE WHEN n % 10 = 0 THEN 'pending' ELSE 'completed' END, now() - interval '1 hour'
FROM generate_series(1, 4500::bigint) AS n;
INSERT INTO many (id, data, status, updated_at) VALUES (-9223372036854775808, '{}', 'completed', '-infinity'), (9223372036854775807, '{}', 'completed', now() - interval '1 hour');
DO $$ DECLARE before bigint; after bigint; BEGIN
    FOR step IN 1 .. 6 LOOP
        SELECT count(*) INTO before FROM many;
        PERFORM qflow.reap();
        SELECT count(*) INTO after FROM many;
        RAISE NOTICE 'step %: % removed', step, before - after;
    END LOOP; END $$;
SELECT status, count(*) FROM many GROUP BY 1;
DROP TABLE many;

-- adopted, with timestamps that have no zone: these are UTC, whatever the session's zone is; what has no date gets one
CREATE TABLE seed (id serial PRIMARY KEY, data jsonb, metadata jsonb DEFAULT '{}', status varchar(20) DEFAULT 'pending',
    inserted_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(), failure_reason text);
INSERT INTO seed (data, status, updated_at) SELECT to_jsonb(n), 'completed', timezone('UTC', now()) - n * interval '1 min' FROM unnest(ARRAY[50, 70, NULL]) AS n;
INSERT INTO seed (data, status, updated_at) VALUES ('"failed"', 'failed', NULL), ('"pending"', 'pending', NULL), ('"odd"', 'in_progress', NULL);
SELECT qflow.create_queue('seed', retention_ms => 3600000, timeout_ms => 1000000000);
SET TimeZone = 'Asia/Kolkata';
SELECT * FROM qflow.reap();
SELECT id, data, status, timezone('UTC', now()) - updated_at < interval '1 min' AS dated_now FROM seed ORDER BY id;
SET TimeZone = 'America/Los_Angeles';
UPDATE seed SET updated_at = updated_at - interval '61 min' WHERE id = 3;
SELECT * FROM qflow.reap();
SELECT array_agg(id ORDER BY id) FROM seed;
RESET TimeZone;
DROP TABLE seed;
-- a table that says nothing of when
CREATE TABLE bare (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, data jsonb, status text);
INSERT INTO bare (data, status) VALUES ('1', 'completed'), ('2', 'failed'), ('3', 'archived'), ('4', NULL);
SELECT qflow.create_queue('bare', retention_ms => 1, failed_retention_ms => 3600000);
SELECT * FROM qflow.reap();
UPDATE bare SET updated_at = updated_at - interval '1 second';
SELECT * FROM qflow.reap();
SELECT id, data, status, updated_at IS NOT NULL AS dated FROM bare ORDER BY id;
DROP TABLE bare;

-- as the owner, restricted, whoever calls, whatever a policy says
CREATE ROLE rt_owner;
CREATE ROLE rt_nobody;
CREATE SCHEMA rt AUTHORIZATION rt_owner;
SET ROLE rt_owner;
CREATE TABLE rt.log (who name, restricted boolean, id bigint);
CREATE FUNCTION rt.note() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE restricted boolean := false; BEGIN
    BEGIN
        CREATE TEMPORARY TABLE not_when_restricted ();
        DROP TABLE not_when_restricted;
    EXCEPTION WHEN insufficient_privilege THEN restricted := true;
    END;
    INSERT INTO rt.log VALUES (current_user, restricted, old.id);
    RETURN coalesce(new, old); END $$;
SELECT qflow.create_queue('rt.jobs', retention_ms => 600000);
ALTER TABLE rt.jobs ALTER updated_at DROP NOT NULL;
CREATE TRIGGER note BEFORE DELETE OR UPDATE ON rt.jobs FOR EACH ROW EXECUTE FUNCTION rt.note();
ALTER TABLE rt.jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
RESET ROLE;
INSERT INTO rt.jobs (data, status, updated_at) VALUES ('1', 'completed', now() - interval '1 hour'), ('2', 'completed', NULL);
SELECT * FROM qflow.reap();
INSERT INTO rt.jobs (data, status, updated_at) VALUES ('3', 'completed', now() - interval '1 hour');
SET ROLE rt_nobody;
SELECT * FROM qflow.reap();
RESET ROLE;
SELECT * FROM rt.log ORDER BY id;
SELECT id FROM rt.jobs;
-- a trigger that reaps has no turn of its own
CREATE OR REPLACE FUNCTION rt.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM qflow.reap(); RETURN old; END $$;
INSERT INTO rt.jobs (data, status, updated_at) SELECT '4', 'completed', now() - interval '1 hour' FROM generate_series(1, 5);
SELECT * FROM qflow.reap();
SELECT count(*) FROM rt.jobs WHERE data = '4';
-- one that keeps jobs keeps them
CREATE OR REPLACE FUNCTION rt.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN old.data = '5' THEN NULL ELSE old END; END $$;
INSERT INTO rt.jobs (data, status, updated_at) VALUES ('5', 'completed', '-infinity'), ('6', 'completed', '-infinity');
SELECT * FROM qflow.reap();
SELECT * FROM qflow.reap();
SELECT data FROM rt.jobs WHERE updated_at = '-infinity';
DROP TABLE rt.jobs;

-- a foreign key keeps jobs: they are named in a WARNING, the others go, and what reap took back stays so
SELECT qflow.create_queue('rt.parents', retention_ms => 1000), qflow.alter_workflow('parents', retry_delay_ms => 0);
CREATE TABLE rt.children (job bigint REFERENCES rt.parents);
INSERT INTO rt.parents (data, status, updated_at) SELECT '{}', 'completed', now() - interval '1 hour' FROM generate_series(1, 900);
INSERT INTO rt.parents (data) VALUES ('{}');
INSERT INTO rt.children VALUES (1), (450), (451), (900);
SELECT count(*) FROM qflow.fetch('parents', 1, hints => '{"timeout_ms": 1}');
DO $$ BEGIN PERFORM pg_sleep(0.01); END $$;
SELECT * FROM qflow.reap();
\set quiet 'SET client_min_messages = error;'
:quiet
DO $$ BEGIN FOR step IN 1 .. 20 LOOP PERFORM qflow.reap(); END LOOP; END $$;
RESET client_min_messages;
SELECT array_agg(id ORDER BY id) FROM rt.parents WHERE status = 'completed';
-- and go when they may
DELETE FROM rt.children;
SELECT * FROM qflow.reap();
SELECT count(*) FROM rt.parents WHERE status = 'completed';
-- where all are kept, a step gives up after a few
INSERT INTO rt.parents (data, status, updated_at) SELECT '{}', 'completed', now() - interval '1 hour' FROM generate_series(1, 900);
INSERT INTO rt.children SELECT id FROM rt.parents WHERE status = 'completed';
SELECT * FROM qflow.reap();
SELECT count(*) FROM rt.parents WHERE status = 'completed';
DROP TABLE rt.children, rt.parents;

-- a transaction with an old snapshot removes nothing, and does not fail
SELECT qflow.create_queue('rt.old', retention_ms => 1000);
INSERT INTO rt.old (data, status, updated_at) VALUES ('1', 'completed', now() - interval '1 hour');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM qflow.reap();
SELECT count(*) FROM rt.old;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM qflow.reap();
SELECT count(*) FROM rt.old;
COMMIT;
-- rolled back: back, and removed later
BEGIN;
SELECT * FROM qflow.reap();
SELECT count(*) FROM rt.old;
ROLLBACK;
SELECT count(*) FROM rt.old;
SELECT * FROM qflow.reap();
SELECT count(*) FROM rt.old;
DROP TABLE rt.old;
DROP PROCEDURE fill;
SET client_min_messages = warning;
DROP SCHEMA rt CASCADE;
RESET client_min_messages;
DROP ROLE rt_owner, rt_nobody;
