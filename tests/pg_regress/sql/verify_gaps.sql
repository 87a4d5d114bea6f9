-- verify_gaps: what an owner can do to his table that no statement refuses and that stops jobs. verify names each, and
-- what it says to do mends it or asks; no advice takes away what keeps rows right.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.gaps(queue text) RETURNS TABLE (check_name text, detail text, remedy text) LANGUAGE sql AS
    'SELECT check_name, detail, remedy FROM qflow.verify(queue) WHERE NOT ok AND check_name NOT IN (''home'', ''leases'')';

-- A column that claims and settles empty must take NULL.
SELECT qflow.create_queue('strict');
ALTER TABLE strict ALTER COLUMN available_at SET DEFAULT now(), ALTER COLUMN available_at SET NOT NULL,
    ALTER COLUMN failure_reason SET DEFAULT '', ALTER COLUMN failure_reason SET NOT NULL;
ALTER TABLE strict ALTER COLUMN lease SET NOT NULL;
SELECT * FROM pg_temp.gaps('strict');
SELECT check_name, detail FROM qflow.readiness('strict') WHERE NOT ok;
SELECT remedy FROM pg_temp.gaps('strict') \gexec
SELECT * FROM pg_temp.gaps('strict');
CREATE TABLE strict_before (id bigserial PRIMARY KEY, data jsonb, status text DEFAULT 'pending',
    available_at timestamptz NOT NULL DEFAULT now());
\set VERBOSITY default
SELECT qflow.create_queue('strict_before');
\set VERBOSITY terse
ALTER TABLE strict_before ALTER COLUMN available_at DROP NOT NULL;
SELECT qflow.create_queue('strict_before');

-- A CHECK of the owner's that jobs can break: named, and no fault.
ALTER TABLE strict ADD CONSTRAINT few CHECK (attempt < 3 OR failure_reason IS NOT NULL), ADD CHECK (data IS NOT NULL);
SELECT check_name, ok, detail FROM qflow.verify('strict') WHERE check_name = 'other constraints';

-- Priorities that no fetch looks at, where rows keep qflow_priority away.
CREATE TABLE odd (id serial PRIMARY KEY, data jsonb, status text DEFAULT 'pending', priority smallint);
SELECT qflow.create_queue('odd');
SELECT count(*) FROM qflow.reap();
ALTER TABLE odd DROP CONSTRAINT qflow_priority, ALTER COLUMN priority DROP NOT NULL;
INSERT INTO odd (data, priority) VALUES ('1', 4), ('2', 42), ('3', -1), ('4', NULL);
SELECT id FROM qflow.fetch('odd', 10);
SELECT * FROM pg_temp.gaps('odd');
SELECT remedy FROM pg_temp.gaps('odd') \gexec
SELECT id FROM qflow.fetch('odd', 10) ORDER BY id;
SELECT * FROM pg_temp.gaps('odd');

-- An id that may be NULL is no key.
CREATE TABLE nullable (id bigint UNIQUE DEFAULT 1, data jsonb, status text DEFAULT 'pending');
SELECT qflow.create_queue('nullable');
ALTER TABLE nullable ALTER COLUMN id SET NOT NULL;
SELECT qflow.create_queue('nullable');
ALTER TABLE nullable ALTER COLUMN id DROP NOT NULL;
INSERT INTO nullable (id, data) VALUES (NULL, '1'), (7, '2');
SELECT * FROM pg_temp.gaps('nullable');
DELETE FROM nullable WHERE id IS NULL;
SELECT remedy FROM pg_temp.gaps('nullable') \gexec
SELECT * FROM pg_temp.gaps('nullable');

-- Clocks without a zone, in every way to write them; constants and named zones stay.
CREATE FUNCTION clock() RETURNS timestamp LANGUAGE sql AS 'SELECT LOCALTIMESTAMP';
CREATE TABLE naive (id serial PRIMARY KEY, data jsonb, status text DEFAULT 'pending',
    inserted_at timestamp DEFAULT CURRENT_TIMESTAMP(0), updated_at timestamp DEFAULT LOCALTIMESTAMP(3));
SELECT qflow.create_queue('naive');
SELECT column_name, column_default FROM information_schema.columns WHERE table_name = 'naive' AND column_name ~ '_at$' ORDER BY 1;
ALTER TABLE naive ALTER COLUMN inserted_at SET DEFAULT now()::timestamp, ALTER COLUMN updated_at SET DEFAULT clock();
SELECT * FROM pg_temp.gaps('naive');
SELECT qflow.drop_queue('naive');
SELECT qflow.create_queue('naive');
SELECT * FROM pg_temp.gaps('naive');
SELECT remedy FROM pg_temp.gaps('naive') \gexec
SELECT * FROM pg_temp.gaps('naive');
ALTER TABLE naive ALTER COLUMN inserted_at SET DEFAULT '2020-01-01', ALTER COLUMN updated_at SET DEFAULT (now() AT TIME ZONE 'utc');
SELECT * FROM pg_temp.gaps('naive');

