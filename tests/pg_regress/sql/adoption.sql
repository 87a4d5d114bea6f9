-- adoption: tables that were there before. Every row and every object of the owner stays; what a queue needs is added.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\set VERBOSITY terse
-- The two forms in which the users of the Elixir package have their tables.
CREATE TABLE seed1 (
    id serial primary key, data jsonb, metadata jsonb default '{}', status varchar(20) default 'pending',
    inserted_at timestamp default now(), updated_at timestamp default now(), failure_reason text);
CREATE TABLE seed2 (
    id bigserial primary key, data jsonb not null, metadata jsonb default '{}'::jsonb,
    status varchar(20) default 'pending' not null, inserted_at timestamptz default now(),
    updated_at timestamptz default now(), failure_reason text);
CREATE INDEX by_status ON seed2 (status, inserted_at);
-- Rows in all four states; job 2 was taken by an old consumer just now, job 6 long ago.
SET TimeZone = 'UTC';
INSERT INTO seed1 (data, status, failure_reason)
    SELECT to_jsonb(n), (ARRAY['failed', 'pending', 'in_progress', 'completed'])[n % 4 + 1], CASE WHEN n % 4 = 0 THEN 'old' END
    FROM generate_series(1, 8) n;
INSERT INTO seed2 (data, status, failure_reason) SELECT data, status, failure_reason FROM seed1;
UPDATE seed1 SET updated_at = updated_at - interval '1 day' WHERE id = 6;
UPDATE seed2 SET updated_at = updated_at - interval '1 day' WHERE id = 6;
CREATE TABLE before AS
    SELECT 'seed1' AS t, id::bigint, data, metadata, status, inserted_at::text, updated_at::text, failure_reason FROM seed1 UNION ALL
    SELECT 'seed2', id, data, metadata, status, inserted_at::text, updated_at::text, failure_reason FROM seed2;
-- ... and what else an owner may have on them.
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER noted BEFORE UPDATE ON seed1 FOR EACH ROW EXECUTE FUNCTION noted();
CREATE VIEW open_jobs AS SELECT id, status FROM seed1 WHERE status <> 'completed';
ALTER TABLE seed1 ADD COLUMN tenant text DEFAULT 'acme', ADD CONSTRAINT tenant CHECK (tenant <> '');
SELECT pg_relation_filenode('seed1') AS node1, pg_relation_filenode('seed2') AS node2 \gset

SELECT qflow.create_queue('seed1', timeout_ms => 3600000);
SELECT qflow.create_queue('seed2', timeout_ms => 3600000);
SELECT :node1 = pg_relation_filenode('seed1') AND :node2 = pg_relation_filenode('seed2') AS not_rewritten;
TABLE before EXCEPT (SELECT 'seed1', id::bigint, data, metadata, status, inserted_at::text, updated_at::text, failure_reason FROM seed1 UNION ALL
    SELECT 'seed2', id, data, metadata, status, inserted_at::text, updated_at::text, failure_reason FROM seed2);
SELECT attname, format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid) AS "default" FROM pg_attribute
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = 'seed1'::regclass AND attnum > 0 AND attname <> 'enqueued_xid' ORDER BY attnum;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'seed1'::regclass ORDER BY 1;
SELECT count(*) FROM open_jobs;
-- A second time: refused, or nothing.
SELECT qflow.create_queue('seed1');
SELECT qflow.create_queue('seed1', if_not_exists => true);
-- What is not as it should be, with the statements that mend it.
SELECT check_name, ok, detail FROM qflow.verify('seed1');
SELECT check_name, detail, remedy FROM qflow.verify('seed2') WHERE NOT ok;
DROP INDEX by_status;

-- The owner goes on as before: plain, multi-row, COPY, with the columns of the seed.
INSERT INTO seed1 (data) VALUES ('"plain"');
INSERT INTO seed1 (data, metadata, status) VALUES ('"a"', '{}', 'pending'), ('"b"', NULL, 'pending');
COPY seed1 (data, metadata, status, inserted_at, updated_at, failure_reason) FROM stdin;
"copied"	{"k": 1}	pending	2026-01-01 00:00:00	2026-01-01 00:00:00	\N
\.
COPY seed2 (data) FROM stdin;
"copied"
\.
SELECT status, COUNT(*) FROM seed1 GROUP BY status ORDER BY status;
-- Consumers: pending jobs come in order, old ones first; the job taken long ago comes back, the one just taken does not.
SELECT id, data, metadata, attempt, inserted_at > now() - interval '1 hour' AS recent, failure_reason FROM qflow.fetch('seed1', 10);
SELECT qflow.ack('seed1', array_agg(id), array_agg(lease)) FROM seed1 WHERE lease IS NOT NULL;
SELECT count(*) FROM qflow.reap();
SELECT id, data, attempt, failure_reason FROM qflow.fetch('seed1', 10);
SELECT id, status, attempt FROM seed1 WHERE id IN (2, 6);
SELECT count(*) FROM qflow.reap();
SELECT id, data, attempt FROM qflow.fetch('seed2', 10) ORDER BY id;
SELECT qflow.enqueue('seed1', '"enqueued"'), qflow.enqueue_batch('seed2', ARRAY['1', '2']::jsonb[]);

