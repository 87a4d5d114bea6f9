-- errors_pass: what the server or a user's own code raises inside a call of qflow's reaches the client as it was raised:
-- SQLSTATE (also one that PostgreSQL does not know), detail, hint, names, context.
SET qflow.sweep = off;
SELECT qflow.create_queue('q');
INSERT INTO q (data) VALUES ('1'), ('2');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'no % today', TG_OP USING ERRCODE = 'AB123', DETAIL = 'a detail', HINT = 'a hint', SCHEMA = 'a schema',
        TABLE = 'a table', COLUMN = 'a column', DATATYPE = 'a type', CONSTRAINT = 'a constraint'; END $$;
-- Every field that a handler can ask for.
CREATE FUNCTION fields(sql text) RETURNS TABLE (field text, value text) LANGUAGE plpgsql AS $$
    DECLARE m text; d text; h text; s text; t text; c text; y text; n text; x text;
    BEGIN
        EXECUTE sql;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT, s = SCHEMA_NAME, t = TABLE_NAME,
            c = COLUMN_NAME, y = PG_DATATYPE_NAME, n = CONSTRAINT_NAME, x = PG_EXCEPTION_CONTEXT;
        RETURN QUERY VALUES ('sqlstate', sqlstate), ('message', m), ('detail', d), ('hint', h), ('schema', s), ('table', t), ('column', c),
            ('type', y), ('constraint', n), ('context', split_part(x, E'\n', 1));
    END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON q FOR EACH ROW EXECUTE FUNCTION refuse();
-- the same by hand and by fetch
SELECT * FROM fields('UPDATE q SET status = ''failed''') EXCEPT SELECT * FROM fields('SELECT qflow.fetch(''q'')');
SELECT * FROM fields('SELECT qflow.fetch(''q'')');
DROP TRIGGER refuse ON q;
CREATE TRIGGER refuse BEFORE INSERT ON q FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT * FROM fields('SELECT qflow.enqueue(''q'', ''3'')') WHERE field IN ('sqlstate', 'message', 'constraint');
DROP TRIGGER refuse ON q;
-- a constraint's name
ALTER TABLE q ADD CONSTRAINT few CHECK (attempt < 1) NOT VALID;
SELECT * FROM fields('SELECT qflow.fetch(''q'')') WHERE field IN ('sqlstate', 'table', 'constraint');
ALTER TABLE q DROP CONSTRAINT few;
-- An error that was caught on the way is not mixed up with the one after it.
CREATE TRIGGER refuse BEFORE UPDATE ON q FOR EACH ROW WHEN (new.status = 'pending') EXECUTE FUNCTION refuse();
SELECT id FROM qflow.fetch('q', 1, hints => '{"timeout_ms": 1}');
SELECT pg_sleep(0.005);
\c -
SET qflow.sweep = off;
SELECT * FROM fields('SELECT qflow.fetch(''nosuch'')') WHERE value <> '' AND field <> 'context';
SET client_min_messages = error;
SELECT * FROM fields('SELECT qflow.reap(), qflow.fetch(''q'', 0)') WHERE value <> '' AND field <> 'context';
RESET client_min_messages;
-- Handlers work, and the session goes on.
DO $$ BEGIN PERFORM qflow.requeue('q', array_agg(id), array_agg(lease)) FROM q WHERE lease IS NOT NULL;
    EXCEPTION WHEN SQLSTATE 'AB123' THEN RAISE NOTICE 'caught: %', sqlerrm; END $$;
DROP TRIGGER refuse ON q;
SELECT id FROM qflow.fetch('q', 5) ORDER BY id;
