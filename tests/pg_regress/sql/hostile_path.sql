-- hostile_path: a role that puts operators, functions, types and tables of its own before pg_catalog in the search_path
-- and then calls every function: the answers are those that everybody gets, and nothing of it runs, as nobody.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE ROLE hostile_alice;
CREATE ROLE hostile_mallory;
GRANT CREATE ON SCHEMA public TO hostile_alice, hostile_mallory;
CREATE SCHEMA evil AUTHORIZATION hostile_mallory;

-- alice's queue, from which mallory consumes and into which she inserts
SET ROLE hostile_alice;
SELECT qflow.create_queue('public.q', retries => 1);
GRANT SELECT, INSERT, UPDATE ON q TO hostile_mallory;
GRANT USAGE ON SEQUENCE q_id_seq TO hostile_mallory;
INSERT INTO q (data) SELECT pg_catalog.to_jsonb(n) FROM generate_series(1, 40) AS n;
RESET ROLE;
-- jobs in every state
SELECT max(lease) AS l FROM qflow.fetch('q', 4) \gset
SELECT qflow.fail('q', ARRAY[1], ARRAY[:l]), qflow.ack('q', ARRAY[2], ARRAY[:l]), qflow.requeue('q', ARRAY[3], ARRAY[:l], NULL, 0);

-- everything of mallory's says who runs it, then does something else than its namesake
SET ROLE hostile_mallory;
CREATE TABLE evil.seen (what text, who name);
GRANT INSERT ON evil.seen TO PUBLIC;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.note(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
    RAISE WARNING '% ran as %', what, current_user; INSERT INTO evil.seen VALUES (what, current_user); END $$;

DO $do$
DECLARE t text; op text; f text;
BEGIN
    -- operators on every type that qflow's statements compare, and on what implicit casts would reach
    FOREACH t IN ARRAY ARRAY['bigint', 'integer', 'smallint', 'text', 'varchar', 'name', '"char"', 'boolean', 'timestamptz', 'timestamp',
        'interval', 'xid8', 'xid', 'oid', 'regclass', 'jsonb', 'double precision', 'numeric', 'bigint[]', 'text[]', 'anyarray', 'anyelement', 'record'] LOOP
        EXECUTE format($f$CREATE FUNCTION evil.cmp(a %1$s, b %1$s) RETURNS boolean LANGUAGE plpgsql AS
            $b$ BEGIN PERFORM evil.note('operator on %2$s'); RETURN false; END $b$ $f$, t, replace(t, '"', ''));
        FOREACH op IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '@>', '<@', '&&', '~~', '~', '?', '?|'] LOOP
            EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %2$s, RIGHTARG = %2$s, FUNCTION = evil.cmp)', op, t);
        END LOOP;
        IF t NOT IN ('anyarray', 'anyelement', 'record') THEN
            EXECUTE format($f$CREATE FUNCTION evil.calc(a %1$s, b %1$s) RETURNS %1$s LANGUAGE plpgsql AS
                $b$ BEGIN PERFORM evil.note('arithmetic on %2$s'); RETURN a; END $b$ $f$, t, replace(t, '"', ''));
            FOREACH op IN ARRAY ARRAY['+', '-', '*', '/', '%', '||', '->', '->>'] LOOP
                EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %2$s, RIGHTARG = %2$s, FUNCTION = evil.calc)', op, t);
            END LOOP;
        END IF;
    END LOOP;
    CREATE FUNCTION evil.cmp_any(a smallint, b bigint) RETURNS boolean LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note('mixed operator'); RETURN false; END $b$;
    CREATE OPERATOR evil.= (LEFTARG = smallint, RIGHTARG = bigint, FUNCTION = evil.cmp_any);
    CREATE FUNCTION evil.cmp_any(a varchar, b text) RETURNS boolean LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note('mixed operator'); RETURN false; END $b$;
    CREATE OPERATOR evil.= (LEFTARG = varchar, RIGHTARG = text, FUNCTION = evil.cmp_any);
    -- functions, also those that a more exact argument type would prefer
    FOREACH f IN ARRAY ARRAY['now() RETURNS timestamptz', 'clock_timestamp() RETURNS timestamptz', 'statement_timestamp() RETURNS timestamptz',
        'unnest(bigint[]) RETURNS SETOF bigint', 'unnest(text[]) RETURNS SETOF text', 'unnest(anyarray) RETURNS SETOF anyelement',
        'nextval(regclass) RETURNS bigint', 'nextval(text) RETURNS bigint', 'currval(regclass) RETURNS bigint', 'setval(regclass, bigint) RETURNS bigint',
        'pg_current_xact_id() RETURNS xid8', 'pg_current_snapshot() RETURNS pg_snapshot', 'random() RETURNS double precision', 'floor(double precision) RETURNS double precision',
        'substr(text, integer, integer) RETURNS text', 'format(text, text) RETURNS text', 'quote_ident(text) RETURNS text', 'current_schema() RETURNS name',
        'generate_series(integer, integer) RETURNS SETOF integer', 'generate_series(integer, bigint) RETURNS SETOF bigint', 'pg_get_expr(pg_node_tree, oid) RETURNS text',
        'array_length(anyarray, integer) RETURNS integer', 'cardinality(anyarray) RETURNS integer', 'array_agg_fn(bigint) RETURNS bigint', 'length(text) RETURNS integer',
        'pg_column_size(jsonb) RETURNS integer', 'int8(integer) RETURNS bigint', 'text(varchar) RETURNS text',
        'timestamptz(timestamp) RETURNS timestamptz', 'to_regclass(text) RETURNS regclass', 'pg_try_advisory_xact_lock(bigint) RETURNS boolean', 'pg_advisory_xact_lock(bigint) RETURNS void',
        'has_table_privilege(oid, text) RETURNS boolean', 'has_column_privilege(oid, text, text) RETURNS boolean', 'has_sequence_privilege(oid, text) RETURNS boolean',
        'has_schema_privilege(oid, oid, text) RETURNS boolean', 'has_schema_privilege(name, oid, text) RETURNS boolean', 'pg_get_userbyid(oid) RETURNS name', 'aclexplode(aclitem[]) RETURNS SETOF record', 'pg_backend_pid() RETURNS integer', 'enqueued_xid(bigint) RETURNS xid8', 'return_job() RETURNS void', 'fetch(text) RETURNS bigint'] LOOP
        EXECUTE format('CREATE FUNCTION evil.%s LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note(%L); %s; END $b$', f, split_part(f, ' ', 1),
            CASE WHEN f LIKE '%void' OR f LIKE '%SETOF%' THEN 'RETURN' ELSE 'RETURN NULL' END);
    END LOOP;
