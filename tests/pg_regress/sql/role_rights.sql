-- role_rights: what each role can do with nothing but what the helpers grant: a line for each call and queue, a column
-- for each role: ok, or the SQLSTATE. The queues are those of the table made: another one is another line there.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
SET client_min_messages = warning;
CREATE ROLE rr_producer;
CREATE ROLE rr_consumer;
CREATE ROLE rr_monitor;
CREATE ROLE rr_stranger;
CREATE ROLE rr_owner;
CREATE ROLE rr_super SUPERUSER;
-- (up to PostgreSQL 14 everybody may create there)
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO rr_owner;
-- COPY from a file of the server: the one that a function can run
GRANT pg_read_server_files TO rr_producer, rr_consumer, rr_monitor, rr_stranger, rr_owner;

SET ROLE rr_owner;
CREATE TABLE made (queue text, how text);
INSERT INTO made VALUES
    ('created', 'SELECT qflow.create_queue(''public.created'')'),
    ('deleting', 'SELECT qflow.create_queue(''public.deleting'', on_complete => ''delete'')'),
    ('serial', 'SELECT qflow.create_queue(''public.serial''); ALTER TABLE serial ALTER id DROP IDENTITY; '
        'CREATE SEQUENCE serial_id OWNED BY serial.id; ALTER TABLE serial ALTER id SET DEFAULT nextval(''serial_id'')'),
    ('defaulted', 'SELECT qflow.create_queue(''public.defaulted''); ALTER TABLE defaulted ALTER id DROP IDENTITY; '
        'CREATE SEQUENCE any_id START 1000; ALTER TABLE defaulted ALTER id SET DEFAULT 7 + nextval(''any_id'')'),
    ('adopted', 'CREATE TABLE adopted (id serial primary key, data jsonb, metadata jsonb default ''{}'', status varchar(20) default ''pending'', '
        'inserted_at timestamp default now(), updated_at timestamp default now(), failure_reason text); SELECT qflow.create_queue(''public.adopted'')');
DO $$
DECLARE q made;
BEGIN
    FOR q IN SELECT * FROM made LOOP
        EXECUTE q.how;
        PERFORM qflow.grant_producer(q.queue, 'rr_producer'), qflow.grant_consumer(q.queue, 'rr_consumer'),
            qflow.grant_monitor(q.queue, 'rr_monitor');
        EXECUTE format('INSERT INTO %s (data) SELECT ''{"payload": true}'' FROM generate_series(1, 9)', q.queue);
        PERFORM qflow.fetch(q.queue, 3, hints => '{"memory_gb": 1}');
    END LOOP;
END $$;
RESET ROLE;
GRANT SELECT ON made TO PUBLIC;
SELECT qflow.create_resource('lab', 1);

