-- state_table: every cell of the state table of leases: each state a job can be in × ack, requeue, fail, release and
-- extend, through the functions, through settle and through strict. The expected verdicts stand in the table below.
SET qflow.sweep = off;
\set SHOW_CONTEXT never
SELECT qflow.create_queue('q', retries => 1);
SELECT qflow.create_workflow('other', 'q', retries => 5);

CREATE TABLE expected (
    state text PRIMARY KEY, ack text, requeue text, fail text, release text, extend text,
    status text -- of the job before the call
);
INSERT INTO expected VALUES
    -- in progress under L, L of this workflow
    ('held',                          'acked',   'requeued', 'failed',  'released', 'held', 'in_progress'),
    ('held, past its deadline',       'acked',   'requeued', 'failed',  'released', 'held', 'in_progress'),
    ('held, last attempt',            'acked',   'failed',   'failed',  'released', 'held', 'in_progress'),
    ('held, more than all attempts',  'acked',   'failed',   'failed',  'released', 'held', 'in_progress'),
    -- in progress under another lease or none, or under L where L is another workflow's
    ('held under another',            'stale',   'stale',    'stale',   'stale',    'lost', 'in_progress'),
    ('held under another of another workflow', 'stale', 'stale', 'stale', 'stale',  'lost', 'in_progress'),
    ('held under none',               'stale',   'stale',    'stale',   'stale',    'lost', 'in_progress'),
    ('held, L of another workflow',   'stale',   'stale',    'stale',   'stale',    'lost', 'in_progress'),
    -- pending, last lease L
    ('requeued',                      'stale',   'already',  'stale',   'already',  'lost', 'pending'),
    ('released',                      'stale',   'already',  'stale',   'already',  'lost', 'pending'),
    ('reaped',                        'stale',   'already',  'stale',   'already',  'lost', 'pending'),
    ('retried by an operator',        'stale',   'already',  'stale',   'already',  'lost', 'pending'),
    ('requeued, L of another workflow', 'stale', 'already',  'stale',   'already',  'lost', 'pending'),
    -- completed, last lease L
    ('completed',                     'already', 'stale',    'stale',   'stale',    'lost', 'completed'),
    ('completed, L of another workflow', 'already', 'stale', 'stale',   'stale',    'lost', 'completed'),
    -- failed, last lease L
    ('failed',                        'stale',   'already',  'already', 'stale',    'lost', 'failed'),
    ('failed for want of attempts',   'stale',   'already',  'already', 'stale',    'lost', 'failed'),
    ('failed by the reaper',          'stale',   'already',  'already', 'stale',    'lost', 'failed'),
    ('failed, L of another workflow', 'stale',   'already',  'already', 'stale',    'lost', 'failed'),
    -- any of the three with another last lease or none
    ('pending under another',         'stale',   'stale',    'stale',   'stale',    'lost', 'pending'),
    ('completed under another',       'stale',   'stale',    'stale',   'stale',    'lost', 'completed'),
    ('failed under another',          'stale',   'stale',    'stale',   'stale',    'lost', 'failed'),
    ('never fetched',                 'stale',   'stale',    'stale',   'stale',    'lost', 'pending'),
    ('completed by hand',             'stale',   'stale',    'stale',   'stale',    'lost', 'completed'),
    ('failed by hand',                'stale',   'stale',    'stale',   'stale',    'lost', 'failed'),
    -- no such row
    ('deleted while held',            'unknown', 'unknown',  'unknown', 'unknown',  'lost', NULL),
    ('purged',                        'unknown', 'unknown',  'unknown', 'unknown',  'lost', NULL);

-- Takes the only job; its lease.
CREATE FUNCTION take(workflow text, hints jsonb = NULL) RETURNS bigint LANGUAGE sql AS
$$ SELECT f.lease FROM qflow.fetch(workflow, 1, hints => hints) AS f $$;

