-- A consumer in plain psql, for a look or for a cron job: fetches, works, settles, until nothing is left.
--
--     psql -X -v workflow=mail -f consumer.sql
--
-- What to know of psql:
-- - Each statement is a transaction of its own, as it should be: do not run this with --single-transaction. The fetch must be
--   committed before the work begins, or the jobs are locked and not leased.
-- - CALL qflow.wait() is refused in a transaction block (25001) for the same reason.
-- - ON_ERROR_STOP ends the script at the first error; its jobs come back when their lease ends.
-- - Variables (:'workflow') are not replaced inside of $$ … $$: a DO block cannot see them.
-- - There is no heartbeat: hints ask for a lease that is long enough for the work.
\set ON_ERROR_STOP on
\set QUIET on
\pset format unaligned
\pset tuples_only on
\if :{?workflow}
\else
  \warn 'which workflow? psql -v workflow=NAME -f consumer.sql'
  \quit
\endif

-- Waits for work, for a second at most.
CALL qflow.wait(:'workflow', 1000);

-- Sixteen jobs, under a lease of a minute. A temporary table keeps what was fetched, and the fetch is committed with it.
CREATE TEMPORARY TABLE fetched AS
SELECT id, lease, data FROM qflow.fetch(:'workflow', 16, hints => '{"timeout_ms": 60000}');

-- The work: here, one line for each job.
SELECT 'job ' || id || ': ' || (data::text) FROM fetched ORDER BY id;

-- Done. Jobs whose lease has ended meanwhile are not counted: others have them.
SELECT 'completed: ' || qflow.ack(:'workflow', array_agg(id), array_agg(lease)) FROM fetched HAVING count(*) > 0;
