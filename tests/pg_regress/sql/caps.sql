-- caps: what is too much is refused with 54000, and told which; the bytes of one fetch; the length of a reason.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT qflow.create_queue('q');

-- demand and batch size
SET qflow.max_demand = 5;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 20);
SELECT count(*) FROM qflow.fetch('q', 5);
SELECT qflow.fetch('q', 6);
SELECT qflow.fetch('q', 1, 6);
SELECT qflow.ack_and_fetch('q', '{}', '{}', 6);
SELECT qflow.ack_and_fetch('q', '{}', '{}', 1, 6);
-- the default of both is the batch size, and the cap ends it
SELECT count(*), max(batch_no) FROM qflow.fetch('q');
RESET qflow.max_demand;
SELECT qflow.fetch('q', 10001);

-- ids, leases, outcomes, new jobs
SET qflow.max_ids = 3;
SELECT qflow.ack('q', ARRAY[1, 2, 3], ARRAY[7]), qflow.ack('q', ARRAY[1, 2, 3], ARRAY[7, 7, 7]);
SELECT qflow.ack('q', ARRAY[1, 2, 3, 3], ARRAY[7]);
SELECT qflow.extend('q', ARRAY[1, 2, 3, 4]);
SELECT qflow.enqueue_batch('q', ARRAY['1', '2', '3', '4']::jsonb[]);
SELECT qflow.retry_failed('q', ARRAY[1, 2, 3, 4]);
\set VERBOSITY sqlstate
SELECT qflow.requeue('q', ARRAY[1, 2, 3, 4], ARRAY[7]);
SELECT qflow.fail('q', ARRAY[1, 2, 3, 4], ARRAY[7]);
SELECT qflow.release('q', ARRAY[1, 2, 3], ARRAY[7, 7, 7, 7]);
SELECT qflow.ack_and_fetch('q', ARRAY[1, 2, 3, 4], ARRAY[7]);
SELECT qflow.settle('q', (SELECT jsonb_agg(jsonb_build_object('id', i, 'lease', 7, 'outcome', 'ack')) FROM generate_series(1, 4) AS i));
SELECT qflow.enqueue_batch('q', ARRAY['1']::jsonb[], ARRAY['1', '2', '3', '4']::jsonb[]);
\set VERBOSITY default
SELECT count(*) FROM qflow.settle('q', (SELECT jsonb_agg(jsonb_build_object('id', i, 'lease', 7, 'outcome', 'ack')) FROM generate_series(1, 3) AS i));
SELECT qflow.enqueue_batch('q', ARRAY['1', '2', '3']::jsonb[]);
RESET qflow.max_ids;

-- payload: a CHECK of the table with the cap of the day the queue was made, 54000 from enqueue; never in the message
SET qflow.max_payload_bytes = 1000;
SELECT qflow.create_queue('small');
-- what is stored counts, so a value that is compressed may be longer: this is random
CREATE FUNCTION noise(bytes int) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(string_agg(md5(i::text), '')) FROM generate_series(1, bytes / 32) AS i $$;
\set VERBOSITY sqlstate
INSERT INTO small (data) VALUES (noise(2000));
INSERT INTO small (data, metadata) VALUES ('{}', noise(2000));
SELECT qflow.enqueue('small', noise(2000));
SELECT qflow.enqueue('small', '{}', noise(2000));
SELECT qflow.enqueue_batch('small', ARRAY['{}', noise(2000)]);
COPY small (data) FROM PROGRAM 'printf ''"''; seq -s "" 1 2000 | tr -d ''\n''; printf ''"\n''';
\set VERBOSITY default
SELECT qflow.enqueue('small', '{}', noise(2000));
SELECT count(*) FROM small;
INSERT INTO small (data) VALUES (noise(900));
SELECT qflow.enqueue('small', noise(900)) > 0;
-- a later change counts for new queues; an old one keeps its CHECK
RESET qflow.max_payload_bytes;
\set VERBOSITY sqlstate
INSERT INTO small (data) VALUES (noise(2000));
\set VERBOSITY default
INSERT INTO q (data) VALUES (noise(2000));
SELECT octet_length(data::text) FROM qflow.fetch('small');

