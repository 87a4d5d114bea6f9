-- hostile_catalog: a caller before whose pg_catalog stands a schema that shadows all of it (each function, each operator, each
-- relation, the aggregates and types that qflow uses) calls every function of qflow, reads every view and fires every trigger:
-- nothing of the shadows runs. The calls are made from pg_proc and pg_class: what is new is tested too.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET qflow.sweep = on;
CREATE ROLE hc_mallory;
CREATE SCHEMA evil AUTHORIZATION hc_mallory;
GRANT USAGE ON SCHEMA evil TO PUBLIC;

SET ROLE hc_mallory;
CREATE FUNCTION evil.note(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN RAISE WARNING '% ran as %', what, current_user; END $$;
DO $do$
DECLARE f record; o record; c name; t name; made int := 0; operators int := 0;
BEGIN
    -- functions, but those that only C can write
    FOR f IN SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result, p.proretset OR p.prorettype = 'void'::regtype OR p.proargmodes IS NOT NULL AS plain
        FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note(%L); RETURN%s; END $b$', f.proname, f.arguments, f.result, f.proname, CASE WHEN NOT f.plain THEN ' NULL' END);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
    -- operators of the same types, each over a shadow of its function
    FOR o IN SELECT oprname, oprleft, oprright, p.proname FROM pg_operator JOIN pg_proc AS p ON p.oid = oprcode WHERE oprnamespace = 'pg_catalog'::regnamespace LOOP
        BEGIN
            EXECUTE format('CREATE OPERATOR evil.%s (%sRIGHTARG = %s, FUNCTION = evil.%I)', o.oprname, CASE WHEN o.oprleft <> 0 THEN format('LEFTARG = %s, ', o.oprleft::regtype) END, o.oprright::regtype, o.proname);
            operators := operators + 1;
        EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
    -- and of types that the catalog has none for, which would fit better than what it has
    FOREACH t IN ARRAY ARRAY['varchar', 'bpchar', 'regclass', 'name'] LOOP
        EXECUTE format('CREATE FUNCTION evil.fits(a %1$s, b text) RETURNS boolean LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note(%2$L); RETURN false; END $b$', t, t || ' and text');
        EXECUTE format('CREATE FUNCTION evil.fits(a %1$s, b %1$s) RETURNS boolean LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note(%2$L); RETURN false; END $b$', t, t || ' and ' || t);
        FOREACH c IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '||', '~~'] LOOP
            BEGIN EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %2$s, RIGHTARG = text, FUNCTION = evil.fits)', c, t); EXCEPTION WHEN duplicate_function THEN NULL; END;
            BEGIN EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %2$s, RIGHTARG = %2$s, FUNCTION = evil.fits)', c, t); EXCEPTION WHEN duplicate_function THEN NULL; END;
        END LOOP;
    END LOOP;
    -- relations, the catalog's and qflow's
    FOR c IN SELECT DISTINCT relname FROM pg_class WHERE relnamespace IN ('pg_catalog'::regnamespace, 'qflow'::regnamespace) AND relkind IN ('r', 'v', 'S') LOOP
        EXECUTE format('CREATE TABLE evil.%I (nothing int)', c);
    END LOOP;
    -- qflow's functions, under their own names
    FOR f IN SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result, p.proretset OR p.prorettype = 'void'::regtype AS plain FROM pg_proc AS p WHERE p.pronamespace = 'qflow'::regnamespace AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note(%L); RETURN%s; END $b$', f.proname, f.arguments, f.result, f.proname, CASE WHEN NOT f.plain THEN ' NULL' END);
        EXCEPTION WHEN duplicate_function THEN NULL; END;
    END LOOP;
    RAISE WARNING 'shadows: % functions, % operators', made > 2000, operators > 700;