-- Times without zone: as Ecto wrote them, in UTC, and as the default writes them now, whatever the session's zone.
SET TimeZone = 'Asia/Tokyo';
INSERT INTO seed1 (data) VALUES ('"from Tokyo"');
SELECT abs(extract(epoch FROM inserted_at - timezone('UTC', now()))) < 600 AS in_utc FROM seed1 WHERE data = '"from Tokyo"';
SELECT data, abs(extract(epoch FROM now() - inserted_at)) < 600 AS right FROM qflow.fetch('seed1', 2) ORDER BY id;
INSERT INTO seed1 (data) VALUES ('"late"');
SELECT oldest_pending_ms < 600000 AS right FROM qflow.queue_stats WHERE queue = 'public.seed1';
SELECT abs(extract(epoch FROM updated_at - timezone('UTC', now()))) < 600 AS in_utc FROM seed1 WHERE data = '"from Tokyo"';
SELECT qflow.purge_queue('seed1', older_than_ms => 3000000) AS old_enough, count(*) > 5 AS there FROM seed1;
RESET TimeZone;

-- What cannot become a queue, and why.
\set VERBOSITY default
CREATE TABLE users (name text);
SELECT qflow.create_queue('users');
CREATE TABLE no_default (id bigint, data jsonb, status text);
SELECT qflow.create_queue('no_default');
CREATE TABLE wrong (id serial primary key, data json, status text);
SELECT qflow.create_queue('wrong');
CREATE TABLE short (id serial primary key, data jsonb, status varchar(10));
SELECT qflow.create_queue('short');
CREATE TABLE odd (id serial primary key, data jsonb, status text, priority integer, lease uuid);
SELECT qflow.create_queue('odd');
CREATE TABLE computed (id serial primary key, data jsonb, status text, attempt integer GENERATED ALWAYS AS (1) STORED);
SELECT qflow.create_queue('computed');
\set VERBOSITY terse
CREATE VIEW a_view AS SELECT * FROM seed2;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM seed2;
CREATE TABLE parted (LIKE seed2) PARTITION BY LIST (status);
CREATE TABLE part PARTITION OF parted DEFAULT;
CREATE TABLE parent (id serial primary key, data jsonb, status text);
CREATE TABLE child () INHERITS (parent);
CREATE UNLOGGED TABLE unlogged (id serial primary key, data jsonb, status text);
CREATE TEMP TABLE temporary (id serial primary key, data jsonb, status text);
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE afar (id int, data jsonb, status text) SERVER elsewhere;
CREATE SEQUENCE numbers;
CREATE TABLE theirs (id serial primary key, data jsonb, status text);
CREATE ROLE adoption_stranger;
GRANT CREATE ON SCHEMA public TO adoption_stranger;
GRANT ALL ON theirs TO adoption_stranger;
CREATE FUNCTION try_create(queue text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN RETURN qflow.create_queue(queue); EXCEPTION WHEN OTHERS THEN RETURN sqlstate || ' ' || sqlerrm; END $$;
SELECT q, try_create(q) FROM unnest(ARRAY['a_view', 'a_matview', 'parted', 'part', 'parent', 'child', 'unlogged', 'pg_temp.temporary', 'afar',
    'numbers', 'seed2_pkey', 'pg_catalog.pg_class', 'information_schema.tables', 'qflow.queue', 'pg_toast.x']) AS q;
SET ROLE adoption_stranger;
SELECT try_create('theirs');
RESET ROLE;
SELECT count(*) AS touched FROM pg_attribute WHERE attname = 'enqueued_xid' AND NOT attisdropped
    AND attrelid IN ('users'::regclass, 'wrong'::regclass, 'odd'::regclass, 'theirs'::regclass, 'parent'::regclass);

-- Words that no queue knows are left alone, counted, and not refused.
CREATE TABLE words (id int GENERATED ALWAYS AS IDENTITY UNIQUE, data jsonb, status text, failure_reason varchar(10));
INSERT INTO words (data, status) VALUES ('1', 'pending'), ('2', 'archived'), ('3', NULL), ('4', 'paused'), ('5', 'archived');
SELECT qflow.create_queue('words', retries => 0);
SELECT check_name, detail FROM qflow.verify('words') WHERE check_name IN ('constraints', 'status words');
-- So is no status at all, which no CHECK keeps out.
CREATE TABLE silent (id serial primary key, data jsonb, status text default 'pending');
INSERT INTO silent (data, status) VALUES ('1', 'pending'), ('2', NULL);
SELECT qflow.create_queue('silent');
SELECT detail, remedy FROM qflow.verify('silent') WHERE check_name = 'status words';
SELECT id FROM qflow.fetch('silent', 10);
DROP TABLE silent;
-- A time zone that does not exist would make a default that fails every insert.
CREATE TABLE zoned (id serial primary key, data jsonb, status text, inserted_at timestamp);
SET qflow.naive_timezone = 'Nowhere/Land';
SELECT qflow.create_queue('zoned');
RESET qflow.naive_timezone;
SELECT id, attempt FROM qflow.fetch('words', 10);
SELECT qflow.fail('words', array_agg(id), array_agg(lease), 'a reason that is too long for the column') FROM words WHERE lease IS NOT NULL;
SELECT id, status, failure_reason FROM words ORDER BY id;
UPDATE words SET status = 'archived' WHERE id = 1;
-- A row larger than the cap can still be claimed: the CHECK that would refuse it is left out.
CREATE TABLE large (id serial primary key, data jsonb, status text);
INSERT INTO large (data, status) SELECT jsonb_agg(md5(n::text)), 'pending' FROM generate_series(1, 50000) n;
SELECT qflow.create_queue('large');
SELECT id FROM qflow.fetch('large');

-- A priority that means something else is refused: no fetch would look for it.
CREATE TABLE ranked (id serial primary key, data jsonb, status text DEFAULT 'pending', priority smallint);
INSERT INTO ranked (data, priority) VALUES ('1', 100), ('2', 9);
SELECT qflow.create_queue('ranked');
UPDATE ranked SET priority = NULL WHERE id = 1;
SELECT qflow.create_queue('ranked');
UPDATE ranked SET priority = 0 WHERE id = 1;
SELECT qflow.create_queue('ranked');
INSERT INTO ranked (data, priority) VALUES ('3', NULL);
INSERT INTO ranked (data, priority) VALUES ('3', 10);
SELECT id FROM qflow.fetch('ranked', 2);

-- Columns and indexes that are there already, with the right types, are used; a job in progress without a time gets one.
CREATE TABLE ready (id bigserial primary key, data jsonb, status text, enqueued_xid xid8, priority smallint DEFAULT 4, available_at timestamptz,
    attempt integer, lease bigint, updated_at timestamptz) WITH (fillfactor = 50);
CREATE INDEX my_fresh ON ready (priority, enqueued_xid, id);
CREATE INDEX my_due ON ready (available_at, id) WHERE available_at IS NOT NULL;
INSERT INTO ready (data, status, attempt) VALUES ('1', 'in_progress', NULL), ('2', 'pending', NULL);
SELECT qflow.create_queue('ready', timeout_ms => 1, retries => 5);
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'ready'::regclass ORDER BY indexrelid::regclass::text;
SELECT reloptions FROM pg_class WHERE oid = 'ready'::regclass;
SELECT queue, returned FROM qflow.reap();
SELECT updated_at IS NOT NULL AS dated, status FROM ready WHERE id = 1;
SELECT pg_sleep(0.005);
SELECT queue, returned FROM qflow.reap();
SELECT id, attempt FROM qflow.fetch('ready', 10) ORDER BY id;

-- Renamed, moved, dropped and made again; the extension gone and back. Rows and jobs in flight stay.
ALTER TABLE seed2 RENAME TO work;
CREATE SCHEMA app;
ALTER TABLE work SET SCHEMA app;
SELECT id FROM qflow.fetch('seed2', 1);
SELECT qflow.drop_queue('app.work', keep_table => false);
SELECT qflow.drop_queue('app.work');
SELECT count(*) AS leases FROM qflow.lease WHERE queue NOT IN (SELECT number FROM qflow.queue);
INSERT INTO app.work (data) VALUES ('"while no queue"');
SELECT qflow.create_queue('app.work', timeout_ms => 3600000, workflow => 'work');
SELECT string_agg(data::text, ' ' ORDER BY id) FROM qflow.fetch('work', 10);
CREATE TABLE held AS SELECT id, lease FROM app.work WHERE status = 'in_progress' AND lease IS NOT NULL;
SET client_min_messages = warning;
DROP EXTENSION qflow CASCADE;
RESET client_min_messages;
INSERT INTO app.work (data) VALUES ('"without extension"');
SELECT status, count(*) FROM app.work GROUP BY 1 ORDER BY 1;
CREATE EXTENSION qflow;
SET qflow.sweep = off;
SELECT qflow.create_queue('app.work', timeout_ms => 1, workflow => 'work', retries => 100);
-- No lease of before the extension was dropped is given out again.
SELECT f.data, f.lease > (SELECT max(lease) FROM held) AS above FROM qflow.fetch('work', 20) AS f ORDER BY f.id;
SELECT check_name, detail FROM qflow.verify('app.work') WHERE NOT ok;
REVOKE CREATE ON SCHEMA public FROM adoption_stranger;
DROP TABLE theirs;
DROP ROLE adoption_stranger;