-- %1$s is the queue, %2$s a job that is in progress, %3$s its lease
CREATE TABLE call (at int GENERATED ALWAYS AS IDENTITY, sql text);
INSERT INTO call (sql) VALUES
    -- to produce
    ('INSERT INTO %1$s (data) VALUES (''{}''), (''[]'')'),
    ('INSERT INTO %1$s (id, data, metadata, status, priority, available_at) VALUES (4711, ''{}'', ''{}'', ''pending'', 0, now())'),
    ('COPY %1$s (data) FROM ''PG_VERSION'''),
    ('SELECT qflow.enqueue(''%1$s'', ''{}'', ''{}'', 2, 1000)'), ('SELECT qflow.enqueue_batch(''%1$s'', ''{1,2}'')'),
    -- to write what qflow writes
    ('INSERT INTO %1$s (data, enqueued_xid) VALUES (''{}'', ''1'')'), ('INSERT INTO %1$s (data, attempt) VALUES (''{}'', 0)'),
    ('INSERT INTO %1$s (data, lease) VALUES (''{}'', 1)'), ('INSERT INTO %1$s (data, inserted_at) VALUES (''{}'', now())'),
    ('INSERT INTO %1$s (data, updated_at) VALUES (''{}'', now())'), ('INSERT INTO %1$s (data, failure_reason) VALUES (''{}'', ''-'')'),
    ('INSERT INTO %1$s (data) VALUES (''{}'') RETURNING id'),
    -- to consume
    ('SELECT * FROM qflow.fetch(''%1$s'')'),
    ('SELECT qflow.ack(''%1$s'', ARRAY[%2$s], ARRAY[%3$s], true)'), ('SELECT qflow.requeue(''%1$s'', ARRAY[%2$s], ARRAY[%3$s])'),
    ('SELECT qflow.fail(''%1$s'', ARRAY[%2$s], ARRAY[%3$s])'), ('SELECT qflow.release(''%1$s'', ARRAY[%2$s], ARRAY[%3$s])'),
    ('SELECT * FROM qflow.settle(''%1$s'', jsonb_build_array(jsonb_build_object(''id'', %2$s, ''lease'', %3$s, ''outcome'', ''ack'')), true)'),
    ('SELECT * FROM qflow.extend(''%1$s'', ARRAY[%3$s])'),
    ('SELECT * FROM qflow.ack_and_fetch(''%1$s'', ARRAY[%2$s], ARRAY[%3$s])'),
    ('SELECT qflow.create_queue(''%1$s'', if_not_exists => true)'), ('SELECT qflow.create_workflow(''%1$s'', ''%1$s'', if_not_exists => true)'),
    ('UPDATE %1$s SET status = ''pending'' WHERE id = %2$s'), ('DELETE FROM %1$s'), ('TRUNCATE %1$s'),
    -- to look
    ('SELECT data FROM %1$s'), ('SELECT metadata FROM %1$s'), ('SELECT status, count(*) FROM %1$s GROUP BY status'),
    ('SELECT id, enqueued_xid, lease, inserted_at, updated_at, available_at, attempt, priority, status, failure_reason FROM %1$s'),
    ('SELECT * FROM qflow.verify(''%1$s'')'),
    ('SELECT * FROM qflow.readiness(''%1$s'')'),
    ('SELECT * FROM qflow.health()'), ('SELECT qflow.prometheus()'),
    ('SELECT 1 / count(*) FROM qflow.queue_stats WHERE queue = ''public.%1$s'' AND pending = 6 AND in_progress = 3'),
    ('SELECT 1 / count(*) FROM qflow.workflow_status WHERE workflow = ''%1$s'' AND in_flight = 3'),
    ('SELECT 1 / count(*) FROM qflow.lease_status WHERE queue = ''public.%1$s'' AND unsettled = 3'),
    ('SELECT 1 / count(*) FROM qflow.queue_stats_rows() WHERE queue = ''public.%1$s'''),
    ('SELECT 1 / count(*) FROM qflow.workflow_status_rows() WHERE queue = ''public.%1$s'''),
    ('SELECT 1 / count(*) FROM qflow.lease_status_rows() WHERE queue = ''public.%1$s'''),
    ('SELECT 1 / count(*) FROM qflow.resource_status WHERE workflow = ''%1$s'''), ('SELECT 1 / count(*) FROM qflow.resource_status_rows() WHERE workflow = ''%1$s'''),
    -- to administer
    ('SELECT qflow.create_queue(''public.another'')'), ('SELECT qflow.alter_queue(''%1$s'', retries => 7)'),
    ('SELECT qflow.drop_queue(''%1$s'')'), ('SELECT qflow.drop_queue(''%1$s'', false)'),
    ('SELECT qflow.pause_queue(''%1$s'')'), ('SELECT qflow.resume_queue(''%1$s'')'),
    ('SELECT qflow.purge_queue(''%1$s'')'), ('SELECT qflow.retry_failed(''%1$s'')'),
    ('SELECT qflow.create_workflow(''another'', ''%1$s'')'), ('SELECT qflow.alter_workflow(''%1$s'', retries => 7)'),
    ('SELECT qflow.drop_workflow(''%1$s'')'), ('SELECT qflow.pause_workflow(''%1$s'')'), ('SELECT qflow.resume_workflow(''%1$s'')'),
    ('SELECT qflow.grant_producer(''%1$s'', ''rr_stranger'')'), ('SELECT qflow.grant_consumer(''%1$s'', ''rr_stranger'')'),
    ('SELECT qflow.grant_monitor(''%1$s'', ''rr_stranger'')'), ('SELECT qflow.grant_consumer(''%1$s'', ''rr_consumer'')'),
    ('SELECT qflow.revoke_producer(''%1$s'', ''rr_producer'')'), ('SELECT qflow.revoke_consumer(''%1$s'', ''rr_consumer'')'),
    ('SELECT qflow.revoke_monitor(''%1$s'', ''rr_monitor'')'), ('SELECT qflow.revoke_consumer(''%1$s'', ''rr_stranger'')'),
    ('ALTER TABLE %1$s ADD mine int'),
    -- for whom it was granted by name
    ('SELECT qflow.create_resource(''thing'', 1)'), ('SELECT qflow.alter_resource(''gpu'', 2)'), ('SELECT qflow.drop_resource(''lab'')'),
    ('SELECT qflow.break_lease(%3$s)'),
    -- for everyone, as each table's owner; and what queue tables call
    ('SELECT * FROM qflow.reap()'), ('SELECT qflow.enqueued_xid(1)'), ('SELECT qflow.return_job()'), ('SELECT qflow.registry_changed()');