-- bytes of one fetch: fewer jobs then, the rest by the next; one that is larger comes, alone
TRUNCATE q RESTART IDENTITY;
SELECT qflow.enqueue_batch('q', ARRAY(SELECT noise(100000) FROM generate_series(1, 10)));
SET qflow.max_fetch_bytes = 350000;
SELECT count(*), sum(octet_length(data::text)) <= 350000 FROM qflow.fetch('q', 100);
SELECT array_agg(id) FROM qflow.fetch('q', 2);
SELECT array_agg(id) FROM qflow.fetch('q', 100);
SET qflow.max_fetch_bytes = 50000;
INSERT INTO q (data, priority) VALUES ('1', 9), ('2', 9);
SELECT array_agg(id) FROM qflow.fetch('q', 100);
SELECT array_agg(id) FROM qflow.fetch('q', 100);
-- a large one behind small ones does not come with them, and is the first of the next fetch
INSERT INTO q (data) VALUES ('3'), (noise(100000)), ('4');
SELECT array_agg(id ORDER BY id) FROM qflow.fetch('q', 100);
SELECT array_agg(id ORDER BY id) FROM qflow.fetch('q', 100);
SELECT array_agg(id ORDER BY id) FROM qflow.fetch('q', 100);
-- metadata counts; due jobs too
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data, metadata) SELECT '1', noise(40000) FROM generate_series(1, 3);
SELECT array_agg(id) FROM qflow.fetch('q', 100);
UPDATE q SET available_at = now() WHERE status = 'pending';
SELECT array_agg(id) FROM qflow.fetch('q', 100);
SELECT array_agg(id) FROM qflow.fetch('q', 100);
RESET qflow.max_fetch_bytes;
-- 100 jobs of nearly 1 MB: the usual cap of 64 MB
TRUNCATE q RESTART IDENTITY;
DO $$ BEGIN FOR i IN 1..100 LOOP INSERT INTO q (data) VALUES (noise(1000000)); END LOOP; END $$;
SELECT count(*), sum(octet_length(data::text)) BETWEEN 60000000 AND 67108864 FROM qflow.fetch('q', 100);
SELECT count(*) FROM qflow.fetch('q', 100);

-- resources: of the call, and with those of the workflow
SET qflow.max_call_resources = 2;
SELECT qflow.fetch('q', hints => '{"cpu_cores": 1, "gpu": 0, "memory_gb": 1}');
SELECT qflow.create_workflow('lean', 'q', resource_hints => '{"cpu_cores": 1, "memory_gb": 1}');
SELECT qflow.fetch('lean', hints => '{"gpu": 1}');
SELECT count(*) FROM qflow.fetch('lean', hints => '{"memory_gb": 0}');
RESET qflow.max_call_resources;
SELECT qflow.drop_workflow('lean');

-- a reason is cut at 8 kB at a character boundary, never refused
TRUNCATE q RESTART IDENTITY;
INSERT INTO q (data) SELECT '{}' FROM generate_series(1, 7);
SELECT max(lease) AS lease FROM qflow.fetch('q', 7) \gset
SELECT qflow.fail('q', ARRAY[1], ARRAY[:lease], repeat('x', 8192)), qflow.fail('q', ARRAY[2], ARRAY[:lease], repeat('x', 8193)),
    qflow.fail('q', ARRAY[3], ARRAY[:lease], 'x' || repeat('ä', 5000)), qflow.fail('q', ARRAY[4], ARRAY[:lease], repeat('😀', 2000000)),
    qflow.requeue('q', ARRAY[5], ARRAY[:lease], 'xyz' || repeat('😀', 3000)), qflow.fail('q', ARRAY[6], ARRAY[:lease], '');
SELECT count(*) FROM qflow.settle('q', jsonb_build_array(jsonb_build_object('id', 7, 'lease', :lease, 'outcome', 'fail', 'reason', 'xy' || repeat('€', 5000))));
SELECT id, octet_length(failure_reason), length(failure_reason), right(failure_reason, 1) FROM q ORDER BY id;

DROP FUNCTION noise;
SELECT qflow.drop_queue('q', false), qflow.drop_queue('small', false);
