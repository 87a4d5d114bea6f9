-- names: names that are hard to write. A queue's is read as PostgreSQL reads a table's name, a workflow's is taken as it
-- is; each is used correctly in every function, or refused with its SQLSTATE, and the catalog is then as it was.
\set SHOW_CONTEXT never
\pset format unaligned
SET client_min_messages = warning;
SET qflow.sweep = off;

-- the names; what must come of create_queue: the table, or the SQLSTATE
CREATE TABLE wanted (nr int GENERATED ALWAYS AS IDENTITY, title text, name text, "table" text, code text);
CREATE SCHEMA "odd ""Schema""";
CREATE SCHEMA dotted;
INSERT INTO wanted (title, name, "table", code) VALUES
    ('folded', 'Foo', 'foo', NULL), ('quoted beside it', '"Foo"', 'Foo', NULL), ('the same again', 'FOO', NULL, '42710'),
    ('doubled quotes', '"a"".b"', 'a".b', NULL), ('dot inside', '"a.b"', 'a.b', NULL), ('blank inside', '"a b"', 'a b', NULL), ('blanks around', '  spaced  ', 'spaced', NULL),
    ('single quote', '"it''s"', 'it''s', NULL), ('backslash', '"a\b"', 'a\b', NULL), ('dollars', '"$$"', '$$', NULL), ('statement', '"x; DROP TABLE wanted; --"', 'x; DROP TABLE wanted; --', NULL),
    ('placeholders', '"{q}{n}{max}{id}$1"', '{q}{n}{max}{id}$1', NULL), ('percent', '"%s%I%n"', '%s%I%n', NULL), ('reserved', '"select"', 'select', NULL), ('bare reserved', 'select', NULL, '42710'),
    ('non-ASCII letters', 'größe', 'größe', NULL), ('quoted non-ASCII', '"ÀÉ"', 'ÀÉ', NULL), ('beyond the BMP', '"😀"', '😀', NULL), ('combining', U&'"e\0301"', U&'e\0301', NULL), ('right to left', U&'"a\202Eb"', U&'a\202Eb', NULL),
    ('63 bytes', repeat('x', 63), repeat('x', 63), NULL), ('64 bytes', repeat('x', 64), NULL, '22023'), ('63 quoted', '"' || repeat('Y', 63) || '"', repeat('Y', 63), NULL), ('64 quoted', '"' || repeat('Y', 64) || '"', NULL, '22023'),
    ('62 bytes in 31 letters', repeat('ä', 31), repeat('ä', 31), NULL), ('64 bytes in 32 letters', repeat('ä', 32), NULL, '22023'), ('63 quotes', '"' || repeat('""', 63) || '"', repeat('"', 63), NULL), ('64 quotes', '"' || repeat('""', 64) || '"', NULL, '22023'),
    ('very long', repeat('x', 1000000), NULL, '22023'), ('very long quoted', '"' || repeat('x', 1000000) || '"', NULL, '22023'), ('many dots', repeat('a.', 100000) || 'a', NULL, '22023'), ('many quotes', repeat('"', 100000), NULL, '22023'),
    ('empty', '', NULL, '22023'), ('blank', '   ', NULL, '22023'), ('quoted empty', '""', NULL, '22023'), ('quoted blank', '" "', ' ', NULL), ('null', NULL, NULL, '22004'),
    ('newline', E'a\nb', NULL, '22023'), ('quoted newline', E'"a\nb"', NULL, '22023'), ('tab', E'"a\tb"', NULL, '22023'), ('control', E'"\x01"', NULL, '22023'), ('delete', '"' || chr(127) || '"', NULL, '22023'), ('C1 control', '"' || chr(133) || '"', NULL, '22023'), ('escape sequence', E'"\x1b[2J"', NULL, '22023'),
    ('no-break space', chr(160), NULL, '22023'), ('quoted no-break space', '"' || chr(160) || '"', chr(160), NULL), ('zero width', U&'"\200B"', U&'\200B', NULL),
    ('a NUL written out', '"\0"', '\0', NULL), ('another', '"\x00"', '\x00', NULL), ('another', '"\u0000"', '\u0000', NULL),
    ('leading digit', '1a', NULL, '22023'), ('quoted leading digit', '"1a"', '1a', NULL), ('a number', '42', NULL, '22023'), ('negative', '-1', NULL, '22023'), ('underscore', '_', '_', NULL), ('dollar inside', 'a$b', 'a$b', NULL), ('leading dollar', '$a', NULL, '22023'),
    ('open quote', '"a', NULL, '22023'), ('close quote', 'a"', NULL, '22023'), ('quote inside', 'a"b"', NULL, '22023'), ('two words', 'a b', NULL, '22023'), ('hyphen', 'a-b', NULL, '22023'), ('star', '*', NULL, '22023'), ('comment', 'a--b', NULL, '22023'),
    ('call', 'f()', NULL, '22023'), ('unicode escape', U&'U&"\005C0061"', NULL, '22023'), ('array', '{a}', NULL, '22023'), ('apostrophes', '''a''', NULL, '22023'), ('json', '{"a": 1}', NULL, '22023'),
    ('schema', 'dotted.plain', 'plain', NULL), ('folded schema', 'DOTTED.Plain', NULL, '42710'), ('quoted parts', '"odd ""Schema"""."odd Table"', 'odd Table', NULL), ('blanks around the dot', 'dotted . "T"', 'T', NULL),
    ('quoted dot is no schema', '"dotted.plain"', 'dotted.plain', NULL), ('no table', 'dotted.', NULL, '22023'), ('no schema', '.a', NULL, '22023'), ('three parts', 'a.b.c', NULL, '22023'), ('only dot', '.', NULL, '22023'), ('two dots', 'dotted..a', NULL, '22023'),
    ('unknown schema', 'nowhere.a', NULL, '3F000'), ('empty schema', '"".a', NULL, '22023'), ('catalog table', 'pg_catalog.pg_class', NULL, '42809'), ('catalog schema', 'pg_catalog.mine', NULL, '42809'), ('a catalog table''s name', 'pg_class', 'pg_class', NULL), ('quoted catalog', '"pg_catalog.pg_class"', 'pg_catalog.pg_class', NULL),
    ('information schema', 'information_schema.tables', NULL, '42809'), ('toast', 'pg_toast.pg_toast_1255', NULL, '42809'), ('temporary', 'pg_temp.a', NULL, '42809'), ('temporary by number', 'pg_temp_1.a', NULL, '42809'), ('qflow''s', 'qflow.queue', NULL, '42809'), ('in qflow''s', 'qflow.a', NULL, '42809'),
    ('folded system schema', 'PG_CATALOG.a', NULL, '42809'), ('almost a system schema', '"PG_CATALOG".a', NULL, '3F000'), ('an index', 'foo_pkey', NULL, '42809'), ('a sequence', 'foo_id_seq', NULL, '42809'), ('a view', 'pg_tables', 'pg_tables', NULL), ('a table', 'wanted', NULL, '42809'), ('oid of a table', 'foo'::text, NULL, '42710');

