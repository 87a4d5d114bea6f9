-- rights: who may do what. Rights on the queue's table decide, nothing else: INSERT produces, SELECT and UPDATE consume,
-- ownership administers. One line for each function, one column for each role: ok, or the SQLSTATE.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
SET client_min_messages = warning;
CREATE ROLE rights_owner;
CREATE ROLE rights_nobody;
CREATE ROLE rights_insert;
CREATE ROLE rights_insert_seq;
CREATE ROLE rights_select;
CREATE ROLE rights_update;
CREATE ROLE rights_consumer;
CREATE ROLE rights_member;
GRANT rights_owner TO rights_member;
CREATE ROLE rights_super SUPERUSER;
-- (up to PostgreSQL 14 everybody may create there)
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO rights_owner;
SET ROLE rights_owner;
SELECT qflow.create_queue('public.q');
GRANT INSERT ON q TO rights_insert, rights_insert_seq;
GRANT USAGE ON SEQUENCE q_id_seq TO rights_insert_seq;
GRANT SELECT ON q TO rights_select;
GRANT UPDATE ON q TO rights_update;
GRANT SELECT, UPDATE ON q TO rights_consumer;
RESET ROLE;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 20);
SELECT count(*) FROM qflow.fetch('q', 5);

CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE sql;
    RAISE EXCEPTION USING ERRCODE = 'QFOK1';
EXCEPTION WHEN OTHERS THEN RETURN CASE SQLSTATE WHEN 'QFOK1' THEN 'ok' ELSE SQLSTATE END; END $$;
CREATE TABLE call (at int GENERATED ALWAYS AS IDENTITY, sql text);
INSERT INTO call (sql) VALUES
    ('INSERT INTO q (data) VALUES (''{}'')'), ('INSERT INTO q (data) VALUES (''{}''), (''{}'') RETURNING 1'),
    ('UPDATE q SET status = ''pending'' WHERE id = 1'), ('SELECT count(*) FROM q'), ('DELETE FROM q'),
    ('SELECT qflow.enqueue(''q'', ''{}'')'), ('SELECT qflow.enqueue_batch(''q'', ''{1,2}'')'), ('SELECT qflow.enqueue_batch(''q'', ''{}'')'),
    ('SELECT * FROM qflow.fetch(''q'')'),
    ('SELECT qflow.ack(''q'', ''{1}'', ARRAY[leases()])'), ('SELECT qflow.requeue(''q'', ''{1}'', ARRAY[leases()])'),
    ('SELECT qflow.fail(''q'', ''{1}'', ARRAY[leases()])'), ('SELECT qflow.release(''q'', ''{1}'', ARRAY[leases()])'),
    ('SELECT * FROM qflow.settle(''q'', ''[]'')'), ('SELECT * FROM qflow.settle(''q'', ''[{"id": 1, "lease": 1, "outcome": "ack"}]'')'),
    ('SELECT * FROM qflow.extend(''q'', ARRAY[leases()])'),
    ('SELECT * FROM qflow.ack_and_fetch(''q'', ''{}'', ''{}'')'), ('SELECT * FROM qflow.ack_and_fetch(''q'', ''{1}'', ARRAY[leases()])'),
    ('SELECT * FROM qflow.reap()'),
    ('SELECT * FROM qflow.verify(''q'')'),
    ('SELECT qflow.alter_queue(''q'', retries => 7)'), ('SELECT qflow.alter_queue(''q'')'), ('SELECT qflow.pause_queue(''q'')'), ('SELECT qflow.resume_queue(''q'')'),
    ('SELECT qflow.purge_queue(''q'')'), ('SELECT qflow.retry_failed(''q'')'), ('SELECT qflow.retry_failed(''q'', ''{}'')'),
    ('SELECT qflow.drop_queue(''q'')'), ('SELECT qflow.drop_queue(''q'', false)'),
    ('SELECT qflow.create_workflow(''new'', ''q'')'), ('SELECT qflow.create_workflow(''q'', ''q'')'), ('SELECT qflow.create_workflow(''q'', ''q'', if_not_exists => true)'),
    ('SELECT qflow.alter_workflow(''q'', retries => 7)'), ('SELECT qflow.pause_workflow(''q'')'), ('SELECT qflow.resume_workflow(''q'')'), ('SELECT qflow.drop_workflow(''q'')'),
    ('SELECT qflow.create_queue(''q'')'), ('SELECT qflow.create_queue(''q'', if_not_exists => true)'), ('SELECT qflow.create_queue(''public.new'')'),
    ('SELECT qflow.create_queue(''qflow.new'')'), ('SELECT qflow.create_queue(''pg_catalog.new'')'),
    ('SELECT * FROM qflow.queue_stats'), ('SELECT * FROM qflow.workflow_status'), ('SELECT * FROM qflow.lease_status'),
    ('TABLE qflow.queue'), ('TABLE qflow.workflow'), ('TABLE qflow.lease'), ('TABLE qflow.floor'), ('SELECT last_value FROM qflow.lease_id'),
    ('SELECT nextval(''qflow.lease_id'')'), ('DELETE FROM qflow.queue'), ('UPDATE qflow.workflow SET retries = 9'), ('INSERT INTO qflow.lease DEFAULT VALUES'),
    ('SELECT qflow.enqueued_xid(1)');
