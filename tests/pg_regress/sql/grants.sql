-- grants: the helpers that grant and revoke: what they refuse, what they tell, and that a revoke takes back exactly what
-- its grant gave.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = notice;
CREATE ROLE gr_owner;
CREATE ROLE gr_other;
CREATE ROLE gr_one;
CREATE ROLE gr_two;
CREATE ROLE gr_member;
CREATE ROLE gr_left;
CREATE ROLE gr_right;
CREATE SCHEMA s AUTHORIZATION gr_owner;
GRANT USAGE ON SCHEMA s TO gr_other, gr_one, gr_two, gr_member, gr_left, gr_right;
-- what roles hold on s.q and its sequence: a line for each, columns in a list; owners left out
CREATE VIEW granted AS SELECT c.relname, r.grantee,
    e.privilege_type || CASE WHEN e.is_grantable THEN '*' ELSE '' END || coalesce('(' || string_agg(a.attname, ' ' ORDER BY a.attname COLLATE "C") || ')', '') AS holds,
    r.grantor
FROM pg_class AS c JOIN (SELECT attrelid, attname, attacl FROM pg_attribute WHERE NOT attisdropped UNION ALL SELECT oid, NULL, relacl FROM pg_class) AS a ON a.attrelid = c.oid
CROSS JOIN LATERAL aclexplode(a.attacl) AS e
CROSS JOIN LATERAL (SELECT CASE e.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(e.grantee) END AS grantee, pg_get_userbyid(e.grantor) AS grantor) AS r
WHERE c.relnamespace = 's'::regnamespace AND e.grantee <> c.relowner
GROUP BY c.relname, a.attname IS NULL, r.grantee, e.privilege_type, e.is_grantable, r.grantor
ORDER BY c.relname COLLATE "C", r.grantee COLLATE "C", e.privilege_type COLLATE "C", a.attname IS NULL, e.is_grantable, r.grantor COLLATE "C";
GRANT SELECT ON granted TO PUBLIC;
SET ROLE gr_owner;
SELECT qflow.create_queue('s.q');

-- the arguments
\set VERBOSITY sqlstate
SELECT qflow.grant_producer(NULL, 'gr_one');
SELECT qflow.grant_consumer('s.q', NULL);
SELECT qflow.grant_monitor(NULL, NULL);
SELECT qflow.revoke_producer(NULL, 'gr_one');
SELECT qflow.revoke_consumer('s.q', NULL);
SELECT qflow.revoke_monitor(NULL, NULL);
SELECT qflow.grant_producer('s.none', 'gr_one');
SELECT qflow.revoke_producer('s.none', 'gr_one');
SELECT qflow.grant_producer('s.', 'gr_one');
SELECT qflow.grant_producer('s.q', '');
SELECT qflow.revoke_monitor('s.q', 'gr_none');
\set VERBOSITY default
BEGIN READ ONLY;
SELECT qflow.grant_producer('s.q', 'gr_one');
ROLLBACK;
BEGIN READ ONLY;
SELECT qflow.revoke_monitor('s.q', 'gr_one');
ROLLBACK;
SELECT qflow.grant_producer('s.q', 'gr_none');
SELECT qflow.grant_producer('s.q', 'GR_ONE');
SELECT qflow.grant_producer('s.q', '"gr_one"');
SELECT qflow.grant_producer('s.q', 'current_user');
SELECT qflow.grant_producer('s.q', 'PUBLIC');
SELECT qflow.grant_producer('s.q', 'gr_one, gr_two');
TABLE granted;
-- not NULL, and nothing
SELECT qflow.grant_monitor('s.q', 'gr_one') IS NULL, qflow.revoke_monitor('s.q', 'gr_one') IS NULL;
TABLE granted;

