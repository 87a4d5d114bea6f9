-- surface: what users see of the schema qflow: every function with its exact arguments and result, the views' columns,
-- who may execute, that nothing is SECURITY DEFINER, and that everything public has a comment worth reading.
SET qflow.sweep = off;
\pset format unaligned
\pset tuples_only on

-- the functions, and the procedure, which has no result
SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')' || coalesce(' → ' || pg_get_function_result(p.oid), '')
FROM pg_proc AS p WHERE p.pronamespace = 'qflow'::regnamespace ORDER BY p.proname COLLATE "C";

-- no overloads, nothing but plain functions in C and one procedure, none strict
SELECT 'overloaded', p.proname FROM pg_proc AS p WHERE p.pronamespace = 'qflow'::regnamespace
GROUP BY p.proname HAVING count(*) > 1;
SELECT 'other kind', p.proname, p.prokind, l.lanname, p.proisstrict
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'qflow'::regnamespace AND (p.prokind <> 'f' OR l.lanname <> 'c' OR p.proisstrict);

-- volatile and parallel unsafe, but for the default of enqueued_xid: stable, so that COPY keeps its multi-insert
SELECT p.proname, p.provolatile, p.proparallel FROM pg_proc AS p
WHERE p.pronamespace = 'qflow'::regnamespace AND (p.provolatile <> 'v' OR p.proparallel <> 'u');

-- no arguments but these types: every driver passes them without casts
SELECT DISTINCT t.typname FROM pg_proc AS p CROSS JOIN LATERAL unnest(p.proargtypes) AS a (type) JOIN pg_type AS t ON t.oid = a.type
WHERE p.pronamespace = 'qflow'::regnamespace ORDER BY 1;

-- required arguments have no default, and what has one is NULL or a plain value
SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = 'qflow'::regnamespace AND pg_get_expr(p.proargdefaults, 0) ~ '[(]';

-- nothing is SECURITY DEFINER, nothing pins settings
SELECT p.proname, p.prosecdef, p.proconfig FROM pg_proc AS p
WHERE p.pronamespace = 'qflow'::regnamespace AND (p.prosecdef OR p.proconfig IS NOT NULL);

-- everybody may execute everything but what changes or takes away resources, see the views and the registry, and use the schema; nobody writes qflow's tables
CREATE ROLE surface_nobody;
SELECT 'not executable', p.proname FROM pg_proc AS p
WHERE p.pronamespace = 'qflow'::regnamespace AND NOT has_function_privilege('surface_nobody', p.oid, 'EXECUTE') ORDER BY p.proname;
SELECT has_schema_privilege('surface_nobody', 'qflow', 'USAGE') AS usage, has_schema_privilege('surface_nobody', 'qflow', 'CREATE') AS create;
SELECT c.relkind, c.relname, has_table_privilege('surface_nobody', c.oid, 'SELECT') AS read,
    has_table_privilege('surface_nobody', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS write
FROM pg_class AS c WHERE c.relnamespace = 'qflow'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY c.relname COLLATE "C";
SELECT c.relname, has_sequence_privilege('surface_nobody', c.oid, 'SELECT') AS read,
    has_sequence_privilege('surface_nobody', c.oid, 'USAGE, UPDATE') AS draw
FROM pg_class AS c WHERE c.relnamespace = 'qflow'::regnamespace AND c.relkind = 'S' ORDER BY c.relname COLLATE "C";
DROP ROLE surface_nobody;

-- the views' columns
SELECT c.relname || '(' || string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) || ')'
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'qflow'::regnamespace AND c.relkind = 'v' GROUP BY c.relname ORDER BY c.relname COLLATE "C";

-- a queue's table: columns, defaults, constraints, indexes, triggers, storage
SELECT qflow.create_queue('public.jobs');
SELECT a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END, a.attidentity,
    regexp_replace(pg_get_expr(d.adbin, d.adrelid), '\d{2,}', 'N')
FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = 'jobs'::regclass AND a.attnum > 0 ORDER BY a.attname COLLATE "C";
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'jobs'::regclass AND contype IN ('c', 'p', 'u')
ORDER BY conname COLLATE "C";
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'jobs'::regclass ORDER BY pg_get_indexdef(indexrelid) COLLATE "C";
SELECT tgname, tgenabled, tgtype FROM pg_trigger WHERE tgrelid = 'jobs'::regclass AND NOT tgisinternal ORDER BY tgname COLLATE "C";
SELECT unnest(reloptions) FROM pg_class WHERE oid = 'jobs'::regclass ORDER BY 1;

-- no index or partial predicate mentions a column that a first claim or an ack changes: both are HOT updates
SELECT i.indexrelid::regclass, a.attname FROM pg_index AS i
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname IN ('status', 'attempt', 'lease', 'updated_at')
WHERE i.indrelid = 'jobs'::regclass AND (a.attnum = ANY (i.indkey) OR pg_get_indexdef(i.indexrelid) ~ ('\m' || a.attname || '\M'));

-- it belongs to whoever made it, not to the extension
SELECT count(*) FROM pg_depend WHERE objid = 'jobs'::regclass AND deptype IN ('e', 'x');

-- the settings
SELECT name, unit, vartype, context, boot_val FROM pg_settings
WHERE name LIKE 'qflow.%' AND context <> 'postmaster' ORDER BY name COLLATE "C";
SELECT 'no description', name FROM pg_settings WHERE name LIKE 'qflow.%' AND coalesce(length(short_desc), 0) < 20;

-- what lacks a comment of 60 characters or more: nothing
SELECT 'function', p.proname FROM pg_proc AS p
WHERE p.pronamespace = 'qflow'::regnamespace AND coalesce(length(obj_description(p.oid, 'pg_proc')), 0) < 60
UNION ALL
SELECT 'relation', c.relname FROM pg_class AS c
WHERE c.relnamespace = 'qflow'::regnamespace AND c.relkind IN ('r', 'v', 'S', 'm', 'p', 'f')
    AND coalesce(length(obj_description(c.oid, 'pg_class')), 0) < 60
UNION ALL
SELECT 'schema', n.nspname FROM pg_namespace AS n
WHERE n.nspname = 'qflow' AND coalesce(length(obj_description(n.oid, 'pg_namespace')), 0) < 60
UNION ALL
SELECT 'extension', e.extname FROM pg_extension AS e
WHERE e.extname = 'qflow' AND coalesce(length(obj_description(e.oid, 'pg_extension')), 0) < 40
ORDER BY 1, 2;
