-- Run by tools/test.sh after each golden and isolation test, in the database of that test: prints every check of
-- qflow.verify() that is not well, for every queue whose table exists. No output means that all is well.
\set ON_ERROR_STOP on
SELECT to_regclass('qflow.queue') IS NOT NULL AS installed \gset
\if :installed
SELECT q.table_oid AS queue, v.check_name, v.detail, v.remedy
FROM qflow.queue AS q
JOIN pg_catalog.pg_class AS c ON c.oid = q.table_oid
CROSS JOIN LATERAL qflow.verify(q.table_oid::text) AS v
WHERE NOT v.ok;
\endif