-- all that create_queue could leave behind
CREATE FUNCTION things() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_attribute), (SELECT count(*) FROM pg_proc),
    (SELECT count(*) FROM pg_type), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_depend), (SELECT count(*) FROM pg_namespace),
    (SELECT count(*) FROM pg_attrdef), (SELECT count(*) FROM pg_index), (SELECT count(*) FROM pg_description), (SELECT count(*) FROM pg_authid), (SELECT count(*) FROM pg_default_acl),
    (SELECT count(*) FROM qflow.queue), (SELECT count(*) FROM qflow.workflow), (SELECT count(*) FROM qflow.lease), (SELECT count(*) FROM qflow.floor), (SELECT count(*) FROM qflow.sweep)) $$;
-- what a call comes to
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    EXECUTE sql INTO answer;
    RETURN coalesce(answer, '-');
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
SELECT things() AS before \gset

CREATE TABLE got (nr int, code text, "table" text, changed boolean, used text);
DO $$
DECLARE w record; before text; code text; q text; id bigint; lease bigint; made regclass; flow text; steps text; name text;
BEGIN
    FOR w IN SELECT * FROM wanted ORDER BY nr LOOP
        before := things();
        made := NULL;
        steps := NULL;
        flow := 'w' || w.nr;
        code := NULL;
        BEGIN
            q := qflow.create_queue(w.name, workflow => flow);
            SELECT table_oid INTO made FROM qflow.queue ORDER BY number DESC LIMIT 1;
        EXCEPTION WHEN OTHERS THEN code := SQLSTATE; END;
        IF made IS NOT NULL THEN
            -- (what pg_catalog has too is found there, as by every statement)
            name := CASE WHEN w.name IN ('pg_class', 'pg_tables') THEN q ELSE w.name END;
            -- the name that was answered and the one that was given are one queue, all the way
            steps := concat_ws(' ', q = made::text OR q = 'public.' || made::text, qflow.create_queue(name, if_not_exists => true, workflow => flow) = q,
                qflow.create_queue(q, if_not_exists => true, workflow => flow) = q, qflow.alter_queue(name, retries => 7), qflow.pause_queue(q), qflow.resume_queue(name), qflow.create_workflow(flow || ' too', name));
            id := qflow.enqueue(name, '1');
            PERFORM qflow.enqueue_batch(q, '{2,3}');
            EXECUTE format('INSERT INTO %s (data) VALUES (''4'')', q);
            SELECT f.lease INTO lease FROM qflow.fetch(flow, 4) AS f LIMIT 1;
            steps := concat_ws(' ', steps, qflow.ack(flow, ARRAY[id], ARRAY[lease]), qflow.fail(flow, ARRAY[id + 1], ARRAY[lease]), qflow.requeue(flow, ARRAY[id + 2], ARRAY[lease]),
                qflow.release(flow, ARRAY[id + 3], ARRAY[lease]), qflow.retry_failed(name), qflow.purge_queue(q));
            steps := concat_ws(' ', steps, (SELECT bool_and(ok) FROM qflow.verify(name)), (SELECT pending FROM qflow.queue_stats AS s WHERE s.queue = q), (SELECT count(*) FROM qflow.workflow_status AS s WHERE s.queue = q));
        END IF;
        INSERT INTO got VALUES (w.nr, code, (SELECT relname FROM pg_class WHERE oid = made), before IS DISTINCT FROM things(), steps);
    END LOOP;