CREATE FUNCTION leases() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT max(lease) FROM qflow.lease_status';
CREATE TABLE answer (at int, role text, got text);
GRANT ALL ON call, answer TO PUBLIC;
DO $$
DECLARE r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['nobody', 'insert', 'insert_seq', 'select', 'update', 'consumer', 'owner', 'member', 'super'] LOOP
        EXECUTE format('SET LOCAL ROLE rights_%s', r);
        INSERT INTO answer SELECT at, r, try(sql) FROM call ORDER BY at;
        RESET ROLE;
    END LOOP;
END $$;
SELECT c.sql, max(got) FILTER (WHERE role = 'nobody') AS nobody, max(got) FILTER (WHERE role = 'insert') AS "insert", max(got) FILTER (WHERE role = 'insert_seq') AS "insert+sequence",
    max(got) FILTER (WHERE role = 'select') AS "select", max(got) FILTER (WHERE role = 'update') AS "update", max(got) FILTER (WHERE role = 'consumer') AS consumer,
    max(got) FILTER (WHERE role = 'owner') AS owner, max(got) FILTER (WHERE role = 'member') AS "member of owner", max(got) FILTER (WHERE role = 'super') AS superuser
FROM call AS c JOIN answer AS a USING (at) GROUP BY c.at, c.sql ORDER BY c.at;

-- the messages say what is missing
SET ROLE rights_select;
SELECT qflow.fetch('q');
SELECT qflow.pause_queue('q');
SET ROLE rights_insert;
SELECT qflow.verify('q');
RESET ROLE;

-- what a producer inserts with INSERT alone is fetched like all else
DELETE FROM q;
SET ROLE rights_insert;
INSERT INTO q (data) VALUES ('"from a producer"');
COPY q (data) FROM STDIN;
"by COPY"
\.
RESET ROLE;
SET ROLE rights_consumer;
SELECT data FROM qflow.fetch('q');
-- an operator with UPDATE and SELECT puts jobs back, and needs no more for it
UPDATE q SET status = 'pending';
SELECT data, attempt FROM qflow.fetch('q') ORDER BY id;
SELECT qflow.ack('q', array_agg(id), array_agg(lease)) FROM q;
RESET ROLE;
-- on_complete = delete: consumers need DELETE
SET ROLE rights_owner;
SET client_min_messages = notice;
SELECT qflow.alter_queue('q', on_complete => 'delete');
SET client_min_messages = warning;
RESET ROLE;
UPDATE q SET status = 'pending';
SET ROLE rights_consumer;
\set VERBOSITY sqlstate
SELECT qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]) FROM qflow.fetch('q') AS f;
RESET ROLE;
GRANT DELETE ON q TO rights_consumer;
SET ROLE rights_consumer;
SELECT qflow.ack('q', ARRAY[f.id], ARRAY[f.lease]) FROM qflow.fetch('q') AS f;
RESET ROLE;
SELECT count(*) FROM q;

