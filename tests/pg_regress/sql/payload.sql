-- payload: data and metadata come out as they went in, byte for byte, whatever is in them and however they got in.
-- PostgreSQL itself refuses to read deeply nested jsonb with the usual max_stack_depth on some machines; 6 MB is enough
-- for a depth of 10,000, and within the usual ulimit of 8 MB.
SET qflow.sweep = off;
SET max_stack_depth = '6MB';
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT qflow.create_queue('q');

-- The text of each is what jsonb makes of it: jsonb sorts keys and drops white space, qflow changes nothing.
CREATE TABLE payload (name text, value jsonb);
INSERT INTO payload VALUES
    ('array nested 10,000 deep', (repeat('[', 10000) || repeat(']', 10000))::jsonb),
    ('array nested 5,000 deep', (repeat('[', 5000) || '1' || repeat(']', 5000))::jsonb),
    ('object nested 5,000 deep', (repeat('{"a":', 5000) || 'null' || repeat('}', 5000))::jsonb),
    ('1e400', '1e400'), ('-1e400', '{"n": -1e400}'), ('1e-400', '1e-400'), ('zeros', '{"n": 1.10000000000000000000}'),
    ('40 digits', '1234567890123456789012345678901234567890'), ('40 digits with a fraction', '-1234567890123456789012345678901234567890.1234567890'),
    ('2^53 + 1', '9007199254740993'), ('2^64', '18446744073709551616'), ('minus zero', '-0'), ('minus zero point zero', '-0.0'),
    ('planes', to_jsonb(U&'\+01F600 \+010FFFF \FFFD \FEFF \2028 \2029 \200B'::text)), ('escapes', '"\u00e9 \ud83d\ude00 \u0001 \u001f \u007f \u2028 \/ \b\f\n\r\t\\ \""'),
    ('combining', to_jsonb(U&'e\0301 \1100\1161\11A8 \202E abc'::text)), ('noncharacters', to_jsonb(U&'\FFFE\FFFF\+01FFFF'::text)),
    ('keys', '{"": 0, " ": 1, "\u0001x": 2, "id": 3, "lease": 4, "$type": 5, "__proto__": {}}'),
    ('empty object', '{}'), ('empty array', '[]'), ('empty string', '""'), ('null', 'null'), ('true', 'true'), ('false', 'false'),
    ('zero', '0'), ('string', '"x"'), ('many keys', (SELECT jsonb_object_agg('k' || i, i) FROM generate_series(1, 5000) AS i)),
    ('long string', to_jsonb(repeat('ä', 200000))), ('incompressible', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 20000) AS i));
-- ways in: INSERT, enqueue, enqueue_batch, COPY; as data and as metadata. Ways out: fetch, the table, and fetch once more
CREATE FUNCTION went_in() RETURNS TABLE (name text, value text) LANGUAGE sql AS $$ SELECT name, value::text FROM payload $$;
CREATE TABLE sent (way text, id bigint, name text);
CREATE TABLE got (id bigint, data text, metadata text, batch_no int);
DO $$
DECLARE p record; job bigint; jobs bigint[];
BEGIN
    FOR p IN SELECT * FROM payload LOOP
        INSERT INTO q (data, metadata) VALUES (p.value, p.value) RETURNING id INTO job;
        INSERT INTO sent VALUES ('INSERT', job, p.name);
        INSERT INTO sent VALUES ('enqueue', qflow.enqueue('q', p.value, p.value), p.name);
    END LOOP;
    SELECT qflow.enqueue_batch('q', array_agg(value ORDER BY name), array_agg(value ORDER BY name)) INTO jobs FROM payload;
    INSERT INTO sent SELECT 'enqueue_batch', jobs[n], name FROM (SELECT name, row_number() OVER (ORDER BY name) AS n FROM payload) AS p;
END $$;
INSERT INTO q (data) VALUES ('{"neighbour": 1}');
INSERT INTO got SELECT id, data::text, metadata::text, batch_no FROM qflow.fetch('q', 1000, 1000);
SELECT count(*) AS sent, count(DISTINCT name) AS payloads FROM sent;
SELECT count(*) AS got, max(batch_no) AS batches FROM got;
SELECT way, count(*) AS sent, count(*) FILTER (WHERE g.data = i.value) AS data_same, count(*) FILTER (WHERE g.metadata = i.value) AS metadata_same,
    count(*) FILTER (WHERE octet_length(g.data) = octet_length(i.value)) AS length_same
FROM sent JOIN went_in() AS i USING (name) LEFT JOIN got AS g USING (id) GROUP BY way ORDER BY way;
SELECT way, name, left(g.data, 40) FROM sent JOIN went_in() AS i USING (name) LEFT JOIN got AS g USING (id)
WHERE g.data IS DISTINCT FROM i.value OR g.metadata IS DISTINCT FROM i.value ORDER BY 1, 2;
SELECT data, metadata FROM got WHERE id NOT IN (SELECT id FROM sent);
-- the table has them unchanged after fetch, requeue, a second fetch and ack
SELECT qflow.requeue('q', array_agg(id), ARRAY[max(lease)], 'again', 0) = (SELECT count(*) FROM got) FROM q;
SELECT count(*) FROM qflow.fetch('q', 1000) AS f JOIN sent USING (id) JOIN payload AS p USING (name)
WHERE f.data::text = p.value::text AND f.metadata::text = p.value::text AND f.attempt = 2;
SELECT qflow.ack('q', array_agg(id), ARRAY[max(lease)]) = (SELECT count(*) FROM got) FROM q;
SELECT count(*) FROM q JOIN sent USING (id) JOIN payload AS p USING (name)
WHERE q.data::text = p.value::text AND q.metadata::text = p.value::text AND q.status = 'completed';
-- some of them to look at
SELECT name, data FROM got JOIN sent USING (id) WHERE way = 'enqueue' AND octet_length(data) < 60 AND name <> 'noncharacters' ORDER BY name COLLATE "C";

-- COPY; omitted and NULL metadata
COPY q (data) FROM STDIN;
{"deep": [[[[1e400]]]], "n": 1234567890123456789012345678901234567890}
"é \\u0001 😀"
\.
COPY q (data, metadata) FROM STDIN;
{}	\N
null	null
\.
SELECT data, metadata FROM qflow.fetch('q');
-- enqueue: SQL NULL is not JSON null; metadata not given is {}
\set VERBOSITY sqlstate
SELECT qflow.enqueue('q', NULL);
SELECT qflow.enqueue_batch('q', ARRAY['{}', NULL]::jsonb[]);
INSERT INTO q (data) VALUES (NULL);
INSERT INTO q (data) VALUES ('"\u0000"');
\set VERBOSITY default
SELECT qflow.enqueue('q', 'null') > 0, qflow.enqueue('q', '1', 'null') > 0, qflow.enqueue('q', '2', NULL) > 0;
SELECT data, metadata FROM qflow.fetch('q');

-- a payload with text that UTF-8 has and other encodings lack, in databases of those: tests/process

DROP TABLE payload, sent, got CASCADE;
SELECT qflow.drop_queue('q', false);