END $do$;
CREATE FUNCTION evil.step(state bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('count'); RETURN 0; END $$;
CREATE AGGREGATE evil.count(*) (SFUNC = evil.step, STYPE = bigint, INITCOND = '0');
DO $do$
DECLARE t text; a text;
BEGIN
    FOREACH t IN ARRAY ARRAY['bigint', 'integer', 'smallint', 'text', 'timestamptz', 'timestamp', 'xid8', 'boolean', 'jsonb', 'name', 'oid', 'numeric'] LOOP
        EXECUTE format('CREATE FUNCTION evil.step(state %1$s, value %1$s) RETURNS %1$s LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note(%2$L); RETURN state; END $b$', t, 'aggregate of ' || t);
        FOREACH a IN ARRAY ARRAY['max', 'min', 'sum', 'count', 'bool_and', 'bool_or', 'array_agg'] LOOP
            EXECUTE format('CREATE AGGREGATE evil.%s(%2$s) (SFUNC = evil.step, STYPE = %2$s)', a, t);
        END LOOP;
    END LOOP;
    CREATE FUNCTION evil.step(state text, value text, delimiter text) RETURNS text LANGUAGE plpgsql AS $b$ BEGIN PERFORM evil.note('string_agg'); RETURN state; END $b$;
    CREATE AGGREGATE evil.string_agg(text, text) (SFUNC = evil.step, STYPE = text);
END $do$;
RESET ROLE;
-- types come last: from here on each name means something else in that path
SET ROLE hc_mallory;
DO $do$
DECLARE t name;
BEGIN
    FOR t IN SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typelem = 0 AND typname IN ('int8', 'int4', 'int2', 'text', 'varchar', 'name', 'char', 'bool', 'timestamptz',
        'timestamp', 'interval', 'xid8', 'xid', 'oid', 'regclass', 'jsonb', 'json', 'float8', 'numeric') LOOP
        EXECUTE format('CREATE DOMAIN evil.%I AS %s', t, CASE t WHEN 'text' THEN 'pg_catalog.int4' ELSE 'pg_catalog.text' END);
    END LOOP;
END $do$;
RESET ROLE;

-- a queue of mallory's with jobs in every state
SET ROLE hc_mallory;
SELECT qflow.create_queue('evil.mine', retries => 1);
RESET ROLE;
INSERT INTO evil.mine (data) SELECT to_jsonb(n) FROM generate_series(1, 200) AS n;

-- every function twice: with the arguments that it must have, and with all
CREATE TABLE usual (argument text PRIMARY KEY, value text);
INSERT INTO usual VALUES ('queue', '''evil.mine'''), ('workflow', '''mine'''), ('data', '''{}'''), ('metadata', '''{}'''), ('ids', '''{1,2}'''), ('hints', '''{"timeout_ms": 60000, "gpu": 1, "memory_gb": 16, "worker": "w", "wait_ms": 10}'''), ('resource_hints', '''{"timeout_ms": 60000, "gpu": false}'''),
    ('leases', '(SELECT pg_catalog.array_agg(l.lease) FROM (SELECT s.lease FROM qflow.lease_status AS s LIMIT 1) AS l)'), ('outcomes', '(SELECT pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(''id'', 1, ''lease'', s.lease, ''outcome'', ''ack'')) FROM qflow.lease_status AS s LIMIT 1)'),
    ('status', '''completed'''), ('on_complete', '''keep'''), ('if_not_exists', 'true'), ('keep_table', 'true'), ('role', '''hc_mallory'''), ('strict', 'false'), ('reason', '''why'''), ('resource', '''thing'''), ('kind', '''slots''');
CREATE TABLE call (nr int GENERATED BY DEFAULT AS IDENTITY, function name, sql text);
INSERT INTO call (function, sql)
SELECT p.proname, format('SELECT pg_catalog.count(*) FROM qflow.%I(%s) AS f', p.proname, (
    SELECT string_agg(format('%I => %s', p.proargnames[a.at], coalesce(u.value, CASE format_type(a.type, NULL) WHEN 'text' THEN '''mine''' WHEN 'boolean' THEN 'false' WHEN 'jsonb[]' THEN '''{1}''' WHEN 'bigint[]' THEN '''{1}''' WHEN 'jsonb' THEN '''{}''' ELSE '1' END)), ', ' ORDER BY a.at)
    FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, at) LEFT JOIN usual AS u ON u.argument = p.proargnames[a.at] WHERE a.at <= p.pronargs - CASE WHEN variant = 1 THEN p.pronargdefaults ELSE 0 END))