END $$;
SELECT title, CASE WHEN length(name) > 130 THEN left(name, 10) || '… ' || length(name) ELSE regexp_replace(name, '[[:cntrl:]\u0080-\u009f\u202e]', '?', 'g') END AS name, g.code, left(regexp_replace(g."table", '\u202e', '?'), 20) AS "table", changed, used
FROM wanted AS w JOIN got AS g USING (nr) ORDER BY nr;
-- as it must be
SELECT w.title, w."table" AS must_be, w.code AS must_raise, g."table", g.code FROM wanted AS w JOIN got AS g USING (nr)
WHERE w."table" IS DISTINCT FROM g."table" OR w.code IS DISTINCT FROM g.code OR (g.code IS NOT NULL) = g.changed OR used IS DISTINCT FROM (SELECT used FROM got WHERE nr = 1) AND used IS NOT NULL;

-- a name that is refused is refused by every function that takes one, and so is one that nobody has
CREATE TABLE call (sql text);
INSERT INTO call SELECT format('SELECT %s FROM qflow.%I(%%L%s) AS f', CASE WHEN p.proretset THEN 'count(*)' ELSE 'f' END, p.proname,
    concat(VARIADIC (SELECT coalesce(array_agg(', ' || CASE format_type(t, NULL) WHEN 'text' THEN '''foo''' WHEN 'jsonb' THEN CASE p.proargnames[at] WHEN 'outcomes' THEN '''[{"id": 1, "lease": 1, "outcome": "ack"}]''' ELSE '''{}''' END
        WHEN 'jsonb[]' THEN '''{1}''' WHEN 'bigint[]' THEN '''{1}''' WHEN 'bigint' THEN '1' ELSE 'false' END ORDER BY at), '{}')
        FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, at) WHERE at > 1 AND at <= p.pronargs - p.pronargdefaults)))