-- hostile names of roles and queues are names and nothing else
RESET ROLE;
SELECT format('CREATE ROLE %I', 'gr' || name), format('GRANT USAGE ON SCHEMA s TO %I', 'gr' || name)
FROM unnest(ARRAY['"; DROP TABLE s.q; --', '''', ' blank ', 'ÄÖ€', E'\nline', 'UPPER', '\', '$1', repeat('x', 61)]) AS name \gexec
CREATE ROLE "PUBLIC";
SET ROLE gr_owner;
SELECT qflow.create_queue('s."q""; DROP TABLE s.q; --"');
SELECT count(qflow.grant_producer('s.q', rolname)), count(qflow.grant_consumer('s."q""; DROP TABLE s.q; --"', rolname))
FROM pg_roles WHERE rolname ~ '^gr[^_]';
SELECT relname, count(DISTINCT grantee), string_agg(DISTINCT holds, ' ') FROM granted GROUP BY relname ORDER BY relname COLLATE "C";
-- (a byte more than a name has: not cut to one that exists)
SELECT qflow.grant_producer('s.q', 'gr' || repeat('x', 62));
SELECT qflow.revoke_producer('s.q', 'gr' || repeat('x', 62));
SELECT count(qflow.revoke_producer('s.q', rolname)), count(qflow.revoke_consumer('s."q""; DROP TABLE s.q; --"', rolname))
FROM pg_roles WHERE rolname ~ '^gr[^_]';
-- everyone, and the role whose name looks like everyone
SELECT qflow.grant_monitor('s.q', 'public');
SELECT qflow.grant_producer('s.q', 'PUBLIC');
TABLE granted;
SELECT qflow.revoke_monitor('s.q', 'public'), qflow.revoke_producer('s.q', 'PUBLIC');
TABLE granted;

-- what the role needs besides is told: the schema's USAGE
SELECT qflow.grant_producer('s.q', 'PUBLIC');
SELECT qflow.grant_monitor('s.q', 'public');
GRANT USAGE ON SCHEMA s TO PUBLIC;
SELECT qflow.grant_consumer('s.q', 'public');
REVOKE USAGE ON SCHEMA s FROM PUBLIC;
SELECT qflow.revoke_producer('s.q', 'PUBLIC'), qflow.revoke_monitor('s.q', 'public'), qflow.revoke_consumer('s.q', 'public');
TABLE granted;
-- DELETE, once an ack deletes
SELECT qflow.grant_consumer('s.q', 'gr_one');
SELECT qflow.alter_queue('s.q', on_complete => 'delete');
SELECT qflow.alter_queue('s.q', on_complete => 'delete');
TABLE granted;
SELECT qflow.grant_consumer('s.q', 'gr_one');
TABLE granted;
-- and taken back also when an ack does not delete any more
SELECT qflow.alter_queue('s.q', on_complete => 'keep');
SELECT qflow.revoke_consumer('s.q', 'gr_one');
TABLE granted;

-- who may: the owner, and who holds the rights with grant option; anything less is an error, nothing is granted
SET ROLE gr_other;
SELECT qflow.grant_consumer('s.q', 'gr_one');
SELECT qflow.revoke_consumer('s.q', 'gr_one');
SET ROLE gr_owner;
GRANT SELECT ON s.q TO gr_other WITH GRANT OPTION;
GRANT UPDATE ON s.q TO gr_other;
SET ROLE gr_other;
SELECT qflow.grant_consumer('s.q', 'gr_one');
SELECT qflow.revoke_consumer('s.q', 'gr_one');
SELECT qflow.grant_producer('s.q', 'gr_one');
SELECT * FROM granted WHERE grantee = 'gr_one';
SELECT qflow.grant_monitor('s.q', 'gr_one');
SELECT * FROM granted WHERE grantee = 'gr_one';
SELECT qflow.revoke_monitor('s.q', 'gr_one');
SET ROLE gr_owner;
GRANT UPDATE ON s.q TO gr_other WITH GRANT OPTION;
SET ROLE gr_other;
SELECT qflow.grant_consumer('s.q', 'gr_one');
SELECT * FROM granted WHERE grantee = 'gr_one';
-- what he granted, the owner cannot take back: an error, or a warning when that is not all
SET ROLE gr_owner;
SELECT qflow.revoke_consumer('s.q', 'gr_one');
SELECT qflow.grant_consumer('s.q', 'gr_one');
SELECT * FROM granted WHERE grantee = 'gr_one';
SELECT qflow.revoke_consumer('s.q', 'gr_one');
SELECT * FROM granted WHERE grantee = 'gr_one';
SET ROLE gr_other;
SELECT qflow.revoke_consumer('s.q', 'gr_one');
SET ROLE gr_owner;
REVOKE ALL ON s.q FROM gr_other CASCADE;
TABLE granted;
-- grant options that come from two roles: each right is granted as the one that may
RESET ROLE;
GRANT gr_left, gr_right TO gr_member;
SET ROLE gr_owner;
GRANT SELECT ON s.q TO gr_left WITH GRANT OPTION;
GRANT UPDATE ON s.q TO gr_right WITH GRANT OPTION;
SET ROLE gr_member;
SELECT qflow.grant_consumer('s.q', 'gr_one');
SELECT * FROM granted WHERE grantee = 'gr_one';
SET ROLE gr_owner;
REVOKE ALL ON s.q FROM gr_left, gr_right CASCADE;
-- a sequence that somebody else owns
RESET ROLE;
CREATE SEQUENCE s.foreign_seq;
GRANT USAGE ON s.foreign_seq TO gr_owner;
SET ROLE gr_owner;
SELECT qflow.create_queue('s.f');
ALTER TABLE s.f ALTER id DROP IDENTITY, ALTER id SET DEFAULT nextval('s.foreign_seq');
SELECT qflow.grant_producer('s.f', 'gr_one');
SELECT qflow.grant_consumer('s.f', 'gr_one'), qflow.revoke_consumer('s.f', 'gr_one');
-- (enqueue names the sequence: its schema counts too)
RESET ROLE;
CREATE SCHEMA away;
ALTER SEQUENCE s.foreign_seq SET SCHEMA away;
GRANT USAGE ON SEQUENCE away.foreign_seq TO gr_owner WITH GRANT OPTION;
GRANT USAGE ON SCHEMA away TO gr_owner;
SET ROLE gr_owner;
SELECT qflow.grant_producer('s.f', 'gr_one');
SET ROLE gr_one;
INSERT INTO s.f (data) VALUES ('{}');
SELECT qflow.enqueue('s.f', '{}');
SET ROLE gr_owner;
SELECT qflow.revoke_producer('s.f', 'gr_one');
-- a default that draws from no sequence, or from one that nobody can know
ALTER TABLE s.f ALTER id SET DEFAULT 4 + random();
SELECT qflow.grant_producer('s.f', 'gr_one');
SELECT * FROM granted WHERE grantee = 'gr_one';
SELECT qflow.revoke_producer('s.f', 'gr_one');
SELECT qflow.drop_queue('s.f', false);

-- an owner's rights are not the helpers'
SELECT qflow.revoke_consumer('s.q', 'gr_owner');
SELECT qflow.grant_consumer('s.q', 'gr_owner');
SELECT has_table_privilege('gr_owner', 's.q', 'SELECT'), has_table_privilege('gr_owner', 's.q', 'UPDATE');

-- every set of helpers for a role, one of them taken back: what is left is what the others grant
CREATE FUNCTION s.apply(verb text, parts text[], queue text, role text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE part text;
BEGIN
    FOREACH part IN ARRAY parts LOOP
        EXECUTE format('SELECT qflow.%s_%s(%L, %L)', verb, part, queue, role);
    END LOOP;
END $$;
CREATE FUNCTION s.combinations(queue text) RETURNS TABLE (revoked text, cells bigint, deviations bigint) LANGUAGE plpgsql AS $$
DECLARE
    parts text[] := ARRAY['producer', 'consumer', 'monitor'];
    chosen text[];
    gone text;
    is_left text;
    is_wanted text;
BEGIN
    FOREACH gone IN ARRAY parts LOOP
        revoked := gone; cells := 0; deviations := 0;
        FOR chosen IN SELECT ARRAY(SELECT parts[i] FROM generate_series(1, 3) AS i WHERE mask & (1 << (i - 1)) <> 0) FROM generate_series(0, 7) AS mask LOOP
            PERFORM s.apply('grant', chosen, queue, 'gr_one'), s.apply('revoke', ARRAY[gone], queue, 'gr_one'),
                s.apply('grant', array_remove(chosen, gone), queue, 'gr_two');
            SELECT string_agg(relname || holds, ' ') FILTER (WHERE grantee = 'gr_one'), string_agg(relname || holds, ' ') FILTER (WHERE grantee = 'gr_two')
            INTO is_left, is_wanted FROM public.granted;
            cells := cells + 1;
            IF is_left IS DISTINCT FROM is_wanted THEN
                deviations := deviations + 1;
                RAISE WARNING '% without %: left %, wanted %', chosen, gone, is_left, is_wanted;
            END IF;
            PERFORM s.apply('revoke', parts, queue, 'gr_one'), s.apply('revoke', parts, queue, 'gr_two');
            IF EXISTS (SELECT FROM public.granted WHERE grantee IN ('gr_one', 'gr_two')) THEN
                RAISE EXCEPTION 'something is left of %', chosen;
            END IF;
        END LOOP;
        RETURN NEXT;
    END LOOP;
END $$;
SELECT * FROM s.combinations('s.q');
SELECT qflow.create_queue('s.serial', on_complete => 'delete');
ALTER TABLE s.serial ALTER id DROP IDENTITY;
CREATE SEQUENCE s.ids OWNED BY s.serial.id;
ALTER TABLE s.serial ALTER id SET DEFAULT nextval('s.ids');
SELECT * FROM s.combinations('s.serial');
-- granting twice is granting once
SELECT qflow.grant_producer('s.serial', 'gr_one'), qflow.grant_monitor('s.serial', 'gr_one');
CREATE TEMPORARY TABLE once AS TABLE granted;
SELECT qflow.grant_producer('s.serial', 'gr_one'), qflow.grant_monitor('s.serial', 'gr_one');
SELECT count(*), (SELECT count(*) FROM (TABLE once EXCEPT TABLE granted) AS lost) FROM once;
SELECT qflow.revoke_producer('s.serial', 'gr_one'), qflow.revoke_monitor('s.serial', 'gr_one');
-- so is taking back twice
SELECT qflow.revoke_producer('s.serial', 'gr_one'), qflow.revoke_consumer('s.serial', 'gr_one'), qflow.revoke_monitor('s.serial', 'gr_one');
TABLE granted;

-- rights that were granted by hand stay, grant option and all, where a revoke of the table's would take them
GRANT SELECT (data), UPDATE (status, priority) ON s.q TO gr_one;
GRANT SELECT (id), UPDATE (id) ON s.q TO gr_one WITH GRANT OPTION;
GRANT INSERT, REFERENCES ON s.q TO gr_one;
SELECT qflow.grant_consumer('s.q', 'gr_one'), qflow.grant_monitor('s.q', 'gr_one');
SELECT qflow.revoke_consumer('s.q', 'gr_one');
TABLE granted;
SELECT qflow.revoke_monitor('s.q', 'gr_one');
TABLE granted;
-- (PostgreSQL's own word when such a right was passed on)
SET ROLE gr_one;
GRANT UPDATE (id) ON s.q TO gr_two;
SET ROLE gr_owner;
SELECT qflow.grant_consumer('s.q', 'gr_one');
SELECT qflow.revoke_consumer('s.q', 'gr_one');
REVOKE ALL ON s.q FROM gr_one CASCADE;
TABLE granted;

-- a sequence from which two queues draw is taken back with the second
SELECT qflow.create_queue('s.second');
ALTER TABLE s.second ALTER id DROP IDENTITY, ALTER id SET DEFAULT nextval('s.ids');
SELECT qflow.grant_producer('s.serial', 'gr_one'), qflow.grant_producer('s.second', 'gr_one');
TABLE granted;
SELECT qflow.revoke_producer('s.serial', 'gr_one');
TABLE granted;
SELECT qflow.revoke_producer('s.second', 'gr_one');
TABLE granted;

-- a table that has lost columns: what is granted would not do; what was granted can be taken back
SELECT qflow.grant_producer('s.q', 'gr_one'), qflow.grant_consumer('s.q', 'gr_one'), qflow.grant_monitor('s.q', 'gr_one');
ALTER TABLE s.q DROP COLUMN metadata;
SELECT qflow.grant_producer('s.q', 'gr_two');
SELECT qflow.grant_monitor('s.q', 'gr_two');
SELECT qflow.revoke_producer('s.q', 'gr_one'), qflow.revoke_consumer('s.q', 'gr_one'), qflow.revoke_monitor('s.q', 'gr_one');
TABLE granted;
-- nothing of what a producer sets is left: no list of columns is not the whole table
GRANT INSERT ON s.q TO gr_one;
ALTER TABLE s.q DROP COLUMN id CASCADE, DROP COLUMN data CASCADE, DROP COLUMN status CASCADE,
    DROP COLUMN priority CASCADE, DROP COLUMN available_at CASCADE;
SELECT qflow.revoke_producer('s.q', 'gr_one');
TABLE granted;

-- in a transaction that is rolled back nothing was granted
BEGIN;
SELECT qflow.grant_producer('s.second', 'gr_one');
ROLLBACK;
SELECT count(*) FROM granted WHERE relname = 'second';

-- what GRANT did is looked at: where somebody undoes it, the call fails
REVOKE ALL ON s.q FROM gr_one CASCADE;
SELECT qflow.create_queue('s.undone');
GRANT SELECT (data) ON s.undone TO gr_one;
SELECT qflow.grant_consumer('s.undone', 'gr_one');
RESET ROLE;
CREATE FUNCTION undo() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'REVOKE ALL ON s.undone FROM gr_one, gr_two'; END $$;
CREATE EVENT TRIGGER undo ON ddl_command_end WHEN TAG IN ('GRANT') EXECUTE FUNCTION undo();
SET ROLE gr_owner;
SELECT qflow.grant_monitor('s.undone', 'gr_two');
SELECT qflow.revoke_consumer('s.undone', 'gr_one');
RESET ROLE;
DROP EVENT TRIGGER undo;
DROP FUNCTION undo();
SELECT * FROM granted WHERE relname = 'undone';

DROP VIEW granted;
SET client_min_messages = warning;
DROP SCHEMA s, away CASCADE;
SELECT format('DROP OWNED BY %I', rolname), format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname LIKE 'gr\_%' OR rolname LIKE 'gr%' OR rolname = 'PUBLIC' \gexec