-- rights on the schema count too; revoked rights end at once, in the same session
INSERT INTO q (data) VALUES ('{}');
SET ROLE rights_consumer;
SELECT count(*) FROM qflow.fetch('q');
RESET ROLE;
REVOKE UPDATE ON q FROM rights_consumer;
SET ROLE rights_consumer;
SELECT count(*) FROM qflow.fetch('q');
RESET ROLE;
GRANT UPDATE ON q TO rights_consumer;
SET ROLE rights_consumer;
SELECT count(*) FROM qflow.fetch('q');
RESET ROLE;
CREATE SCHEMA closed AUTHORIZATION rights_owner;
SET ROLE rights_owner;
SELECT qflow.create_queue('closed.c');
GRANT ALL ON closed.c TO rights_consumer;
INSERT INTO closed.c (data) VALUES ('{}');
SET ROLE rights_consumer;
SELECT count(*) FROM qflow.fetch('c');
SELECT qflow.enqueue('closed.c', '{}');
RESET ROLE;

-- the views show the queues of which the viewer may read a column
\set VERBOSITY default
SET ROLE rights_owner;
SELECT qflow.create_queue('public.r');
GRANT SELECT (id, status) ON r TO rights_nobody;
RESET ROLE;
INSERT INTO r (data) VALUES ('{}'), ('{}');
SELECT count(*) FROM qflow.fetch('r', 1);
SET ROLE rights_nobody;
SELECT queue, pending, in_progress FROM qflow.queue_stats ORDER BY 1;
SELECT workflow, queue, in_flight FROM qflow.workflow_status ORDER BY 1;
SELECT workflow, jobs, unsettled FROM qflow.lease_status ORDER BY 1;
SET ROLE rights_select;
SELECT queue, pending FROM qflow.queue_stats ORDER BY 1;
SELECT workflow FROM qflow.workflow_status ORDER BY 1;
SELECT workflow FROM qflow.lease_status ORDER BY 1;
SET ROLE rights_insert;
SELECT queue FROM qflow.queue_stats UNION ALL SELECT workflow FROM qflow.workflow_status UNION ALL SELECT workflow FROM qflow.lease_status;
RESET ROLE;

-- reap by somebody without any right takes back the jobs as the table's owner, whose triggers then run as the owner
CREATE TABLE ran (who name);
GRANT INSERT ON ran TO PUBLIC;
SET ROLE rights_owner;
CREATE FUNCTION who_ran() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN new; END $$;
CREATE TRIGGER who_ran BEFORE UPDATE ON r FOR EACH ROW EXECUTE FUNCTION who_ran();
RESET ROLE;
SELECT count(*) FROM qflow.fetch('r', 1, hints => '{"timeout_ms": 1}');
SELECT pg_sleep(0.005);
TRUNCATE ran;
SET ROLE rights_nobody;
SELECT queue, returned, failed FROM qflow.reap();
RESET ROLE;
SELECT DISTINCT who FROM ran;
SELECT id, status FROM r ORDER BY id;

DROP OWNED BY rights_owner, rights_nobody, rights_insert, rights_insert_seq, rights_select, rights_update, rights_consumer, rights_member CASCADE;
DROP ROLE rights_owner, rights_nobody, rights_insert, rights_insert_seq, rights_select, rights_update, rights_consumer, rights_member, rights_super;
-- tables that are gone: absent, and the next reap forgets them
SELECT count(*) FROM qflow.queue_stats;
SELECT count(*) FROM qflow.reap();
SELECT count(*) FROM qflow.queue;