-- every function and view of qflow is called (its procedure lets go of its transaction: the rights that it asks for are in wait)
SELECT 'not called', proname FROM pg_proc
WHERE pronamespace = 'qflow'::regnamespace AND prokind = 'f' AND NOT EXISTS (SELECT FROM call WHERE strpos(sql, 'qflow.' || proname || '(') > 0)
UNION ALL
SELECT 'not read', relname FROM pg_class
WHERE relnamespace = 'qflow'::regnamespace AND relkind = 'v' AND NOT EXISTS (SELECT FROM call WHERE strpos(sql, 'qflow.' || relname || ' ') > 0);

CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE sql;
    RAISE EXCEPTION USING ERRCODE = 'QFOK1';
EXCEPTION WHEN OTHERS THEN RETURN CASE SQLSTATE WHEN 'QFOK1' THEN 'ok' WHEN '22012' THEN 'no row' ELSE SQLSTATE END; END $$;
CREATE TABLE answer (at int, queue text, role text, got text);
GRANT ALL ON call, answer TO PUBLIC;
DO $$
DECLARE
    r text;
    q text;
    lease bigint;
    job bigint;
BEGIN
    FOR q IN SELECT queue FROM made LOOP
        SELECT l.lease INTO lease FROM qflow.lease_status AS l WHERE workflow = q;
        EXECUTE format('SELECT max(id) FROM %s WHERE lease = %s', q, lease) INTO job;
        FOREACH r IN ARRAY ARRAY['producer', 'consumer', 'monitor', 'stranger', 'owner', 'super'] LOOP
            EXECUTE format('SET LOCAL ROLE rr_%s', r);
            INSERT INTO answer SELECT at, q, r, try(format(sql, q, job, lease)) FROM call ORDER BY at;
            RESET ROLE;
        END LOOP;
    END LOOP;
END $$;
SELECT format(c.sql, m.queue, '?', '?') AS "%s", max(got) FILTER (WHERE role = 'producer') AS producer, max(got) FILTER (WHERE role = 'consumer') AS consumer,
    max(got) FILTER (WHERE role = 'monitor') AS monitor, max(got) FILTER (WHERE role = 'stranger') AS stranger,
    max(got) FILTER (WHERE role = 'owner') AS owner, max(got) FILTER (WHERE role = 'super') AS superuser
