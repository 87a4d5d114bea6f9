-- What an owner may do to his table: a column that is gone or of another type is an error that names it, never memory
-- read as something else; and a pass that is cancelled leaves the session usable.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET qflow.sweep = off;
SELECT qflow.create_queue('q');
SELECT qflow.create_queue('gone');
INSERT INTO q (data) VALUES ('1');
ALTER TABLE q DROP COLUMN metadata;
SELECT id FROM qflow.fetch('q');
ALTER TABLE q ADD COLUMN metadata int DEFAULT 7;
SELECT id FROM qflow.fetch('q');
SELECT check_name, ok, detail FROM qflow.verify('q');
SELECT queue, pending FROM qflow.queue_stats ORDER BY 1;
SELECT workflow, queue, timeout_ms, in_flight, leases FROM qflow.workflow_status ORDER BY 1;
ALTER TABLE q DROP COLUMN metadata;
-- What verify says to do is what mends it.
SELECT remedy FROM qflow.verify('q') WHERE check_name = 'columns' \gexec
SELECT remedy FROM qflow.verify('q') WHERE check_name = 'constraints' \gexec
SELECT check_name FROM qflow.verify('q') WHERE NOT ok;
SELECT id FROM qflow.fetch('q', 1, 1, '{"timeout_ms": 1}');
-- A trigger that takes too long, in the middle of a reap.
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN new; END';
CREATE TRIGGER dawdle BEFORE UPDATE ON q FOR EACH ROW EXECUTE FUNCTION dawdle();
SET statement_timeout = '300ms';
SELECT queue, returned, failed FROM qflow.reap();
SELECT 'the session goes on' AS so;
BEGIN;
SELECT queue, returned, failed FROM qflow.reap();
ROLLBACK;
RESET statement_timeout;
DROP TRIGGER dawdle ON q;
SELECT queue, returned, failed FROM qflow.reap();
-- A renamed schema is followed.
CREATE SCHEMA old;
SELECT qflow.create_queue('old.r');
INSERT INTO old.r (data) VALUES ('1'), ('2');
SELECT id FROM qflow.fetch('r', 1);
ALTER SCHEMA old RENAME TO new;
SELECT id FROM qflow.fetch('r', 1);
-- An attempt counter at its end stops nobody.
UPDATE new.r SET status = 'pending', attempt = 2147483647 WHERE id = 1;
SELECT id, attempt FROM qflow.fetch('r', 5);
-- Views and verify lock a queue's table as any SELECT does, and no more.
BEGIN;
SELECT count(*) FROM qflow.queue_stats;
SELECT count(*) FROM qflow.workflow_status;
SELECT count(*) FROM qflow.lease_status;
SELECT bool_and(ok) FROM qflow.verify('new.r');
SELECT relation::regclass, mode FROM pg_locks
    WHERE pid = pg_backend_pid() AND relation IN ('q'::regclass, 'new.r'::regclass) ORDER BY 1, 2;
COMMIT;
-- A queue that its owner cannot reach (no USAGE on the schema) is shown without numbers, and hides no other.
CREATE ROLE broken_owner;
INSERT INTO gone (data) VALUES ('1');
SELECT count(*) FROM qflow.fetch('gone');
ALTER TABLE new.r OWNER TO broken_owner;
SELECT queue, pending, in_progress FROM qflow.queue_stats ORDER BY queue;
SELECT workflow, in_flight, leases FROM qflow.workflow_status ORDER BY workflow;
SELECT workflow, jobs, unsettled FROM qflow.lease_status ORDER BY workflow, jobs;
-- The same where a column is gone.
ALTER TABLE new.r OWNER TO CURRENT_USER;
DROP ROLE broken_owner;
BEGIN;
ALTER TABLE new.r DROP COLUMN lease;
SELECT workflow, jobs, unsettled FROM qflow.lease_status ORDER BY workflow, jobs;
ROLLBACK;