FROM pg_proc AS p CROSS JOIN generate_series(1, 2) AS variant
WHERE p.pronamespace = 'qflow'::regnamespace AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype
-- fetches first, so that there are leases; what takes away last
ORDER BY p.proname ~ '^drop_', p.proname = 'drop_queue', p.proname <> 'fetch', p.proname <> 'create_resource', p.proname COLLATE "C", variant DESC;
INSERT INTO call (function, sql) SELECT relname, format('SELECT pg_catalog.count(*) FROM qflow.%I AS v WHERE v IS NOT NULL', relname) FROM pg_class WHERE relnamespace = 'qflow'::regnamespace AND relkind = 'v' ORDER BY relname COLLATE "C";
-- every trigger: of the queue's table, and the registry's (which only a superuser's own statement fires)
INSERT INTO call (function, sql) VALUES ('return_job', 'UPDATE evil.mine SET status = ''pending'' WHERE status OPERATOR(pg_catalog.=) ''completed'''), ('return_job', 'UPDATE evil.mine SET priority = 3 WHERE id OPERATOR(pg_catalog.<) 9'),
    ('return_job', 'INSERT INTO evil.mine (data, enqueued_xid) VALUES (''1'', ''3'')'), ('enqueued_xid', 'INSERT INTO evil.mine (data) VALUES (''1''), (''2'')'), ('registry_changed', 'UPDATE qflow.queue SET paused = paused'), ('registry_changed', 'DELETE FROM qflow.workflow WHERE false');
-- one that is accepted whole, after the fetches
INSERT INTO call (nr, function, sql) VALUES (4, 'ack_and_fetch', 'SELECT f.id FROM (SELECT m.id, m.lease FROM evil.mine AS m WHERE m.status OPERATOR(pg_catalog.=) ''in_progress'' LIMIT 1) AS h, LATERAL qflow.ack_and_fetch(''mine'', ARRAY[h.id], ARRAY[h.lease], 2) AS f');
UPDATE call SET nr = nr + 1000000 WHERE function ~ '^drop_';
CREATE TABLE answer (round text, function name, got text);
GRANT ALL ON call, answer TO PUBLIC;
CREATE FUNCTION public.run(sql pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$ BEGIN EXECUTE sql; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;

-- mallory himself (all of it undone at the end), then a superuser with the same path
SET search_path = evil, pg_catalog, public, pg_temp;
SET ROLE hc_mallory;
-- (the procedure lets go of its transaction, so it cannot be called from a function)
CALL qflow.wait('mine', 0);
BEGIN;
CALL qflow.wait('mine', 0);
DO $$ DECLARE c pg_catalog.record; BEGIN FOR c IN SELECT * FROM public.call ORDER BY nr LOOP INSERT INTO public.answer SELECT 'mallory', c.function, public.run(c.sql); END LOOP; END $$;
SELECT a.function, pg_catalog.string_agg(DISTINCT a.got, ' ') FROM public.answer AS a GROUP BY a.function HAVING NOT pg_catalog.bool_or(a.got OPERATOR(pg_catalog.=) 'ok') ORDER BY a.function;
ROLLBACK;
RESET ROLE;
CALL qflow.wait('mine', 0);
BEGIN;
CALL qflow.wait('mine', 0);
DO $$ DECLARE c pg_catalog.record; BEGIN FOR c IN SELECT * FROM public.call ORDER BY nr LOOP INSERT INTO public.answer SELECT 'superuser', c.function, public.run(c.sql); END LOOP; END $$;
SELECT a.function, pg_catalog.string_agg(DISTINCT a.got, ' ') FROM public.answer AS a GROUP BY a.function HAVING NOT pg_catalog.bool_or(a.got OPERATOR(pg_catalog.=) 'ok') ORDER BY a.function;
ROLLBACK;
-- and not inside one transaction, where plans are kept
SELECT pg_catalog.count(*) FROM qflow.fetch('mine', 3) AS f;
SELECT pg_catalog.count(*) FROM qflow.fetch('mine', 3) AS f;
SELECT f.resources FROM qflow.fetch('mine', 1, hints => '{"gpu": 1, "memory_gb": 2, "worker": "w"}') AS f;
SELECT f.resources FROM qflow.fetch('mine', 1, hints => '{"gpu": 1, "memory_gb": 4, "worker": "w"}') AS f;
SELECT pg_catalog.count(f.resources) FROM qflow.fetch('mine', 1, hints => '{"gpu": 1, "wait_ms": 10}') AS f;
CALL qflow.wait('mine', 0, '{"gpu": 1}');
SELECT pg_catalog.count(s.lease) FROM qflow.resource_status AS s;
UPDATE qflow.lease SET deadline = pg_catalog.now() OPERATOR(pg_catalog.-) '1 hour'::pg_catalog.interval;
SELECT r.queue, r.returned, r.failed FROM qflow.reap() AS r;
-- an id whose default is written without a schema means what it meant when it was written
RESET search_path;
CREATE SEQUENCE evil.ids START 1000;
ALTER TABLE evil.mine ALTER COLUMN id DROP IDENTITY;
ALTER TABLE evil.mine ALTER COLUMN id SET DEFAULT nextval('evil.ids') + 1;
SET search_path = evil, pg_catalog, public, pg_temp;
SELECT qflow.enqueue('evil.mine', '{}');
RESET search_path;

-- what a statement that takes no care gets: the shadows are real
SET search_path = evil, pg_catalog, public, pg_temp;
SELECT now() IS NULL;
SELECT 1 = 1;
RESET search_path;

-- (in pieces: so many objects in one transaction would want too many locks)
SELECT qflow.drop_queue('evil.mine', false);
DO $do$
DECLARE d text;
BEGIN
    FOR d IN SELECT format('DROP AGGREGATE evil.%I(%s)', p.proname, CASE p.pronargs WHEN 0 THEN '*' ELSE pg_get_function_identity_arguments(p.oid) END) FROM pg_proc AS p WHERE p.pronamespace = 'evil'::regnamespace AND p.prokind = 'a' LOOP EXECUTE d; END LOOP;
    COMMIT;
    FOR d IN SELECT format('DROP OPERATOR %s', o.oid::regoperator) FROM pg_operator AS o WHERE o.oprnamespace = 'evil'::regnamespace LOOP EXECUTE d; END LOOP;
    COMMIT;
    FOR block IN 1..10 LOOP
        FOR d IN SELECT format('DROP FUNCTION %s', p.oid::regprocedure) FROM pg_proc AS p WHERE p.pronamespace = 'evil'::regnamespace LIMIT 400 LOOP EXECUTE d; END LOOP;
        COMMIT;
    END LOOP;
END $do$;
SET client_min_messages = error;
DROP SCHEMA evil CASCADE;
DROP ROLE hc_mallory;