FROM made AS m CROSS JOIN call AS c JOIN answer AS a USING (at, queue)
WHERE m.queue = 'created' GROUP BY m.queue, c.at, c.sql ORDER BY c.at;
-- the other queues, where they differ from that
SELECT format(c.sql, a.queue, '?', '?') AS "%s", a.role, a.got, b.got AS created
FROM call AS c JOIN answer AS a USING (at) JOIN answer AS b ON b.at = a.at AND b.role = a.role AND b.queue = 'created'
WHERE a.got <> b.got ORDER BY a.queue COLLATE "C", c.at, a.role COLLATE "C";
SELECT queue, count(*) FROM answer GROUP BY queue ORDER BY queue COLLATE "C";

-- the same work in earnest: the producer's jobs, consumed to the end
SET ROLE rr_producer;
COPY created (data, metadata, priority) FROM STDIN;
"copied"	{}	0
\.
INSERT INTO deleting (data, priority) VALUES ('"inserted"', 0);
SELECT count(*) FROM unnest(qflow.enqueue_batch('serial', ARRAY['"e1"', '"e2"', '"e3"', '"e4"']::jsonb[], priority => 0));
SET ROLE rr_consumer;
SELECT data, qflow.ack('created', ARRAY[id], ARRAY[lease], true) FROM qflow.fetch('created', 1);
SELECT data, qflow.ack('deleting', ARRAY[id], ARRAY[lease], true) FROM qflow.fetch('deleting', 1);
SELECT array_agg(id ORDER BY id) AS ids, min(lease) AS lease FROM qflow.fetch('serial', 4) \gset
SELECT count(*) FROM qflow.extend('serial', ARRAY[:lease]);
SELECT qflow.requeue('serial', (:'ids'::bigint[])[1:1], ARRAY[:lease], 'again', 60000) AS requeued, qflow.fail('serial', (:'ids'::bigint[])[2:2], ARRAY[:lease], 'never') AS failed,
    qflow.release('serial', (:'ids'::bigint[])[3:3], ARRAY[:lease]) AS released;
SELECT outcome FROM qflow.settle('serial', jsonb_build_array(jsonb_build_object('id', (:'ids'::bigint[])[4], 'lease', :lease, 'outcome', 'ack')), true);
SELECT data, status, failure_reason FROM serial WHERE data::text LIKE '"e%' ORDER BY data::text;
SELECT count(*) FROM deleting WHERE data = '"inserted"';
RESET ROLE;

-- what the helpers wrote: nothing else is granted to anybody
SELECT c.oid::regclass AS on, string_agg(a.attname, ', ' ORDER BY a.attname COLLATE "C") AS columns, e.privilege_type, e.is_grantable, e.grantee::regrole
FROM pg_class AS c JOIN (SELECT attrelid, attname, attacl FROM pg_attribute WHERE NOT attisdropped UNION ALL SELECT oid, NULL, relacl FROM pg_class) AS a ON a.attrelid = c.oid
CROSS JOIN LATERAL aclexplode(a.attacl) AS e
WHERE c.relowner = 'rr_owner'::regrole AND c.relname <> 'made' AND e.grantee <> c.relowner
GROUP BY c.oid, a.attname IS NULL, e.privilege_type, e.is_grantable, e.grantee ORDER BY c.relname COLLATE "C", e.grantee::regrole::text COLLATE "C", e.privilege_type COLLATE "C";

-- functions that run with other rights than their caller's: none
SELECT proname FROM pg_proc WHERE pronamespace = 'qflow'::regnamespace AND prosecdef;
-- who may execute them
SELECT CASE WHEN everyone THEN 'PUBLIC' ELSE 'the owner only' END AS who, string_agg(proname, ' ' ORDER BY proname COLLATE "C") AS functions
FROM (SELECT proname, EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0 AND privilege_type = 'EXECUTE') AS everyone
    FROM pg_proc WHERE pronamespace = 'qflow'::regnamespace) AS f
GROUP BY everyone ORDER BY everyone;

DROP OWNED BY rr_owner CASCADE;
REVOKE pg_read_server_files FROM rr_producer, rr_consumer, rr_monitor, rr_stranger, rr_owner;
DROP ROLE rr_producer, rr_consumer, rr_monitor, rr_stranger, rr_owner, rr_super;