-- Puts a fresh job into a state: its id and L.
CREATE FUNCTION build(state text, OUT id bigint, OUT l bigint) LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM q;
    id := qflow.enqueue('q', '{}');
    CASE state
    WHEN 'held' THEN l := take('q');
    WHEN 'held, past its deadline' THEN l := take('q', '{"timeout_ms": 1}'); PERFORM pg_sleep(0.005);
    WHEN 'held, last attempt' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0); l := take('q');
    WHEN 'held, more than all attempts' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0);
        l := take('q'); PERFORM qflow.fail('q', ARRAY[id], ARRAY[l]);
        UPDATE q SET status = 'pending' WHERE q.id = build.id; l := take('q');
    WHEN 'held under another' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0); PERFORM take('q');
    WHEN 'held under another of another workflow' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0); PERFORM take('other');
    WHEN 'held under none' THEN
        l := take('q'); UPDATE q SET lease = NULL WHERE q.id = build.id;
    WHEN 'held, L of another workflow' THEN l := take('other');
    WHEN 'requeued' THEN l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l]);
    WHEN 'released' THEN l := take('q'); PERFORM qflow.release('q', ARRAY[id], ARRAY[l]);
    WHEN 'reaped' THEN l := take('q', '{"timeout_ms": 1}'); PERFORM pg_sleep(0.005); PERFORM qflow.reap();
    WHEN 'retried by an operator' THEN
        l := take('q'); PERFORM qflow.ack('q', ARRAY[id], ARRAY[l]); UPDATE q SET status = 'pending' WHERE q.id = build.id;
    WHEN 'requeued, L of another workflow' THEN l := take('other'); PERFORM qflow.requeue('other', ARRAY[id], ARRAY[l]);
    WHEN 'completed' THEN l := take('q'); PERFORM qflow.ack('q', ARRAY[id], ARRAY[l]);
    WHEN 'completed, L of another workflow' THEN l := take('other'); PERFORM qflow.ack('other', ARRAY[id], ARRAY[l]);
    WHEN 'failed' THEN l := take('q'); PERFORM qflow.fail('q', ARRAY[id], ARRAY[l]);
    WHEN 'failed for want of attempts' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0);
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0);
    WHEN 'failed by the reaper' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0);
        l := take('q', '{"timeout_ms": 1}'); PERFORM pg_sleep(0.005); PERFORM qflow.reap();
    WHEN 'failed, L of another workflow' THEN l := take('other'); PERFORM qflow.fail('other', ARRAY[id], ARRAY[l]);
    WHEN 'pending under another' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0);
        PERFORM qflow.release('q', ARRAY[id], ARRAY[take('q')]);
    WHEN 'completed under another' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0);
        PERFORM qflow.ack('q', ARRAY[id], ARRAY[take('q')]);
    WHEN 'failed under another' THEN
        l := take('q'); PERFORM qflow.requeue('q', ARRAY[id], ARRAY[l], NULL, 0);
        PERFORM qflow.fail('q', ARRAY[id], ARRAY[take('q')]);
    WHEN 'never fetched', 'completed by hand', 'failed by hand' THEN
        l := take('q'); DELETE FROM q WHERE q.id = build.id;
        INSERT INTO q (data, status) VALUES ('{}', CASE state WHEN 'never fetched' THEN 'pending' ELSE split_part(state, ' ', 1) END)
        RETURNING q.id INTO id;
    WHEN 'deleted while held' THEN l := take('q'); DELETE FROM q WHERE q.id = build.id;
    WHEN 'purged' THEN
        l := take('q'); PERFORM qflow.ack('q', ARRAY[id], ARRAY[l]); PERFORM qflow.purge_queue('q');
    END CASE;
END $$;

-- Does it, and says what qflow said.
CREATE FUNCTION act(via text, op text, id bigint, l bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    outcome jsonb := jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('id', id, 'lease', l::text, 'outcome', op,
        'reason', CASE WHEN op IN ('requeue', 'fail') THEN 'why' END)));
BEGIN
    CASE
    WHEN op = 'extend' THEN
        RETURN CASE WHEN EXISTS (SELECT FROM qflow.extend('q', ARRAY[l], 60000) AS e WHERE e.lease = l) THEN 'held' ELSE 'lost' END;
    WHEN via = 'settle' THEN RETURN (SELECT string_agg(s.outcome, ',') FROM qflow.settle('q', outcome) AS s WHERE s.id = act.id AND s.lease = l);
    WHEN via = 'settle strict' THEN RETURN (SELECT string_agg(s.outcome, ',') FROM qflow.settle('q', outcome, true) AS s);
    WHEN op = 'ack' THEN RETURN qflow.ack('q', ARRAY[id], ARRAY[l], via = 'function strict');
    WHEN op = 'requeue' THEN RETURN qflow.requeue('q', ARRAY[id], ARRAY[l], 'why');
    WHEN op = 'fail' THEN RETURN qflow.fail('q', ARRAY[id], ARRAY[l], 'why');
    WHEN op = 'release' THEN RETURN qflow.release('q', ARRAY[id], ARRAY[l]);
    END CASE;
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
END $$;