FROM pg_proc AS p WHERE p.pronamespace = 'qflow'::regnamespace AND p.proargnames[1] IN ('queue', 'workflow') AND p.pronargs > 0 AND p.proargtypes[0] = 'text'::regtype AND p.prokind = 'f';
SELECT things() AS before \gset
SELECT split_part(split_part(sql, 'qflow.', 2), '(', 1) AS function,
    string_agg(DISTINCT try(format(c.sql, w.name)), ' ') FILTER (WHERE w.code = '22023') AS refused, string_agg(DISTINCT try(format(c.sql, w.name)), ' ') FILTER (WHERE w.code IN ('42809', '3F000') OR w.title = 'nobody''s') AS unknown
FROM call AS c CROSS JOIN (SELECT title, name, code FROM wanted UNION ALL SELECT 'nobody''s', 'nobodys', NULL) AS w
WHERE (w.code IN ('22023', '42809', '3F000') OR w.title = 'nobody''s') AND sql !~ 'create_queue' GROUP BY c.sql ORDER BY 1;
SELECT :'before' = things() AS unchanged;

-- workflows: any plain name of 1 to 63 bytes, taken as it is; two that differ in a letter are two
CREATE TABLE flow (nr int GENERATED ALWAYS AS IDENTITY, title text, name text, code text);
INSERT INTO flow (title, name, code) VALUES ('lower', 'flow', NULL), ('upper', 'FLOW', NULL), ('the same', 'flow', '42710'), ('quoted', '"flow"', NULL), ('quote', 'it''s', NULL), ('blank inside', 'a b', NULL), ('leading blank', ' a', NULL), ('blank', ' ', NULL),
    ('dot', 'a.b', NULL), ('catalog', 'pg_catalog.pg_class', NULL), ('digits', '42', NULL), ('backslash', 'a\b', NULL), ('statement', '''); DROP TABLE wanted; --', NULL), ('dollar', '$1', NULL), ('percent', '%s', NULL), ('json', '{"gpu": 1}', NULL),
    ('letters', 'größe', NULL), ('beyond the BMP', '😀', NULL), ('composed', U&'\00E9', NULL), ('decomposed', U&'e\0301', NULL), ('63 bytes', repeat('x', 63), NULL), ('64 bytes', repeat('x', 64), '22023'), ('64 bytes in 32 letters', repeat('ä', 32), '22023'), ('very long', repeat('x', 1000000), '22023'),
    ('empty', '', '22023'), ('null', NULL, '22004'), ('newline', E'a\nb', '22023'), ('control', E'\x01', '22023'), ('delete', chr(127), '22023'), ('C1 control', chr(133), '22023'), ('a NUL written out', '\u0000', NULL);
SELECT qflow.create_queue('flows', workflow => 'w');
CREATE TABLE flow_got (nr int, code text, used text);
DO $$
DECLARE w record; code text; steps text; lease bigint; id bigint;
BEGIN
    FOR w IN SELECT * FROM flow ORDER BY nr LOOP
        code := NULL;
        steps := NULL;
        BEGIN
            PERFORM qflow.create_workflow(w.name, 'flows', retries => w.nr);
        EXCEPTION WHEN OTHERS THEN code := SQLSTATE; END;
        IF code IS NULL THEN
            id := qflow.enqueue('flows', '1');
            SELECT f.lease, f.max_attempts = w.nr + 1 INTO lease, steps FROM qflow.fetch(w.name, 1) AS f;
            steps := concat_ws(' ', steps, (SELECT count(*) FROM qflow.lease_status AS s WHERE s.workflow = w.name), (SELECT count(*) FROM qflow.workflow_status AS s WHERE s.workflow = w.name),
                qflow.ack(w.name, ARRAY[id], ARRAY[lease]), qflow.alter_workflow(w.name, timeout_ms => 7), qflow.pause_workflow(w.name), qflow.resume_workflow(w.name), qflow.create_workflow(w.name, 'flows', if_not_exists => true));
        END IF;
        INSERT INTO flow_got VALUES (w.nr, code, steps);
    END LOOP;
END $$;
SELECT title, g.code, used FROM flow AS w JOIN flow_got AS g USING (nr) ORDER BY nr;
SELECT title, w.code AS must_raise, g.code FROM flow AS w JOIN flow_got AS g USING (nr) WHERE w.code IS DISTINCT FROM g.code;
SELECT count(*) AS workflows, count(*) FILTER (WHERE qflow.drop_workflow(workflow)) AS dropped FROM qflow.workflow_status WHERE queue = 'public.flows' AND workflow <> 'w';
SELECT qflow.drop_queue('flows', false);

-- (a text cannot hold a NUL: PostgreSQL refuses it before any function is called)
\set VERBOSITY sqlstate
SELECT qflow.create_queue('a' || chr(0));
SELECT qflow.create_workflow(E'a\0b', 'foo');
SELECT qflow.create_queue(U&'a\0000');
\set VERBOSITY default

-- names in hints: resources and workers
CREATE TABLE hint (nr int GENERATED ALWAYS AS IDENTITY, hints jsonb);
INSERT INTO hint (hints) SELECT jsonb_build_object(name, 1) FROM (VALUES (''), (' '), ('GPU'), ('gpu '), ('"gpu"'), ('gpu.0'), ('größe'), ('😀'), ('pg_catalog.pg_class'), ('it''s; DROP TABLE wanted'), (repeat('x', 63)), (repeat('x', 64)), (E'a\nb'), (E'\x01'), ('__proto__'), ('$1'), ('\u0000')) AS n (name);
INSERT INTO hint (hints) SELECT jsonb_build_object('worker', name) FROM (VALUES (''), (' '), ('Worker'), ('"w"'), ('größe'), ('😀'), ('it''s; DROP TABLE wanted'), (repeat('x', 63)), (repeat('x', 64)), (E'a\nb'), (E'\x01'), ('\u0000')) AS n (name);
SELECT qflow.pause_workflow('w1');
SELECT regexp_replace(left(hints::text, 40), '[[:cntrl:]]', '?', 'g') AS hints, try(format('SELECT count(*) FROM qflow.fetch(''w1'', 1, NULL, %L)', hints)) AS fetch, try(format('SELECT qflow.create_workflow(''hinted %s'', ''foo'', resource_hints => %L)', nr, hints)) AS create_workflow
FROM hint ORDER BY nr;

-- roles: an owner with a name that is hard to write
CREATE ROLE "ro""le; DROP TABLE wanted; --";
CREATE ROLE "Größe 😀";
GRANT CREATE, USAGE ON SCHEMA dotted TO "ro""le; DROP TABLE wanted; --";
GRANT USAGE ON SCHEMA dotted TO "Größe 😀";
SET ROLE "ro""le; DROP TABLE wanted; --";
SELECT qflow.create_queue('dotted.theirs', workflow => 'theirs', retries => 0);
GRANT SELECT, UPDATE ON dotted.theirs TO "Größe 😀";
SELECT qflow.enqueue('dotted.theirs', '1');
SET ROLE "Größe 😀";
SELECT count(*) FROM qflow.fetch('theirs', hints => '{"timeout_ms": 1}');
RESET ROLE;
UPDATE qflow.lease SET deadline = now() - interval '1 hour';
SELECT queue, returned, failed FROM qflow.reap() WHERE queue = 'dotted.theirs';
SELECT count(*) FROM qflow.verify('dotted.theirs') WHERE NOT ok;
SELECT qflow.drop_queue('dotted.theirs', false);

-- away with all of them: nothing is left, and the bystanders are there
SELECT count(*), bool_and(qflow.drop_queue(q, false)) FROM (SELECT queue AS q FROM qflow.queue_stats) AS s;
SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'S', 'v') AND relnamespace IN ('public'::regnamespace, 'dotted'::regnamespace, '"odd ""Schema"""'::regnamespace);
SELECT count(*) FROM wanted WHERE name IS NOT NULL;
SELECT (SELECT count(*) FROM qflow.queue), (SELECT count(*) FROM qflow.workflow), (SELECT count(*) FROM qflow.lease), (SELECT count(*) FROM qflow.floor), (SELECT count(*) FROM qflow.sweep);
REVOKE ALL ON SCHEMA dotted FROM "ro""le; DROP TABLE wanted; --", "Größe 😀";
DROP ROLE "ro""le; DROP TABLE wanted; --";
DROP ROLE "Größe 😀";
