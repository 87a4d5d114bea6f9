-- whose_rights: with whose rights code on a queue table runs when a producer inserts. Everything runs as the producer;
-- what the return trigger changes runs as the table's owner, restricted, and no column of a producer's sets it off.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE ROLE wr_owner;
CREATE ROLE wr_producer;
CREATE ROLE wr_insert;
CREATE ROLE wr_consumer;
-- (up to PostgreSQL 14 everybody may create there)
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO wr_owner;
CREATE TABLE ran (what text, who name, restricted boolean);
GRANT INSERT ON ran TO PUBLIC;
-- notes who it runs as, and whether in a security-restricted operation: such a one makes no temporary tables
CREATE FUNCTION note(what text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE restricted boolean := false;
BEGIN
    BEGIN
        CREATE TEMPORARY TABLE not_when_restricted ();
        DROP TABLE not_when_restricted;
    EXCEPTION WHEN insufficient_privilege THEN restricted := true;
    END;
    INSERT INTO public.ran VALUES (what, current_user, restricted);
    RETURN true;
END $$;
CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM public.note(format('%s %s trigger', lower(tg_when), lower(tg_op))); RETURN new; END $$;
CREATE VIEW who AS SELECT DISTINCT what, who, restricted FROM ran ORDER BY 1, 2, 3;

SET ROLE wr_owner;
SELECT qflow.create_queue('public.q');
CREATE TRIGGER a BEFORE INSERT OR UPDATE ON q FOR EACH ROW EXECUTE FUNCTION note_row();
CREATE TRIGGER b AFTER INSERT OR UPDATE ON q FOR EACH ROW EXECUTE FUNCTION note_row();
ALTER TABLE q ADD extra boolean DEFAULT note('default') CHECK (note('check'));
CREATE FUNCTION indexed(id bigint) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT public.note('index') $$;
CREATE INDEX ON q (indexed(id));
SELECT qflow.grant_producer('q', 'wr_producer'), qflow.grant_consumer('q', 'wr_consumer');
GRANT INSERT ON q TO wr_insert;
RESET ROLE;

-- a producer's INSERT, COPY, enqueue and enqueue_batch: all as himself, and nothing is updated
TRUNCATE ran;
SET ROLE wr_producer;
INSERT INTO q (data) VALUES ('1'), ('2');
INSERT INTO q (id, data, metadata, status, priority, available_at) VALUES (100, '3', '{}', 'pending', 9, NULL), (101, '3', '{}', 'completed', 0, now());
COPY q (data) FROM STDIN;
4
\.
SELECT count(qflow.enqueue('q', '5')), count(qflow.enqueue_batch('q', '{6,7}', delay_ms => 60000)) FROM generate_series(1, 2);
-- inserted in a subtransaction: the same
BEGIN;
SAVEPOINT a;
INSERT INTO q (data) VALUES ('8');
RELEASE a;
COMMIT;
RESET ROLE;
TABLE who;
-- the column that would set off the return trigger is not his
SET ROLE wr_producer;
INSERT INTO q (data, enqueued_xid) VALUES ('9', '3');
RESET ROLE;

-- who may insert every column can: then the owner's triggers for the UPDATE run as the owner, restricted
TRUNCATE ran;
SET ROLE wr_insert;
INSERT INTO q (data, enqueued_xid) VALUES ('10', '3');
SELECT current_user;
RESET ROLE;
TABLE who;
SELECT available_at IS NOT NULL FROM q WHERE data = '10';

-- fetch and settles: as the consumer, but for what looks after the queue
TRUNCATE ran;
SET ROLE wr_consumer;
SELECT qflow.ack('q', array_agg(id), array_agg(lease), true) FROM qflow.fetch('q', 3);
RESET ROLE;
TABLE who;

-- the functions that queue tables call do nothing for anybody elsewhere
SET ROLE wr_producer;
SELECT qflow.return_job();
CREATE TRIGGER mine AFTER INSERT ON q FOR EACH ROW EXECUTE FUNCTION qflow.return_job();
CREATE TEMPORARY TABLE mine (id bigint, status text DEFAULT 'pending', available_at timestamptz, enqueued_xid xid8 DEFAULT qflow.enqueued_xid(1));
CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION qflow.return_job();
INSERT INTO mine (id) VALUES (1);
SELECT id, available_at, enqueued_xid IS NOT NULL FROM mine;
RESET ROLE;

DROP TABLE q CASCADE;
DROP TABLE mine;
DROP OWNED BY wr_owner, wr_producer, wr_insert, wr_consumer CASCADE;
DROP ROLE wr_owner, wr_producer, wr_insert, wr_consumer;
