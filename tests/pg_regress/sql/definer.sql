-- definer: no function of qflow lends its owner's rights, and what a user's table calls by itself (defaults, CHECKs,
-- generated columns, index expressions, triggers) everybody may execute: else a plain INSERT would need more than INSERT.
\pset format unaligned
\pset tuples_only on
SELECT 'security definer', p.oid::regprocedure FROM pg_proc AS p
WHERE (p.pronamespace = 'qflow'::regnamespace OR p.probin LIKE '%qflow%'
    OR EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass WHERE e.extname = 'qflow' AND d.classid = 'pg_proc'::regclass AND d.objid = p.oid))
    AND p.prosecdef;
SELECT count(*) > 20 AS looked_at FROM pg_proc WHERE pronamespace = 'qflow'::regnamespace;
-- views that the viewer reads with their owner's rights show functions only, which look for themselves
SELECT 'reads tables', v.oid::regclass, d.refobjid::regclass FROM pg_class AS v JOIN pg_rewrite AS r ON r.ev_class = v.oid
JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.oid
WHERE v.relnamespace = 'qflow'::regnamespace AND v.relkind = 'v';

-- a role that was given nothing but INSERT, and a queue of each kind
CREATE ROLE definer_nobody;
SELECT qflow.create_queue('q');
SELECT qflow.create_queue('d', on_complete => 'delete', workflow => 'd');
GRANT INSERT ON q, d TO definer_nobody;
-- the functions that these tables call, wherever the catalog notes it
CREATE FUNCTION called() RETURNS TABLE (by text, function regprocedure) LANGUAGE sql AS $$
    WITH RECURSIVE tables AS (SELECT table_oid::oid AS oid FROM qflow.queue), callers AS (
        SELECT 'pg_attrdef'::regclass AS class, oid, 'default' AS by FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM tables)
        UNION ALL SELECT 'pg_constraint', oid, 'constraint' FROM pg_constraint WHERE conrelid IN (SELECT oid FROM tables)
        UNION ALL SELECT 'pg_class', indexrelid, 'index' FROM pg_index WHERE indrelid IN (SELECT oid FROM tables)
        UNION ALL SELECT 'pg_trigger', oid, 'trigger' FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM tables)
        UNION ALL SELECT 'pg_policy', oid, 'policy' FROM pg_policy WHERE polrelid IN (SELECT oid FROM tables)
        UNION ALL SELECT 'pg_rewrite', oid, 'rule' FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM tables))
    SELECT DISTINCT c.by, d.refobjid::regprocedure FROM callers AS c JOIN pg_depend AS d ON d.classid = c.class AND d.objid = c.oid AND d.refclassid = 'pg_proc'::regclass $$;
SELECT * FROM called() WHERE function::text ~ '^qflow' ORDER BY 1, 2::text;
SELECT 'not executable by everybody', * FROM called() WHERE NOT has_function_privilege('definer_nobody', function, 'EXECUTE');
-- so are the triggers of the registry
SELECT 'not executable by everybody', t.tgfoid::regprocedure FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'qflow'::regnamespace AND NOT t.tgisinternal AND NOT has_function_privilege('definer_nobody', t.tgfoid, 'EXECUTE');
SET ROLE definer_nobody;
INSERT INTO q (data) VALUES ('1');
INSERT INTO d (data, enqueued_xid) VALUES ('1', '3');
RESET ROLE;
SELECT available_at IS NOT NULL AS returned FROM d;
DROP FUNCTION called;
SELECT qflow.drop_queue('q', false), qflow.drop_queue('d', false);
DROP ROLE definer_nobody;
