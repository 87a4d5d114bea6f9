-- arguments: every function × every argument × awkward values. Each call either works or raises a SQLSTATE of the
-- contract; where the contract names the one, it is that one. All is generated from pg_proc: a new function is tested too.
-- (A procedure that lets go of its transaction cannot be tried like this; see wait.)
SET qflow.sweep = off;
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT qflow.create_queue('q');
SELECT qflow.create_workflow('w', 'q');
SELECT qflow.create_queue('adopted');
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 4);
SELECT count(*) FROM qflow.fetch('w', 3);

-- what a call looks like where nothing is wrong with it, by the name of the argument
CREATE TABLE usual (argument text PRIMARY KEY, value text);
INSERT INTO usual VALUES
    ('queue', '''q'''), ('workflow', '''w'''), ('data', '''{}'''), ('metadata', '''{}'''), ('ids', 'ARRAY[1]'),
    ('leases', '(SELECT array_agg(lease) FROM qflow.lease_status)'), ('outcomes', '''[]'''),
    ('role', '''pg_monitor'''), ('resource', '''gpu'''), ('capacity', '1'), ('lease', '(SELECT min(lease) FROM qflow.lease_status)');

-- what is tried, by type; the SQLSTATE that must come, if the contract names one ('any': ok or one of the contract's)
CREATE TABLE awkward (type text, value text, must text);
INSERT INTO awkward VALUES
    ('bigint', '(-1)', '22023'), ('bigint', '(-9223372036854775808)', '22023'), ('bigint', '0', 'zero'), ('bigint', '1', 'any'),
    ('bigint', '2147483646', 'any'), ('bigint', '2147483647', 'any'), ('bigint', '2147483648', 'any'),
    ('bigint', '4294967297', 'any'), ('bigint', '9007199254740993', 'any'), ('bigint', '9223372036854775806', 'any'),
    ('bigint', '9223372036854775807', 'any'),
    ('bigint[]', '''{}''', 'ok'), ('bigint[]', '''{NULL}''', '22004'), ('bigint[]', '''{1,NULL}''', '22004'),
    ('bigint[]', '''{{1,2},{3,4}}''', '22023'), ('bigint[]', '''{{1}}''', '22023'), ('bigint[]', '''{{{1}}}''', '22023'),
    ('bigint[]', '''{{NULL}}''', 'any'), ('bigint[]', '''[5:6]={1,2}''', 'any'), ('bigint[]', '''[-1:0]={1,1}''', 'any'),
    ('bigint[]', '''{0}''', 'any'), ('bigint[]', '''{-1}''', 'any'), ('bigint[]', '''{9223372036854775807}''', 'any'),
    ('bigint[]', '''{-9223372036854775808,9223372036854775807}''', 'any'),
    ('bigint[]', '(SELECT array_agg(1) FROM generate_series(1, 100001))', '54000'),
    ('jsonb[]', '''{}''', 'any'), ('jsonb[]', '''{NULL}''', '22004'), ('jsonb[]', '''{"{}",NULL}''', '22004'),
    ('jsonb[]', '''{{1,2},{3,4}}''', '22023'), ('jsonb[]', '''{{1}}''', '22023'), ('jsonb[]', '''{null}''', '22004'),
    ('jsonb[]', 'ARRAY[''null''::jsonb]', 'any'), ('jsonb[]', '''[5:5]={1}''', 'any'),
    ('jsonb[]', '(SELECT array_agg(''{}''::jsonb) FROM generate_series(1, 100001))', '54000'),
    ('jsonb', '''{}''', 'any'), ('jsonb', '''[]''', 'any'), ('jsonb', '''7''', 'any'), ('jsonb', '''"x"''', 'any'),
    ('jsonb', '''null''', 'any'), ('jsonb', '''true''', 'any'), ('jsonb', '''""''', 'any'), ('jsonb', '''[[1], null]''', 'any'),
    ('jsonb', '''{"": 1}''', 'any'), ('jsonb', '''{"a": {"a": {"a": {}}}}''', 'any'), ('jsonb', '''{"timeout_ms": 1e400}''', 'any'),
    ('jsonb', '''{"timeout_ms": -1}''', 'any'), ('jsonb', '''{"timeout_ms": 0}''', 'any'), ('jsonb', '''{"timeout_ms": 1.5}''', 'any'),
    ('jsonb', '''{"timeout_ms": "1"}''', 'any'), ('jsonb', '''{"timeout_ms": 9223372036854775807}''', 'any'),
    ('jsonb', '''{"timeout_ms": null, "wait_ms": null, "on_busy": null, "hold": null, "bind": null, "worker": null}''', 'any'),
    ('jsonb', '''{"wait_ms": -1}''', 'any'), ('jsonb', '''{"wait_ms": 99999999999999999999}''', 'any'),
    ('jsonb', '''{"on_busy": "x"}''', 'any'), ('jsonb', '''{"hold": 7}''', 'any'), ('jsonb', '''{"bind": "session"}''', 'any'),
    ('jsonb', '''{"hold": "session"}''', 'any'), ('jsonb', '''{"worker": ""}''', 'any'), ('jsonb', '''{"worker": "a\nb"}''', 'any'),
    ('jsonb', 'jsonb_build_object(''worker'', repeat(''x'', 64))', 'any'), ('jsonb', '''{"gpu": 1}''', 'any'),
    ('jsonb', '''{"gpu": false}''', 'any'), ('jsonb', '''{"gpu": null}''', 'any'), ('jsonb', '''{"gpu": []}''', 'any'),
    ('jsonb', '''{"gpu": [0, 0]}''', 'any'), ('jsonb', '''{"gpu": [-1]}''', 'any'), ('jsonb', '''{"nosuch": 0}''', 'any'),
    ('jsonb', '(SELECT jsonb_object_agg(''r'' || i, 1) FROM generate_series(1, 100) AS i)', 'any'),
    ('jsonb', 'to_jsonb(repeat(''x'', 100000))', 'any'), ('jsonb', '(repeat(''['', 1000) || repeat('']'', 1000))::jsonb', 'any'),
    ('jsonb', 'jsonb_build_array(jsonb_build_object(''id'', 1, ''lease'', 1, ''outcome'', ''ack''))', 'any'),
    ('jsonb', '(SELECT jsonb_agg(jsonb_build_object(''id'', i, ''lease'', 1, ''outcome'', ''ack'')) FROM generate_series(1, 100001) AS i)', 'any'),
    ('text', '''''', 'any'), ('text', ''' ''', 'any'), ('text', '''nosuch''', 'any'), ('text', 'repeat(''x'', 63)', 'any'),
    ('text', 'repeat(''x'', 64)', 'any'), ('text', 'repeat(''x'', 1000000)', 'any'), ('text', 'repeat(chr(228), 32)', 'any'),
    ('text', 'E''a\nb''', 'any'), ('text', 'E''\x01''', 'any'), ('text', 'chr(127)', 'any'), ('text', 'chr(133)', 'any'), ('text', '''.''', 'any'),
    ('text', '''a.''', 'any'), ('text', '''a.b.c''', 'any'), ('text', '''"''', 'any'), ('text', '''""''', 'any'), ('text', '''"Q"''', 'any'),
    ('text', '''nosuch.q''', 'any'), ('text', '''PUBLIC.Q''', 'any'), ('text', '''q; DROP TABLE q''', 'any'), ('text', '''usual''', 'any'),
    ('text', '''pg_catalog.pg_class''', 'any'), ('text', '''qflow.queue''', 'any'), ('text', '''qflow.new''', 'any'),
    ('text', '''information_schema.new''', 'any'), ('text', '''pg_temp.new''', 'any'), ('text', '''pg_toast.new''', 'any'),
    ('text', '''q_pkey''', 'any'), ('text', '''q_id_seq''', 'any'), ('text', '''1''', 'any'), ('text', '''pending''', 'any'),
    ('text', '''keep''', 'any'), ('text', '''delete''', 'any'), ('text', '''in_progress''', 'any'), ('text', '''w''', 'any'), ('text', '''q''', 'any'),
    ('boolean', 'true', 'any'), ('boolean', 'false', 'any');
INSERT INTO awkward SELECT type, 'NULL', 'null' FROM (SELECT DISTINCT type FROM awkward) AS t;

CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE sql;
    RAISE EXCEPTION USING ERRCODE = 'QFOK1';
EXCEPTION WHEN OTHERS THEN RETURN CASE SQLSTATE WHEN 'QFOK1' THEN 'ok' ELSE SQLSTATE END; END $$;

CREATE TABLE answer (function text, argument text, value text, got text, must text);

DO $$
DECLARE
    f record; a record; v record; call text; got text; must text;
BEGIN
    FOR f IN
        SELECT p.oid, p.proname::text AS name, p.pronargs - p.pronargdefaults AS required,
            p.proargnames[1:p.pronargs] AS names, ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t) AS types
        FROM pg_proc AS p WHERE p.pronamespace = 'qflow'::regnamespace AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype
            AND p.pronargs > 0 AND p.proname <> 'enqueued_xid'
        ORDER BY p.proname
    LOOP
        FOR a IN SELECT n.at, n.name, f.types[n.at] AS type FROM unnest(f.names) WITH ORDINALITY AS n (name, at) LOOP
            FOR v IN SELECT * FROM awkward WHERE type = a.type LOOP
                -- the required arguments as usual, but this one awkward
                SELECT format('SELECT count(*) FROM qflow.%I(%s)', f.name, string_agg(format('%I => %s::%s', f.names[i],
                    CASE WHEN i = a.at THEN v.value
                        WHEN f.name = 'create_queue' AND f.names[i] = 'queue' THEN '''new'''
                        WHEN f.name = 'create_workflow' AND f.names[i] = 'workflow' OR f.name = 'create_resource' AND f.names[i] = 'resource' THEN '''new'''
                        WHEN f.types[i] = 'jsonb[]' THEN '''{"{}"}'''
                        ELSE u.value END, f.types[i]), ', '))
                INTO call
                FROM generate_subscripts(f.names, 1) AS i LEFT JOIN usual AS u ON u.argument = f.names[i]
                WHERE i <= f.required OR i = a.at;
                got := try(call);
                must := CASE v.must
                    -- a required argument must not be NULL; what has a default may
                    WHEN 'null' THEN CASE WHEN a.at <= f.required THEN '22004' ELSE 'ok' END
                    WHEN 'zero' THEN CASE WHEN a.name IN ('retries', 'delay_ms', 'retry_delay_ms', 'older_than_ms', 'priority', 'capacity') THEN 'ok' ELSE '22023' END
                    -- no leases for an id
                    WHEN 'ok' THEN CASE WHEN a.name = 'leases' AND f.name <> 'extend' THEN '22023' ELSE 'ok' END
                    ELSE v.must END;
                INSERT INTO answer VALUES (f.name, a.name, v.value, got, must);
            END LOOP;
        END LOOP;
    END LOOP;
