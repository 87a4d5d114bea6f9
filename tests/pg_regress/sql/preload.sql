-- What needs qflow in shared_preload_libraries; preload_1.out is for a server that has it there.
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
SELECT qflow.create_queue('q');
INSERT INTO q (data) VALUES ('1'), ('2');
SELECT name, vartype, context, boot_val FROM pg_settings
WHERE name LIKE 'qflow.%' AND context = 'postmaster' ORDER BY name COLLATE "C";
DO $$
DECLARE state text; said text; hint text;
BEGIN
  RAISE WARNING '%', (SELECT count(*) FROM qflow.fetch('q', 1, hints => '{"bind": "session"}'));
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = returned_sqlstate, said = message_text, hint = pg_exception_hint;
  RAISE WARNING '% % | %', state, said, hint;
END $$;
SELECT bound, count(*) FROM qflow.lease_status GROUP BY 1;