-- Indexes that keep rows from being there twice are not to be dropped.
SELECT qflow.create_queue('once');
ALTER TABLE once DROP CONSTRAINT once_pkey;
CREATE UNIQUE INDEX once_key ON once (id) INCLUDE (status);
CREATE UNIQUE INDEX once_pending ON once ((data ->> 'of')) WHERE status = 'pending';
SELECT check_name, ok, detail, remedy FROM qflow.verify('once') WHERE check_name IN ('key', 'other indexes');
CREATE INDEX once_slow ON once (status);
SELECT * FROM pg_temp.gaps('once');
-- A key that is gone altogether: one remedy for each fault.
DROP INDEX once_key;
ALTER TABLE once ALTER COLUMN id DROP IDENTITY;
SELECT * FROM pg_temp.gaps('once') WHERE check_name = 'key';
-- A column whose name has the names of three in it is none of them.
DROP INDEX once_priority_enqueued_xid_id_idx;
ALTER TABLE once ADD COLUMN "priority,enqueued_xid,id" int;
CREATE INDEX once_wrong ON once ("priority,enqueued_xid,id");
SELECT * FROM pg_temp.gaps('once') WHERE check_name = 'fresh index';

-- A required column that is gone cannot be added as it was.
SELECT qflow.create_queue('bare');
ALTER TABLE bare DROP COLUMN status CASCADE, DROP COLUMN metadata;
SELECT * FROM pg_temp.gaps('bare') WHERE check_name = 'columns';

-- Return triggers that are there by name only.
SELECT qflow.create_queue('tricked');
DROP TRIGGER qflow_return_update ON tricked;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER qflow_return_update AFTER UPDATE ON tricked FOR EACH ROW EXECUTE FUNCTION nothing();
ALTER TABLE tricked ENABLE ALWAYS TRIGGER qflow_return_update;
DROP TRIGGER qflow_return_insert ON tricked;
CREATE TRIGGER qflow_return_insert AFTER INSERT ON tricked FOR EACH ROW WHEN (false) EXECUTE FUNCTION qflow.return_job();
ALTER TABLE tricked ENABLE ALWAYS TRIGGER qflow_return_insert;
SELECT * FROM pg_temp.gaps('tricked');
SELECT remedy FROM pg_temp.gaps('tricked') \gexec
SELECT * FROM pg_temp.gaps('tricked');
-- The same for a status that is a text, and a name that has to be quoted.
CREATE TABLE "Te{q}xt" (id serial PRIMARY KEY, data jsonb, status text DEFAULT 'pending');
SELECT qflow.create_queue('"Te{q}xt"', workflow => 'text');
SELECT * FROM pg_temp.gaps('"Te{q}xt"');

-- What waits until commit: a statement where there is one.
CREATE TABLE other (id bigint PRIMARY KEY, "of Job" bigint);
ALTER TABLE other ADD CONSTRAINT "Of Job" FOREIGN KEY ("of Job") REFERENCES tricked DEFERRABLE INITIALLY DEFERRED;
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON tricked DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nothing();
ALTER TABLE tricked ADD CONSTRAINT late_key UNIQUE (inserted_at, id) DEFERRABLE INITIALLY DEFERRED;
SELECT * FROM pg_temp.gaps('tricked');
DROP TRIGGER late ON tricked;
ALTER TABLE tricked DROP CONSTRAINT late_key;
SELECT remedy FROM pg_temp.gaps('tricked') \gexec
SELECT * FROM pg_temp.gaps('tricked');

-- Who sees some rows only learns no words and no ids of others; who sees all, ten words.
SELECT qflow.create_queue('tenants');
ALTER TABLE tenants DROP CONSTRAINT qflow_status, DROP CONSTRAINT qflow_priority;
INSERT INTO tenants (data, status) SELECT '1', 'word ' || chr(96 + n) FROM generate_series(1, 12) n;
INSERT INTO tenants (data, priority) VALUES ('1', 42);
SELECT * FROM pg_temp.gaps('tenants') WHERE check_name <> 'constraints';
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE ROLE gaps_tenant;
CREATE POLICY none ON tenants TO gaps_tenant USING (false);
SELECT qflow.grant_consumer('tenants', 'gaps_tenant');
SET ROLE gaps_tenant;
SELECT check_name, detail, remedy FROM qflow.verify('tenants') WHERE NOT ok AND check_name <> 'constraints';
RESET ROLE;
-- What makes the rows unreadable is told, once, and not to whom a policy hides them.
CREATE FUNCTION raise_it() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN IF current_setting('gaps.raise', true) = 'on' THEN RAISE EXCEPTION 'no rows today'; END IF; RETURN true; END $$;
CREATE INDEX raising ON tenants (inserted_at) WHERE raise_it();
SET gaps.raise = on;
COMMENT ON INDEX raising IS 'read anew';
ALTER TABLE tenants SET (fillfactor = 34);
SELECT * FROM pg_temp.gaps('tenants') WHERE check_name = 'owner';
SET ROLE gaps_tenant;
SELECT check_name, detail FROM qflow.verify('tenants') WHERE check_name = 'owner';
RESET ROLE;
RESET gaps.raise;

SELECT count(qflow.drop_queue(table_oid::regclass::text)) FROM qflow.queue;
DROP TABLE tenants;
DROP ROLE gaps_tenant;
