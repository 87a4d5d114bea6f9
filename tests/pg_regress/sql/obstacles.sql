-- obstacles: what stands in the way of a queue's upkeep is named by verify, and nothing is silent: jobs come back all the
-- same, or the call says why not.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE ROLE obstacle_owner;
CREATE ROLE obstacle_consumer;
GRANT CREATE, USAGE ON SCHEMA public TO obstacle_owner, obstacle_consumer;
SET ROLE obstacle_owner;
SELECT qflow.create_queue('deferred', timeout_ms => 1, retries => 9);
SELECT qflow.alter_workflow('deferred', retry_delay_ms => 0);
SELECT qflow.grant_consumer('deferred', 'obstacle_consumer');
RESET ROLE;

-- A trigger that waits until commit cannot be started in a restricted operation.
SET ROLE obstacle_owner;
CREATE TABLE seen (who name, job bigint);
GRANT INSERT ON seen TO obstacle_consumer;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.seen VALUES (current_user, new.id); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
RESET ROLE;
SELECT check_name, ok, detail, remedy FROM qflow.verify('deferred') WHERE check_name = 'upkeep';
INSERT INTO deferred (data) VALUES ('1'), ('2');
SET ROLE obstacle_consumer;
SELECT id FROM qflow.fetch('deferred', 10);
RESET ROLE;
SELECT pg_sleep(0.005);
-- A superuser's reap would run the owner's trigger as a superuser: it does not.
SELECT * FROM qflow.reap();
SELECT status, count(*) FROM deferred GROUP BY 1;
-- A new session of the consumer: its fetch takes back what expired, as itself.
\c -
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET ROLE obstacle_consumer;
SELECT id, attempt, failure_reason FROM qflow.fetch('deferred', 10, hints => '{"timeout_ms": 600000}') ORDER BY id;
-- An operator's UPDATE makes a job fetchable there too.
RESET ROLE;
UPDATE deferred SET status = 'pending' WHERE id = 1;
SELECT available_at IS NOT NULL AS returned FROM deferred WHERE id = 1;
SET ROLE obstacle_consumer;
SELECT id FROM qflow.fetch('deferred', 10, hints => '{"timeout_ms": 600000}');
SELECT qflow.ack('deferred', array_agg(id), array_agg(lease)) FROM deferred;
RESET ROLE;
SELECT who, job, count(*) FROM seen GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) AS leases FROM qflow.lease;

-- A deferrable foreign key, its own or another table's.
SET ROLE obstacle_owner;
DROP TRIGGER late ON deferred;
SELECT check_name, ok, detail FROM qflow.verify('deferred') WHERE check_name = 'upkeep';
CREATE TABLE result (job bigint REFERENCES deferred (id) DEFERRABLE INITIALLY DEFERRED);
SELECT check_name, ok, detail FROM qflow.verify('deferred') WHERE check_name = 'upkeep';
DROP TABLE result;
ALTER TABLE deferred ADD COLUMN tenant int;
CREATE TABLE tenant (id int PRIMARY KEY);
ALTER TABLE deferred ADD CONSTRAINT of_tenant FOREIGN KEY (tenant) REFERENCES tenant DEFERRABLE INITIALLY DEFERRED;
SELECT check_name, ok, detail FROM qflow.verify('deferred') WHERE check_name = 'upkeep';
ALTER TABLE deferred ALTER CONSTRAINT of_tenant DEFERRABLE INITIALLY IMMEDIATE;
SELECT check_name, ok, detail FROM qflow.verify('deferred') WHERE check_name = 'upkeep';
RESET ROLE;

