-- access: which tables are reached directly and which through the executor, a line each of the list in src/queue/path.rs.
-- `verify` says which and why; and what the user has put on a table still acts on what fetches, settles and inserts do.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET qflow.sweep = off;
SET qflow.direct_access = on;
CREATE ROLE access_user;
CREATE TABLE log (nr int GENERATED ALWAYS AS IDENTITY, entry text);
GRANT ALL ON log TO PUBLIC;
-- the queue, made anew
CREATE PROCEDURE anew() LANGUAGE plpgsql AS $$ BEGIN
    IF to_regclass('q') IS NOT NULL THEN PERFORM qflow.drop_queue('q', keep_table => false); END IF;
    PERFORM qflow.create_queue('q', retries => 100), qflow.alter_workflow('q', retry_delay_ms => 0);
    GRANT SELECT, INSERT, UPDATE ON q TO access_user;
    GRANT USAGE ON SEQUENCE q_id_seq TO access_user;
    DELETE FROM log;
END $$;
-- what a call answers, or the error that it raises
CREATE FUNCTION answer(act text, call text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE answered text; BEGIN
    EXECUTE 'SELECT (' || call || ')::text' INTO answered;
    RETURN concat(act, ': ', answered);
EXCEPTION WHEN OTHERS THEN RETURN concat(act, ': ', SQLSTATE, ' ', SQLERRM); END $$;
CREATE FUNCTION leases(job int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN quote_literal((SELECT ARRAY[lease] FROM q WHERE id = job)); END $$;
CREATE FUNCTION access() RETURNS text LANGUAGE sql AS $$ SELECT detail FROM qflow.verify('q') WHERE check_name = 'access' $$;
-- makes four jobs, fetches them, settles each in its way; says what came of each call, how the jobs are, and what was noted
CREATE FUNCTION acts() RETURNS SETOF text LANGUAGE plpgsql AS $$ DECLARE act text; state text; BEGIN
    RETURN NEXT answer('enqueue_batch', $x$ qflow.enqueue_batch('q', ARRAY['1', '2', '3', '4']::jsonb[]) $x$);
    RETURN NEXT answer('fetch', $x$ SELECT array_agg(id ORDER BY id) FROM qflow.fetch('q', 4) $x$);
    IF EXISTS (SELECT FROM q WHERE status = 'in_progress') THEN
        RETURN NEXT answer('ack', format($x$ qflow.ack('q', '{1}', %s) $x$, leases(1)));
        RETURN NEXT answer('requeue', format($x$ qflow.requeue('q', '{2}', %s, 'again') $x$, leases(2)));
        RETURN NEXT answer('fail', format($x$ qflow.fail('q', '{3}', %s, 'hopeless') $x$, leases(3)));
        RETURN NEXT answer('release', format($x$ qflow.release('q', '{4}', %s) $x$, leases(4)));
    END IF;
    RETURN NEXT (SELECT string_agg(concat_ws(' ', id, status, attempt, failure_reason), ', ' ORDER BY id) FROM q);
    FOR state IN SELECT concat(entry, ', ', count(*), ' times') FROM log GROUP BY entry ORDER BY min(nr) LOOP RETURN NEXT state; END LOOP;
END $$;

\echo as it is made
CALL anew();
SELECT access();
SELECT acts();
\echo switched off: verify says how the table is
SET qflow.direct_access = off;
CALL anew();
SELECT access();
SELECT acts();
SET qflow.direct_access = on;

\echo - rules
CALL anew();
CREATE RULE noted AS ON UPDATE TO q DO ALSO INSERT INTO log (entry) VALUES (concat('rule, ', old.status, ' > ', new.status));
CREATE RULE noted_insert AS ON INSERT TO q DO ALSO INSERT INTO log (entry) VALUES ('rule, insert');
SELECT access();
SELECT acts();
DROP RULE noted ON q;
DROP RULE noted_insert ON q;
SELECT access();

\echo - row security
CALL anew();
ALTER TABLE q ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON q TO access_user USING (id <> 3) WITH CHECK (status <> 'completed');
SELECT access();
INSERT INTO q (data) SELECT '0' FROM generate_series(1, 4);
SET ROLE access_user;
SELECT array_agg(id ORDER BY id) FROM qflow.fetch('q', 9);
SELECT answer('ack', $$ qflow.ack('q', '{1}', (SELECT ARRAY[lease] FROM q WHERE id = 1)) $$);
SELECT qflow.requeue('q', '{2}', (SELECT ARRAY[lease] FROM q WHERE id = 2), 'again');
RESET ROLE;
ALTER POLICY seen ON q WITH CHECK (data <> '5');
SET ROLE access_user;
SELECT answer('enqueue_batch', $$ qflow.enqueue_batch('q', ARRAY['4', '5']::jsonb[]) $$);
RESET ROLE;
SELECT id, status, attempt, failure_reason FROM q ORDER BY id;

\echo - triggers that act on UPDATE
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_LEVEL = 'ROW' AND TG_OP = 'UPDATE' THEN INSERT INTO log (entry) VALUES (concat(TG_NAME, ', ', old.status, ' > ', new.status));
    ELSE INSERT INTO log (entry) VALUES (concat(TG_NAME, ', ', TG_OP)); END IF;
    RETURN new; END $$;
CALL anew();
CREATE TRIGGER before_row BEFORE UPDATE ON q FOR EACH ROW EXECUTE FUNCTION noted();
SELECT access();
SELECT acts();
CALL anew();
CREATE TRIGGER after_row AFTER UPDATE OF status ON q FOR EACH ROW EXECUTE FUNCTION noted();
SELECT access();
SELECT acts();
CALL anew();
CREATE TRIGGER before_statement BEFORE UPDATE ON q FOR EACH STATEMENT EXECUTE FUNCTION noted();
SELECT access();
SELECT acts();
CALL anew();
CREATE TRIGGER after_statement AFTER UPDATE ON q FOR EACH STATEMENT EXECUTE FUNCTION noted();
SELECT access();
SELECT acts();
CALL anew();
CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON q DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION noted();
SELECT access();
SELECT acts();
SELECT entry, count(*) FROM log GROUP BY entry ORDER BY min(nr);
\echo - triggers that act on INSERT only: claims and settles are direct, inserts are not
CALL anew();
CREATE TRIGGER before_insert BEFORE INSERT ON q FOR EACH ROW EXECUTE FUNCTION noted();
SELECT access();
SELECT acts();
CALL anew();
CREATE TRIGGER after_insert AFTER INSERT ON q FOR EACH ROW EXECUTE FUNCTION noted();
SELECT access();
SELECT acts();
CALL anew();
CREATE TRIGGER statement_insert AFTER INSERT ON q FOR EACH STATEMENT EXECUTE FUNCTION noted();
SELECT access();
SELECT acts();

\echo - CHECKs on what changes
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_status CHECK (status <> 'failed');
SELECT access();
SELECT acts();
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_attempt CHECK (attempt < 1);
SELECT access();
SELECT acts();
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_lease CHECK (lease IS NULL);
SELECT access();
SELECT acts();
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_updated_at CHECK (updated_at = inserted_at);
SELECT access();
INSERT INTO q (data) VALUES ('0');
SELECT acts();
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_available_at CHECK (available_at IS NULL);
SELECT access();
SELECT acts();
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_failure_reason CHECK (failure_reason <> 'again');
SELECT access();
SELECT acts();
\echo a CHECK on the whole row
CALL anew();
CREATE FUNCTION is_allowed(job q) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN job.status <> 'completed'; END $$;
ALTER TABLE q ADD CONSTRAINT of_row CHECK (is_allowed(q));
SELECT access();
SELECT acts();
ALTER TABLE q DROP CONSTRAINT of_row;
DROP FUNCTION is_allowed;
\echo a CHECK of the name of qflow
CALL anew();
ALTER TABLE q DROP CONSTRAINT qflow_status;
SELECT access();
ALTER TABLE q ADD CONSTRAINT qflow_status CHECK (status IN ('pending', 'in_progress', 'completed'));
SELECT access();
SELECT acts();
\echo CHECKs on other columns: they act on inserts
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_priority CHECK (priority <> 7), ADD CONSTRAINT of_data CHECK (data <> '7');
SELECT access();
SELECT acts();
SELECT answer('data', $$ qflow.enqueue_batch('q', ARRAY['6', '7']::jsonb[]) $$), answer('priority', $$ qflow.enqueue_batch('q', ARRAY['6']::jsonb[], priority => 7) $$);

\echo a CHECK of other columns that may answer otherwise today
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_today CHECK (data <> coalesce(nullif(current_setting('access.closed', true), ''), '"none"')::jsonb);
SELECT access();
INSERT INTO q (data) VALUES ('5'), ('5');
SELECT array_agg(id ORDER BY id) FROM qflow.fetch('q', 1);
SET access.closed = '5';
SELECT answer('fetch', $$ SELECT count(*) FROM qflow.fetch('q', 1) $$);
SELECT answer('ack', format($$ qflow.ack('q', '{1}', %s) $$, leases(1)));
RESET access.closed;
\echo a CHECK of no column
CALL anew();
ALTER TABLE q ADD CONSTRAINT of_none CHECK (coalesce(current_setting('access.closed', true), '') <> 'all');
SELECT access();
INSERT INTO q (data) VALUES ('5'), ('5');
SELECT array_agg(id ORDER BY id) FROM qflow.fetch('q', 1);
SET access.closed = 'all';
SELECT answer('fetch', $$ SELECT count(*) FROM qflow.fetch('q', 1) $$);
SELECT answer('ack', format($$ qflow.ack('q', '{1}', %s) $$, leases(1)));
RESET access.closed;
\echo a CHECK that old rows do not pass
CALL anew();
INSERT INTO q (data) VALUES ('5'), ('5');
ALTER TABLE q ADD CONSTRAINT of_new CHECK (data <> '5') NOT VALID;
SELECT access();
SELECT answer('fetch', $$ SELECT count(*) FROM qflow.fetch('q', 1) $$);

\echo - generated columns
CALL anew();
ALTER TABLE q ADD COLUMN tens int GENERATED ALWAYS AS (attempt * 10) STORED, ADD COLUMN shout text GENERATED ALWAYS AS (upper(status)) STORED;
SELECT access();
SELECT acts();
SELECT id, tens, shout FROM q ORDER BY id;
ALTER TABLE q DROP COLUMN tens;
SELECT access();
\echo of other columns: inserts go through the executor
CALL anew();
ALTER TABLE q ADD COLUMN kind text DEFAULT 'a', ADD COLUMN kinds text GENERATED ALWAYS AS (kind || 's ' || priority || data) STORED;
SELECT access();
SELECT acts();
SELECT id, kinds FROM q ORDER BY id;

\echo - indexes on what changes
CALL anew();
CREATE INDEX of_status ON q (status, inserted_at);
SELECT access();
SELECT acts();
SET enable_seqscan = off;
SELECT status, count(*) FROM q WHERE status = 'completed' GROUP BY status;
RESET enable_seqscan;
CALL anew();
CREATE UNIQUE INDEX of_reason ON q (failure_reason);
SELECT access();
SELECT acts();
SELECT qflow.enqueue_batch('q', ARRAY['5']::jsonb[]);
SELECT array_agg(id ORDER BY id) FROM qflow.fetch('q', 9);
SELECT answer('fail', format($$ qflow.fail('q', '{5}', %s, 'hopeless') $$, leases(5)));
CALL anew();
CREATE UNIQUE INDEX of_expression ON q ((nullif(lease, 0) * 0 + attempt)) WHERE id < 3;
SELECT access();
SELECT acts();
CALL anew();
CREATE UNIQUE INDEX in_work ON q ((true)) WHERE status = 'in_progress';
SELECT access();
SELECT acts();
CALL anew();
CREATE UNIQUE INDEX of_row ON q ((q IS NULL)) WHERE id > 100;
SELECT access();
CALL anew();
ALTER TABLE q ADD CONSTRAINT one_lease UNIQUE (lease) DEFERRABLE INITIALLY IMMEDIATE;
SELECT access();
SELECT acts();
CALL anew();
CREATE INDEX of_updated_at ON q USING brin (updated_at);
SELECT access();
SELECT acts();
\echo indexes on other columns
CALL anew();
ALTER TABLE q ADD COLUMN kind text DEFAULT 'a';
CREATE INDEX ON q (kind);
CREATE INDEX ON q USING gin (data);
CREATE INDEX ON q ((data ->> 0));
CREATE INDEX ON q USING brin (inserted_at);
SELECT access();
SELECT acts();
SET enable_seqscan = off;
SELECT array_agg(id ORDER BY id) FROM q WHERE kind = 'a';
SELECT id, status FROM q WHERE data @> '3';
RESET enable_seqscan;
\echo one that must be unique acts on inserts
CREATE UNIQUE INDEX ON q (data);
SELECT access();
SELECT answer('enqueue_batch', $$ qflow.enqueue_batch('q', ARRAY['5', '1']::jsonb[]) $$);
\echo a deferrable one is checked again when a row changes
CALL anew();
ALTER TABLE q ADD COLUMN kind int GENERATED BY DEFAULT AS IDENTITY CONSTRAINT kinds UNIQUE DEFERRABLE;
SELECT access();
SELECT acts();

\echo - foreign keys
CALL anew();
CREATE TABLE customer (name text PRIMARY KEY);
INSERT INTO customer VALUES ('ann');
ALTER TABLE q ADD COLUMN customer text DEFAULT 'ann' CONSTRAINT customer_known REFERENCES customer;
SELECT access();
SELECT acts();
ALTER TABLE q ALTER COLUMN customer SET DEFAULT 'bob';
SELECT answer('enqueue_batch', $$ qflow.enqueue_batch('q', ARRAY['5']::jsonb[]) $$);
\echo one of another table
CALL anew();
CREATE TABLE part (job bigint CONSTRAINT part_of REFERENCES q ON UPDATE CASCADE);
SELECT access();
SELECT acts();
INSERT INTO part VALUES (1);
UPDATE q SET id = 11 WHERE id = 1;
TABLE part;
DROP TABLE part;
\echo one from the table to itself
CALL anew();
ALTER TABLE q ADD COLUMN parent bigint CONSTRAINT has_parent REFERENCES q;
SELECT access();
SELECT acts();

\echo - columns of another kind
CALL anew();
ALTER TABLE q ALTER COLUMN failure_reason TYPE varchar(5);
SELECT access();
SELECT acts();
CALL anew();
ALTER TABLE q ALTER COLUMN failure_reason SET NOT NULL, ALTER COLUMN failure_reason SET DEFAULT '-';
SELECT access();
SELECT acts();

\echo times with a precision are rounded
CALL anew();
ALTER TABLE q ALTER COLUMN updated_at TYPE timestamptz(0);
SELECT access();
INSERT INTO q (data) SELECT to_jsonb(n) FROM generate_series(1, 5) n;
SELECT count(*) FROM qflow.fetch('q', 5);
SELECT count(*) FILTER (WHERE updated_at <> date_trunc('second', updated_at)) AS between_seconds FROM q;

\echo a domain: its NOT NULL acts on inserts
CREATE DOMAIN word AS text NOT NULL;
CALL anew();
ALTER TABLE q ADD COLUMN kind word;
SELECT access();
SELECT acts();

\echo - rights: a producer with those on columns only is held to them by the executor; a consumer needs the whole table
CALL anew();
REVOKE ALL ON q FROM access_user;
GRANT INSERT (id, data, metadata, priority, available_at) ON q TO access_user;
SET ROLE access_user;
SELECT answer('enqueue_batch', $$ qflow.enqueue_batch('q', ARRAY['4']::jsonb[]) $$);
RESET ROLE;
REVOKE INSERT (priority) ON q FROM access_user;
SET ROLE access_user;
SELECT answer('enqueue_batch', $$ qflow.enqueue_batch('q', ARRAY['5']::jsonb[]) $$);
RESET ROLE;
GRANT SELECT, UPDATE (id, enqueued_xid, lease, inserted_at, updated_at, available_at, attempt, priority, status, failure_reason, metadata, data) ON q TO access_user;
SET ROLE access_user;
SELECT answer('fetch', $$ SELECT count(*) FROM qflow.fetch('q', 1) $$);
RESET ROLE;
GRANT UPDATE ON q TO access_user;
REVOKE SELECT ON q FROM access_user;
SET ROLE access_user;
SELECT answer('fetch', $$ SELECT count(*) FROM qflow.fetch('q', 1) $$);
RESET ROLE;
GRANT SELECT ON q TO access_user;
SET ROLE access_user;
SELECT answer('fetch', $$ SELECT count(*) FROM qflow.fetch('q', 1) $$);
RESET ROLE;
\echo they are asked for at each call
REVOKE UPDATE ON q FROM access_user;
SET ROLE access_user;
SELECT answer('ack', $$ qflow.ack('q', '{1}', (SELECT ARRAY[lease] FROM q WHERE id = 1)) $$);
SELECT answer('enqueue_batch', $$ qflow.enqueue_batch('q', ARRAY['6']::jsonb[], priority => 3) $$);
RESET ROLE;
SELECT id, status FROM q ORDER BY id;

\echo - published, and its rows have no identity: refused on both paths
CALL anew();
CREATE TABLE held AS SELECT NULL::bigint AS lease;
INSERT INTO q (data) VALUES ('0'), ('0');
UPDATE held SET lease = (SELECT lease FROM qflow.fetch('q', 1));
ALTER TABLE q REPLICA IDENTITY NOTHING;
SET client_min_messages = error;
CREATE PUBLICATION published FOR TABLE q;
SET client_min_messages = warning;
SELECT access();
SELECT answer('fetch', $$ SELECT count(*) FROM qflow.fetch('q', 1) $$);
SELECT answer('ack', $$ qflow.ack('q', '{1}', (SELECT ARRAY[lease] FROM held)) $$);
SELECT answer('requeue', $$ qflow.requeue('q', '{1}', (SELECT ARRAY[lease] FROM held)) $$);
SELECT answer('stale', $$ SELECT outcome FROM qflow.settle('q', '[{"id": 2, "lease": 999, "outcome": "requeue"}]') $$);
SELECT answer('enqueue_batch', $$ qflow.enqueue_batch('q', ARRAY['4']::jsonb[]) $$);
SET qflow.direct_access = off;
SELECT answer('fetch', $$ SELECT count(*) FROM qflow.fetch('q', 1) $$);
SELECT answer('ack', $$ qflow.ack('q', '{1}', (SELECT ARRAY[lease] FROM held)) $$);
SELECT answer('requeue', $$ qflow.requeue('q', '{1}', (SELECT ARRAY[lease] FROM held)) $$);
SELECT answer('stale', $$ SELECT outcome FROM qflow.settle('q', '[{"id": 2, "lease": 999, "outcome": "requeue"}]') $$);
SELECT answer('enqueue_batch', $$ qflow.enqueue_batch('q', ARRAY['4']::jsonb[]) $$);
SET qflow.direct_access = on;
ALTER TABLE q REPLICA IDENTITY DEFAULT;
SELECT array_agg(id) FROM qflow.fetch('q', 1);
DROP PUBLICATION published;

DROP PROCEDURE anew;
SELECT qflow.drop_queue('q', keep_table => false);
DROP OWNED BY access_user;
DROP ROLE access_user;