END $$;

-- how many calls there were, and those that answered something else
SELECT count(DISTINCT function) AS functions, count(DISTINCT (function, argument)) AS arguments, count(*) AS calls FROM answer;
SELECT function, argument, left(value, 60) AS value, got, must FROM answer
WHERE must <> 'any' AND got <> must
    OR got NOT IN ('ok', '22023', '22004', '42704', '42710', '42809', '42501', '0A000', '55000', '55P03', '25001', '54000', '53400')
        -- PostgreSQL's own, from CREATE TABLE: no such schema
        AND NOT (function = 'create_queue' AND value = '''nosuch.q''' AND got = '3F000')
ORDER BY function, argument, value COLLATE "C";

-- what the numbers may be: the largest values that are accepted
SELECT argument, string_agg(DISTINCT value || ': ' || got, ', ' ORDER BY value || ': ' || got) AS answers
FROM answer WHERE value IN ('9223372036854775807', '2147483648', '2147483647') GROUP BY argument ORDER BY argument COLLATE "C";

-- nothing of all that stayed
SELECT status, count(*) FROM q GROUP BY status ORDER BY status;
SELECT count(*) FROM qflow.queue;
SELECT count(*) FROM qflow.workflow;
SELECT jobs, unsettled FROM qflow.lease_status;