-- An owner who may not enter the schema of his table.
CREATE SCHEMA closed;
GRANT USAGE, CREATE ON SCHEMA closed TO obstacle_owner, obstacle_consumer;
SET ROLE obstacle_owner;
SELECT qflow.create_queue('closed.q', timeout_ms => 1, retries => 9, workflow => 'closed');
SELECT qflow.alter_workflow('closed', retry_delay_ms => 0);
SELECT qflow.grant_consumer('closed.q', 'obstacle_consumer');
INSERT INTO closed.q (data) VALUES ('1'), ('2');
RESET ROLE;
REVOKE USAGE ON SCHEMA closed FROM obstacle_owner;
SELECT check_name, ok, detail, remedy FROM qflow.verify('closed.q') WHERE NOT ok;
SET ROLE obstacle_consumer;
SELECT id FROM qflow.fetch('closed', 10);
SELECT pg_sleep(0.005);
\c -
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\set VERBOSITY terse
SELECT * FROM qflow.reap();
SET ROLE obstacle_consumer;
SELECT id, attempt FROM qflow.fetch('closed', 10, hints => '{"timeout_ms": 600000}') ORDER BY id;
SELECT qflow.ack('closed', array_agg(id), array_agg(lease)) FROM closed.q;
RESET ROLE;
SELECT count(*) AS leases FROM qflow.lease;
GRANT USAGE ON SCHEMA closed TO obstacle_owner;
SELECT check_name FROM qflow.verify('closed.q') WHERE NOT ok;

-- Row security, also forced on the owner: named, and no hindrance for what is taken back.
SET ROLE obstacle_owner;
ALTER TABLE closed.q ENABLE ROW LEVEL SECURITY;
SELECT check_name, ok, detail FROM qflow.verify('closed.q') WHERE check_name = 'row security';
ALTER TABLE closed.q FORCE ROW LEVEL SECURITY;
SELECT check_name, ok, detail FROM qflow.verify('closed.q') WHERE check_name = 'row security';
RESET ROLE;
INSERT INTO closed.q (data) VALUES ('3');
SELECT id FROM qflow.fetch('closed', 1);
SELECT pg_sleep(0.005);
SET ROLE obstacle_consumer;
SELECT queue, returned FROM qflow.reap();
RESET ROLE;

-- What the owner did to the table after it became a queue.
SET ROLE obstacle_owner;
SELECT qflow.create_queue('changed');
ALTER TABLE changed SET UNLOGGED;
SELECT check_name, detail, remedy FROM qflow.verify('changed') WHERE NOT ok;
ALTER TABLE changed SET LOGGED;
CREATE TABLE child () INHERITS (changed);
SELECT check_name, detail, remedy FROM qflow.verify('changed') WHERE NOT ok;
DROP TABLE child;
-- Everything else that can be missing, and the statements that bring it back.
ALTER TABLE changed DROP COLUMN lease, DROP COLUMN failure_reason, DROP CONSTRAINT qflow_priority, ALTER COLUMN status DROP DEFAULT,
    ALTER COLUMN enqueued_xid SET DEFAULT '7', RESET (fillfactor);
DROP INDEX changed_available_at_id_idx;
DROP TRIGGER qflow_return_insert ON changed;
ALTER TABLE changed DISABLE TRIGGER qflow_return_update;
CREATE INDEX by_state ON changed ((status || attempt)) WHERE updated_at IS NOT NULL;
SELECT check_name, detail, remedy FROM qflow.verify('changed') WHERE NOT ok;
SELECT id FROM qflow.fetch('changed');
SELECT check_name, ok FROM qflow.readiness('changed') WHERE NOT ok;
SELECT remedy FROM qflow.verify('changed') WHERE NOT ok \gexec
SELECT check_name, detail FROM qflow.verify('changed') WHERE NOT ok;
INSERT INTO changed (data) VALUES ('1');
SELECT id FROM qflow.fetch('changed');
-- Adoption says the same of a table that is like that from the start.
ALTER TABLE changed ADD COLUMN tenant int, ADD CONSTRAINT of_tenant FOREIGN KEY (tenant) REFERENCES tenant DEFERRABLE INITIALLY DEFERRED;
SELECT qflow.drop_queue('changed');
SELECT qflow.create_queue('changed');
SELECT check_name FROM qflow.verify('changed') WHERE NOT ok AND check_name NOT IN ('home', 'leases');
SELECT qflow.drop_queue('changed');
RESET ROLE;
DROP OWNED BY obstacle_owner, obstacle_consumer CASCADE;
DROP ROLE obstacle_owner, obstacle_consumer;