END $do$;
CREATE FUNCTION evil.step(state bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('count'); RETURN 0; END $$;
CREATE FUNCTION evil.step(state bigint, value bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('max'); RETURN 0; END $$;
CREATE AGGREGATE evil.count(*) (SFUNC = evil.step, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE evil.max(bigint) (SFUNC = evil.step, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE evil.min(bigint) (SFUNC = evil.step, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE evil.sum(bigint) (SFUNC = evil.step, STYPE = bigint, INITCOND = '0');
-- types and tables
CREATE DOMAIN evil.int8 AS pg_catalog.text;
CREATE DOMAIN evil.text AS pg_catalog.int4;
CREATE DOMAIN evil.jsonb AS pg_catalog.text;
CREATE DOMAIN evil.xid8 AS pg_catalog.text;
CREATE DOMAIN evil.timestamptz AS pg_catalog.text;
CREATE DOMAIN evil.regclass AS pg_catalog.text;
CREATE DOMAIN evil.oid AS pg_catalog.text;
CREATE FUNCTION evil.is_char(value pg_catalog."char") RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('check of a domain'); RETURN true; END $$;
CREATE DOMAIN evil."char" AS pg_catalog."char" CHECK (evil.is_char(VALUE));
DO $do$
DECLARE t pg_catalog.text;
BEGIN
    FOREACH t IN ARRAY ARRAY['queue', 'workflow', 'lease', 'floor', 'sweep', 'lease_incarnation', 'jobs', 'pg_class', 'pg_attribute', 'pg_attrdef', 'pg_depend', 'pg_namespace',
        'pg_trigger', 'pg_index', 'pg_constraint', 'pg_stat_activity', 'pg_locks', 'pg_roles', 'pg_authid', 'queue_stats'] LOOP
        EXECUTE format('CREATE TABLE evil.%I (nothing int)', t);
    END LOOP;
END $do$;
CREATE SEQUENCE evil.lease_id;
CREATE SEQUENCE evil.queue_number;

-- every function, with all that before pg_catalog; nothing but the calls themselves runs here
SET search_path = evil, pg_catalog, public, pg_temp;
SELECT pg_catalog.count(1) AS fetched, pg_catalog.min(f.attempt) AS attempt, pg_catalog.max(f.max_attempts) AS most,
    pg_catalog.array_agg(f.id) AS ids, (pg_catalog.array_agg(f.lease))[1] AS lease FROM qflow.fetch('q', 10, 3, '{"gpu": 1, "memory_gb": 2}') AS f \gset
SELECT :'fetched', :'attempt', :'most', :'ids';
SELECT 'ack', qflow.ack('q', '{3}', ARRAY[:lease]), qflow.ack('q', '{3}', ARRAY[:lease], true);
SELECT 'requeue', qflow.requeue('q', '{5}', ARRAY[:lease], 'why'), qflow.requeue('q', '{6}', ARRAY[:lease], 'why', 0);
SELECT 'fail', qflow.fail('q', '{7}', ARRAY[:lease], 'why');
SELECT 'release', qflow.release('q', '{8}', ARRAY[:lease]);
SELECT 'settle', s.id, s.outcome FROM qflow.settle('q', pg_catalog.format('[{"id": 9, "lease": %s, "outcome": "ack"}, {"id": 10, "lease": %s, "outcome": "fail"},
    {"id": 11, "lease": %s, "outcome": "requeue"}, {"id": 1, "lease": %s, "outcome": "ack"}]', VARIADIC ARRAY[:'lease', :'lease', :'lease', :'lease']::pg_catalog.text[])::pg_catalog.jsonb) AS s;
SELECT 'extend', pg_catalog.count(1) FROM qflow.extend('q', ARRAY[:lease], 600000);
SET qflow.allow_unfenced = on;
SELECT 'unfenced', qflow.ack('q', '{12}', NULL);
RESET qflow.allow_unfenced;
SELECT 'enqueue', qflow.enqueue('q', '1');
SELECT 'enqueue_batch', qflow.enqueue_batch('q', '{1,2}');
INSERT INTO public.q (data) VALUES ('3'), ('4');
SELECT 'plain insert', pg_catalog.count(1) FROM public.q;
UPDATE public.q SET status = 'pending' WHERE id OPERATOR(pg_catalog.=) 9;
SELECT 'fetched next', f.id FROM qflow.fetch('q', 1) AS f;
SELECT 'ack_and_fetch', f.id, f.resources FROM qflow.ack_and_fetch('q', '{3}', ARRAY[:lease], 1, 1, '{"memory_gb": 1}') AS f;
SELECT 'expires', pg_catalog.count(1) FROM qflow.extend('q', ARRAY[:l], 1);
SELECT pg_catalog.pg_sleep(0.005);
SELECT 'reap', r.queue, r.returned, r.failed FROM qflow.reap() AS r;
SELECT 'verify', v.check_name, v.detail FROM qflow.verify('public.q') AS v WHERE NOT v.ok;
SELECT 'queue_stats', s.queue, s.pending, s.in_progress, s.completed, s.failed FROM qflow.queue_stats AS s;
SELECT 'workflow_status', s.workflow, s.queue, s.retries, s.in_flight, s.leases FROM qflow.workflow_status AS s;
SELECT 'lease_status', s.workflow, s.queue, s.jobs, s.unsettled FROM qflow.lease_status AS s ORDER BY s.lease;
-- what needs the owner is refused as everywhere
\set VERBOSITY sqlstate
SELECT qflow.alter_queue('q', retries => 9);
SELECT qflow.drop_queue('q');
SELECT qflow.pause_queue('q');
SELECT qflow.purge_queue('q');
SELECT qflow.retry_failed('q');
SELECT qflow.create_workflow('w', 'q');
SELECT qflow.alter_workflow('q', retries => 9);
SELECT qflow.drop_workflow('q');
SELECT qflow.grant_producer('q', 'hostile_mallory');
SELECT qflow.revoke_consumer('q', 'hostile_mallory');
\set VERBOSITY default
-- and on a queue of mallory's own it works: made in the schema that comes first, where there is a table queue already
SELECT 'create_queue', qflow.create_queue('mine', retries => 2), qflow.create_queue('mine', if_not_exists => true);
SELECT 'create_workflow', qflow.create_workflow('w', 'mine', retries => 2, retry_delay_ms => 0), qflow.create_workflow('w', 'mine', if_not_exists => true);
SELECT 'alter', qflow.alter_queue('mine', batch_size => 5), qflow.alter_queue('mine', batch_size => 5), qflow.alter_workflow('w', batch_size => 5), qflow.alter_workflow('w', batch_size => 5);
SELECT 'pause', qflow.pause_queue('mine'), qflow.pause_workflow('w'), qflow.resume_queue('mine'), qflow.resume_workflow('w');
INSERT INTO evil.mine (data) VALUES ('1'), ('2'), ('3'), ('4'), ('5'), ('6'), ('7');
SELECT pg_catalog.array_agg(f.id) AS ids, (pg_catalog.array_agg(f.lease))[1] AS lease FROM qflow.fetch('w', hints => '{"memory_gb": 2, "wait_ms": 10, "worker": "w"}') AS f \gset
SELECT 'fetch', :'ids';
SELECT 'settled', qflow.ack('w', '{1,2}', ARRAY[:lease]), qflow.fail('w', '{3}', ARRAY[:lease]), qflow.requeue('w', '{4}', ARRAY[:lease]);
SELECT 'retry_failed', qflow.retry_failed('mine', '{3,4}'), qflow.retry_failed('mine');
SELECT 'purge_queue', qflow.purge_queue('mine', 'completed'), qflow.purge_queue('mine');
SELECT 'next', pg_catalog.array_agg(f.id) FROM qflow.fetch('w', 10) AS f;
SELECT 'verify', v.check_name, v.detail FROM qflow.verify('mine') AS v WHERE NOT v.ok;
SELECT 'granted', qflow.grant_producer('mine', 'hostile_alice'), qflow.grant_consumer('mine', 'hostile_alice'), qflow.grant_monitor('mine', 'public'),
    pg_catalog.has_table_privilege('hostile_alice', 'evil.mine', 'UPDATE'), pg_catalog.has_column_privilege('hostile_alice', 'evil.mine', 'data', 'INSERT');
SELECT 'revoked', qflow.revoke_producer('mine', 'hostile_alice'), qflow.revoke_consumer('mine', 'hostile_alice'), qflow.revoke_monitor('mine', 'public'),
    pg_catalog.has_any_column_privilege('hostile_alice', 'evil.mine', 'SELECT, INSERT, UPDATE');
SELECT 'drop', qflow.drop_workflow('w'), qflow.drop_queue('mine', false);
-- the same path in alice's session, and in a superuser's: what is not called there does not run as them
RESET ROLE;
SET qflow.sweep = on;
SELECT 'reap by a superuser', r.queue, r.returned, r.failed FROM qflow.reap() AS r;
SELECT 'fetch by a superuser', pg_catalog.count(1) FROM qflow.fetch('q', 5) AS f;
SET ROLE hostile_alice;
SELECT 'owner', qflow.alter_queue('q', batch_size => 3), qflow.pause_queue('q'), qflow.resume_queue('q'), qflow.retry_failed('q'), qflow.purge_queue('q', older_than_ms => 3600000);
SELECT 'granted by the owner', qflow.grant_producer('q', 'public'), qflow.grant_consumer('q', 'public'), qflow.grant_monitor('q', 'public'),
    qflow.revoke_producer('q', 'public'), qflow.revoke_consumer('q', 'public'), qflow.revoke_monitor('q', 'public');
SELECT 'fetch by the owner', f.id FROM qflow.fetch('q') AS f ORDER BY f.id;
RESET ROLE;
RESET search_path;

-- nothing of it ran
SELECT what, who, count(*) FROM evil.seen GROUP BY 1, 2 ORDER BY 1, 2;
SELECT id, status, attempt, failure_reason FROM q WHERE id <= 13 ORDER BY id;
-- but all of it would have: this is what a function that does not take care gets
SET ROLE hostile_mallory;
SET search_path = evil, pg_catalog, public;
SELECT 1::bigint = 1::bigint;
SELECT now() IS NULL;
RESET search_path;
RESET ROLE;

SELECT qflow.drop_queue('public.q', false);
DROP OWNED BY hostile_mallory, hostile_alice CASCADE;
DROP ROLE hostile_mallory, hostile_alice;