-- All that may change, as one text.
CREATE FUNCTION shown(j q) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', j.status, 'attempt', j.attempt, 'lease', coalesce(j.lease::text, 'none'),
        CASE WHEN j.available_at IS NOT NULL THEN 'available_at' END, 'because', coalesce(j.failure_reason, 'nothing'))
$$;

DO $$
DECLARE
    e record; cell record; b record; before q; after q; got text; verdict text; want text; want_row text;
    cells int := 0; deviations int := 0;
BEGIN
    FOR e IN SELECT * FROM expected LOOP
        FOR cell IN SELECT o.op, v.via FROM unnest(ARRAY['ack', 'requeue', 'fail', 'release', 'extend']) AS o (op)
            CROSS JOIN unnest(ARRAY['function', 'function strict', 'settle', 'settle strict']) AS v (via)
            WHERE v.via = 'function' OR o.op <> 'extend' AND (v.via <> 'function strict' OR o.op = 'ack')
        LOOP
            cells := cells + 1;
            SELECT * INTO b FROM build(e.state);
            SELECT * INTO before FROM q WHERE q.id = b.id;
            got := act(cell.via, cell.op, b.id, b.l);
            SELECT * INTO after FROM q WHERE q.id = b.id;
            verdict := to_jsonb(e) ->> cell.op;
            want := CASE
                WHEN cell.op = 'extend' OR cell.via = 'settle' THEN verdict
                WHEN cell.via LIKE '%strict' AND verdict IN ('stale', 'unknown') THEN '55000'
                WHEN cell.via = 'settle strict' THEN verdict
                ELSE (verdict NOT IN ('stale', 'unknown'))::int::text END;
            want_row := CASE WHEN e.status IS NULL THEN shown(NULL::q) ELSE
                concat_ws(' ', CASE verdict WHEN 'acked' THEN 'completed' WHEN 'requeued' THEN 'pending' WHEN 'failed' THEN 'failed'
                        WHEN 'released' THEN 'pending' ELSE e.status END,
                    'attempt', before.attempt - (verdict = 'released')::int, 'lease', coalesce(before.lease::text, 'none'),
                    CASE WHEN verdict IN ('requeued', 'released')
                        OR verdict NOT IN ('acked', 'failed') AND before.available_at IS NOT NULL THEN 'available_at' END,
                    'because', CASE WHEN verdict IN ('requeued', 'failed') THEN 'why' ELSE coalesce(before.failure_reason, 'nothing') END) END;
            IF before.status IS DISTINCT FROM e.status THEN
                RAISE NOTICE '%: built as %', e.state, before.status;
            END IF;
            IF got IS DISTINCT FROM want OR shown(after) <> want_row THEN
                deviations := deviations + 1;
                RAISE NOTICE '% × % by %: answered % instead of %, the job is "%" instead of "%"', e.state, cell.op, cell.via, got, want,
                    regexp_replace(shown(after), '\d{4,}', 'N'), regexp_replace(want_row, '\d{4,}', 'N');
            END IF;
            -- an ended hold leaves no lease row; one that goes on keeps it
            IF verdict IN ('acked', 'requeued', 'failed', 'released') AND EXISTS (SELECT FROM qflow.lease_status WHERE lease = b.l)
                OR verdict = 'held' AND NOT EXISTS (SELECT FROM qflow.lease_status WHERE lease = b.l AND unsettled = 1) THEN
                deviations := deviations + 1;
                RAISE NOTICE '% × % by %: wrong about the lease row', e.state, cell.op, cell.via;
            END IF;
        END LOOP;
    END LOOP;
    RAISE NOTICE '% cells, % deviations', cells, deviations;
END $$;

DROP FUNCTION shown(q);
SELECT qflow.drop_queue('q', false);
