#!/usr/bin/env bash
# `make test` and `make soak`: runs qflow's tests on each of the PostgreSQL versions given, for developers and for CI.
#   tools/test.sh [MAJOR…]        without arguments: all pinned versions; with PG_CONFIG=path that PostgreSQL only
# SUITE="rust golden isolation docs preloaded executor process client" runs only those; TEST=pattern only the tests whose name matches.
# QFLOW_SOAK=1 runs the process tests in full and at soak size on every version.
#   rust       #[pg_test], through cargo pgrx test
#   golden     tests/pg_regress/sql/*.sql against expected/*.out
#   isolation  tests/isolation/specs/*.spec against expected/*.out
#   docs       the examples in README.md and docs/*.md, through tests/docs/run.py
#   preloaded  golden and isolation once more with qflow in shared_preload_libraries: floors in shared memory, no worker,
#              which would take part; on the newest version
#   executor   golden and isolation once more with qflow.direct_access off, so that jobs are reached by SQL; on the newest
#              version. In a soak rust, process and client too, those at the size of make test
#   process    tests/process with pytest, three at a time but in a soak; on all but the newest version only tests marked
#              every_version: one of each kind, and what differs between versions
#   client     the tests of client/ with cargo test; on all but the newest version only those in CLIENT_EVERY_VERSION, on the
#              newest the contract tests through a pooler too
# Golden and isolation run beside each other, on servers of their own. Each of their tests gets a fresh database, and
# tests/verify_all.sql runs in it afterwards.
# Logs and differences: target/log/pgNN. The last line is always "N passed, N failed".
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/server.sh"

SUITES=${SUITE:-rust golden isolation docs preloaded executor process client}
# One of each kind: calls, transactions, consumer, pipeline, failures, a server that is killed.
CLIENT_EVERY_VERSION=(jobs_end_in_each_way commit_together wait_ends never_more_jobs batches_by_size errors_panics server_was_killed)
PATTERN=${TEST:-}
RESULTS=$(mktemp /tmp/qflow.XXXXXX) DIR= SUFFIX=
cleanup() {
  local lane server pid
  [ -n "$DIR" ] || return 0
  for lane in $(jobs -p); do kill "$lane" 2>/dev/null || true; done
  for server in "$DIR"/server-*; do drop_server "$server"; done
  for pid in "$DIR"/rust/*/postmaster.pid; do # of cargo pgrx test, when it was interrupted
    if [ -e "$pid" ]; then as_server_user "$BINDIR/pg_ctl" -D "$(dirname "$pid")" -m immediate -w -s stop || true; fi
  done
  rm -rf "$DIR"
}
trap 'cleanup; rm -f "$RESULTS"' EXIT
trap 'say "interrupted"; exit 130' INT TERM HUP

wanted() { case " $SUITES " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
# record SUITE PASSED FAILED SECONDS [NOTE]: into a file, since suites run beside each other.
record() {
  printf '%-4s %-19s %7s %7s %8s  %s\n' "$MAJOR" "$1" "$2" "$3" "$4" "${5:-}" >>"$RESULTS"
  say "PostgreSQL $MAJOR $1: $2 passed, $3 failed, $4 s${5:+ ($5)}"
}
not_run() {
  printf '%-4s %-19s %7s %7s %8s  %s\n' "$MAJOR" "$1" - - - "not run: $2" >>"$RESULTS"
  say "PostgreSQL $MAJOR $1: not run: $2"
}

# ---- the suites; each records its own result and returns 0

run_rust() {
  local suite=rust$SUFFIX log=$LOGS/rust$SUFFIX.log start=$SECONDS flags=(--pgdata "$DIR/rust") passed failed status=0
  mkdir -p "$DIR/rust"
  if is_root; then
    chown "$RUNAS" "$DIR/rust"
    flags+=(--runas "$RUNAS")
  fi
  say "PostgreSQL $MAJOR $suite: building and running"
  LOG_TAIL=100 cargo_step "$log" cargo pgrx test "pg$MAJOR" ${PATTERN:+"$PATTERN"} "${flags[@]}" || status=$?
  read -r passed failed < <(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$log" | awk '{p += $1; f += $2} END {print p + 0, f + 0}')
  if [ $status != 0 ] && [ "$failed" = 0 ]; then
    record "$suite" "$passed" 1 $((SECONDS - start)) "did not run through, see target/log/pg$MAJOR/$suite.log"
  elif [ $((passed + failed)) = 0 ]; then
    not_run "$suite" "no tests"
  else
    record "$suite" "$passed" "$failed" $((SECONDS - start))
  fi
}

# run_files SUITE PROGRAM FOLDER INPUTS: each test of a folder, in a database of its own.
run_files() {
  local suite=$1 program=$2 folder=$ROOT/tests/$3 inputs=$4 start=$SECONDS passed=0 failed=0 file name out why
  local files=()
  mapfile -t files < <(compgen -G "$folder/$inputs" | sort)
  [ ${#files[@]} -gt 0 ] || { not_run "$suite" "no tests in tests/$3"; return; }
  [ -x "$program" ] || { not_run "$suite" "this PostgreSQL has no $(basename "$program")"; return; }
  if [[ $suite == isolation* ]] && [ ! -x "$(dirname "$program")/isolationtester" ]; then not_run "$suite" "this PostgreSQL has no isolationtester"; return; fi
  for file in "${files[@]}"; do
    name=$(basename "${file%.*}")
    [[ $name =~ $PATTERN ]] || continue
    out=$LOGS/$suite/$name
    rm -rf "$out"
    mkdir -p "$out"
    why=
    { psql -Xq -c 'DROP DATABASE IF EXISTS qflow_test' -c 'CREATE DATABASE qflow_test' &&
      psql -Xq -d qflow_test -c 'CREATE EXTENSION qflow'; } >"$out/create.log" 2>&1 || why="no database: $(head -n 1 "$out/create.log")"
    if [ -z "$why" ]; then
      PG_ABS_SRCDIR=$folder LD_LIBRARY_PATH=$LIBRARIES "$program" --use-existing --bindir="$BINDIR" --inputdir="$folder" --outputdir="$out" \
        --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --dbname=qflow_test "$name" >"$out/run.log" 2>&1 </dev/null || why="differs from expected/$name.out"
      psql -XAtq -d qflow_test -f "$ROOT/tests/verify_all.sql" >"$out/verify.log" 2>&1 || why="${why:+$why; }verify could not run"
      if [ -s "$out/verify.log" ]; then why="${why:+$why; }verify finds faults"; fi
    fi
    if [ -z "$why" ]; then
      passed=$((passed + 1))
      continue
    fi
    failed=$((failed + 1))
    say "  FAILED $suite $name: $why"
    if [ -s "$out/regression.diffs" ]; then
      head -n 60 "$out/regression.diffs"
    elif [ -s "$out/run.log" ] && [ "${why#differs}" != "$why" ]; then
      tail -n 10 "$out/run.log" | sed -e '$a\'
    fi
    head -n 20 "$out/verify.log" 2>/dev/null || true
  done
  record "$suite" $passed $failed $((SECONDS - start))
}

run_docs() {
  local log=$LOGS/docs.log start=$SECONDS pages=() status=0 passed failed
  mapfile -t pages < <(cd "$ROOT" && grep -lxE '```(sql|sh run)' README.md docs/*.md 2>/dev/null)
  [ ${#pages[@]} -gt 0 ] || { not_run docs "no examples in README.md and docs/*.md"; return; }
  (cd "$ROOT" && LOG_TAIL=100 with_progress "$log" python3 tests/docs/run.py "$BINDIR/psql" "${pages[@]}") || status=$?
  read -r passed failed < <(sed -nE 's/^docs: ([0-9]+) blocks passed(, ([0-9]+) failed)?$/\1 0\3/p' "$log" | grep . || echo 0 0)
  if [ $status != 0 ] && [ $((10#$failed)) = 0 ]; then failed=1; fi
  record docs "$passed" $((10#$failed)) $((SECONDS - start))
}

# other_versions: for tests of upgrades, `14=/its/bin` for each other version that has qflow of this tree, else `14:why not`.
# Holds their locks, shared, so that no other run puts its own library there meanwhile.
other_versions() {
  local major home fd
  for major in $PG_MAJORS; do
    [ "$major" != "$MAJOR" ] || continue
    home=$(pg_home "$major")
    if [ ! -x "$home/bin/pg_config" ] || [ ! -e "$(stamp_file "$home/bin/pg_config")" ]; then
      OTHERS+="$major:qflow is not installed into PostgreSQL $major (make test PG=\"$major $MAJOR\" does)"$'\n'
    elif ! { exec {fd}>"$CACHE/pg$major.lock" && flock -sn "$fd"; }; then
      OTHERS+="$major:another run is at PostgreSQL $major"$'\n'
    elif [ "$(cat "$(stamp_file "$home/bin/pg_config")")" != "$(stamp "$home/bin/pg_config")" ]; then
      OTHERS+="$major:qflow in PostgreSQL $major is not a build of this tree (make test PG=\"$major $MAJOR\" installs it)"$'\n'
    else
      OTHERS+="$major=$home/bin"$'\n'
    fi
    if [ -n "${fd:-}" ]; then LOCKS+=("$fd"); fi
    fd=
  done
}
# run_process: most tests wait most of their time, so some run beside each other. A soak tells the figures of tests that passed
# too, undisturbed.
run_process() {
  local suite=process$SUFFIX log=$LOGS/process$SUFFIX.log start=$SECONDS passed failed skipped status=0 select=() OTHERS= LOCKS=() fd
  local beside=(-p xdist -n 3 --dist worksteal)
  if [ "${QFLOW_SOAK:-}" = 1 ]; then beside=(); fi
  compgen -G "$ROOT/tests/process/test_*.py" >/dev/null || { not_run "$suite" "no tests in tests/process"; return; }
  if [ "$QFLOW_FULL" = 0 ]; then select=(-m every_version); fi
  other_versions
  if [ "$QFLOW_FULL" = 1 ]; then # the tests of the demo are not among the others
    say "PostgreSQL $MAJOR $suite: building the demo's consumer"
    demo_consumer "$LOGS/demo-consumer.log" debug --all-features || { record "$suite" 0 1 0 "the demo's consumer was not built"; return; }
  fi
  say "PostgreSQL $MAJOR $suite: running"
  (cd "$ROOT" && QFLOW_PG_OTHERS=$OTHERS PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PYTHON_DIR LOG_TAIL=150 with_progress "$log" python3 -m pytest tests/process -v "-rfEs$([ "${QFLOW_SOAK:-}" = 1 ] && echo P)" --tb=short \
    -p no:cacheprovider --strict-markers -o "markers=every_version: runs on every PostgreSQL version, not only the newest" \
    "${beside[@]}" "${select[@]}" ${PATTERN:+-k "$PATTERN"}) || status=$?
  for fd in "${LOCKS[@]}"; do exec {fd}>&-; done
  count() { sed -nE "s/^=.*[ =]([0-9]+) ($1)( |,).*/\1/p" "$log" | tail -n 1 | grep . || echo 0; }
  passed=$(count passed) skipped=$(count skipped) failed=$(($(count failed) + $(count 'errors?')))
  if [ $status = 5 ]; then
    not_run "$suite" "no test selected"
  elif [ $status != 0 ] && [ $failed = 0 ]; then
    record "$suite" "$passed" 1 $((SECONDS - start)) "pytest ended with status $status"
  else
    record "$suite" "$passed" "$failed" $((SECONDS - start))
  fi
  # what could not run, each reason once
  while IFS= read -r reason; do
    not_run "$suite" "$reason"
  done < <(sed -nE 's/^SKIPPED \[([0-9]+)\] [^ ]+ (not run: )?(.*)$/\1 \3/p' "$log" |
    awk '{ n = $1; sub(/^[0-9]+ /, ""); tests[$0] += n } END { for (why in tests) print tests[why] " tests: " why }' | sort)
}

# run_client: on the server of with_server; tests that kill theirs make it themselves. On the newest version the contract
# tests run once more through a pooler in transaction mode.
run_client() {
  local select=(--)
  if [ -n "$PATTERN" ]; then select=("$PATTERN" --); elif [ "$QFLOW_FULL" = 0 ]; then select=(--tests -- "${CLIENT_EVERY_VERSION[@]}"); fi
  client_tests "client$SUFFIX" "${select[@]}"
  if [ -z "$PATTERN" ] && [ "$QFLOW_FULL" = 1 ]; then
    QFLOW_CLIENT_POOLER=1 client_tests "client-pooled$SUFFIX" --test consumer --test pipeline --test failures --
  fi
}

# client_tests NAME ARGUMENT…: cargo test of the client, recorded under a name.
client_tests() {
  local name=$1 log=$LOGS/$1.log start=$SECONDS passed failed status=0
  shift
  say "PostgreSQL $MAJOR $name: building and running"
  LOG_TAIL=100 cargo_step "$log" env CARGO_TARGET_DIR="$CACHE/target/client" QFLOW_CLIENT_SERVER="host=$PGHOST port=$PGPORT user=$PGUSER" \
    cargo test --locked -p qflow-client --all-features --no-fail-fast "$@" --show-output || status=$?
  read -r passed failed < <(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$log" | awk '{p += $1; f += $2} END {print p + 0, f + 0}')
  passed=$((passed - $(grep -c '^not run: ' "$log" || true))) # to cargo such a test has passed
  if [ $status != 0 ] && [ "$failed" = 0 ]; then
    record "$name" "$passed" 1 $((SECONDS - start)) "did not run through, see target/log/pg$MAJOR/$name.log"
  elif [ $((passed + failed)) = 0 ]; then
    not_run "$name" "no tests"
  else
    record "$name" "$passed" "$failed" $((SECONDS - start))
  fi
  while IFS= read -r reason; do
    not_run "$name" "$reason"
  done < <(sed -nE 's/^not run: (.*)$/\1/p' "$log" | sort | uniq -c | sed -E 's/^ *([0-9]+) (.*)$/\1 tests: \2/')
}

# run_sql_files SUFFIX LINE…: golden and isolation beside each other, each on a server of its own with these settings; the
# suites' names get the suffix.
run_sql_files() {
  local suffix=$1 lanes=() lane test=$pgxs/test
  shift
  if [ -n "$suffix" ] || wanted golden; then
    with_server "golden$suffix" "$@" -- run_files "golden$suffix" "$test/regress/pg_regress" pg_regress 'sql/*.sql' &
    lanes+=($!)
  fi
  if [ -n "$suffix" ] || wanted isolation; then
    with_server "isolation$suffix" "$@" -- run_files "isolation$suffix" "$test/isolation/pg_isolation_regress" isolation 'specs/*.spec' &
    lanes+=($!)
  fi
  for lane in "${lanes[@]}"; do
    wait "$lane" || record "sql$suffix" 0 1 0 "a suite did not run through"
  done
}

# run_version MAJOR FULL
run_version() {
  use_postgres "$1"
  LOGS=$ROOT/target/log/pg$MAJOR
  mkdir -p "$LOGS"
  DIR=$(mktemp -d /tmp/qflow.XXXXXX)
  chmod 755 "$DIR"
  local pgxs
  pgxs=$(dirname "$("$PG_CONFIG_PATH" --pgxs)")/..
  LIBRARIES=$("$PG_CONFIG_PATH" --libdir) # the pinned pg_regress does not find its libpq by itself
  export PATH=$BINDIR:$ORIGINAL_PATH
  export QFLOW_PG_BINDIR=$BINDIR QFLOW_PG_MAJOR=$MAJOR QFLOW_RUNAS=$RUNAS QFLOW_FULL=$2 QFLOW_SOAK=${QFLOW_SOAK:-0}
  # Another clone's run would put its library in the place of this one's.
  exec 9>"$CACHE/pg$MAJOR.lock"
  flock -n 9 || { say "waiting for another run on PostgreSQL $MAJOR"; flock 9; }
  say "== PostgreSQL $("$PG_CONFIG_PATH" --version | sed 's/PostgreSQL //') =="
  if wanted rust; then run_rust; fi
  if wanted golden || wanted isolation || wanted docs || wanted preloaded || wanted executor || wanted process || wanted client; then
    if install_for_tests; then run_on_server; fi
  fi
  cleanup
  exec 9>&-
}
install_for_tests() {
  local start=$SECONDS
  say "PostgreSQL $MAJOR: installing the build without tests"
  LOG=$LOGS/install.log "$ROOT/tools/install.sh" debug "$MAJOR" ||
    { record install 0 1 $((SECONDS - start)) "the other suites did not run, see target/log/pg$MAJOR/install.log"; return 1; }
}
# with_server NAME LINE… -- COMMAND…: runs the command on a server with these settings besides the usual ones.
with_server() {
  local name=$1 lines=("${FAST[@]}") line log crashes
  shift
  while [ "$1" != -- ]; do lines+=("$1"); shift; done
  shift
  while IFS= read -r line; do lines+=("$line"); done < <(test_conf)
  if ! { make_server "$DIR/server-$name" "${lines[@]}" && start_server "$DIR/server-$name"; }; then
    record "$name" 0 1 0 "its server did not start"
    drop_server "$DIR/server-$name"
    return
  fi
  "$@"
  log=$LOGS/$name-server.log
  cp "$DIR/server-$name/server.log" "$log"
  crashes=$(grep -cE 'PANIC:|TRAP:|terminated by signal' "$log" || true)
  if [ "$crashes" != 0 ]; then
    record "$name" 0 1 0 "$crashes crashes, see target/log/pg$MAJOR/$name-server.log"
    grep -E 'PANIC:|TRAP:|terminated by signal' "$log" | head -n 5
  fi
  drop_server "$DIR/server-$name"
  unset PGHOST PGPORT PGUSER PGDATABASE
}
# run_executor: by SQL, what else reaches jobs directly. Call it in a subshell, since all that follows is by SQL, and in the
# background: a shell that waits can be interrupted.
run_executor() {
  trap 'kill $(jobs -p) 2>/dev/null || true; exit 130' INT TERM HUP
  export QFLOW_TEST_CONF="qflow.direct_access = off"
  SUFFIX=-executor
  run_sql_files "$SUFFIX"
  [ "${QFLOW_SOAK:-}" = 1 ] || return 0
  export QFLOW_SOAK=0
  run_rust
  install_for_tests || return 0
  run_process
  run_client_on_server
}
run_client_on_server() {
  with_server "client$SUFFIX" "shared_preload_libraries = 'qflow'" "max_worker_processes = 100" "max_connections = 300" "qflow.max_databases = 200" -- run_client
}
run_on_server() {
  local preload=("shared_preload_libraries = 'qflow'" "qflow.worker = off" "qflow.exact_counts = on" "qflow.max_queues = 1000" "qflow.max_databases = 200")
  run_sql_files ''
  if wanted docs && [ -z "$PATTERN" ]; then with_server docs -- run_docs; fi
  if wanted preloaded && [ "$QFLOW_FULL" = 1 ]; then run_sql_files -preloaded "${preload[@]}"; fi
  if wanted process; then run_process; fi
  if wanted client; then run_client_on_server; fi
  if wanted executor && [ "$QFLOW_FULL" = 1 ]; then
    (run_executor) &
    wait $! || record executor 0 1 0 "did not run through"
  fi
}

# ---- which versions
ORIGINAL_PATH=$PATH
if [ -n "${PG_CONFIG:-}" ]; then
  VERSIONS=$(pg_major "$PG_CONFIG")
else
  VERSIONS=${*:-$PG_MAJORS}
fi
for major in $VERSIONS; do
  case " $PG_MAJORS " in *" $major "*) ;; *) die "PG=$major: the versions are $PG_MAJORS" ;; esac
done
NEWEST=$(printf '%s\n' $VERSIONS | sort -n | tail -n 1)
for major in $VERSIONS; do
  run_version "$major" "$([ "$major" = "$NEWEST" ] || [ "${QFLOW_SOAK:-0}" = 1 ] && echo 1 || echo 0)"
done

say
printf '%-4s %-19s %7s %7s %8s\n' PG suite passed failed seconds
cat "$RESULTS"
say
read -r passed failed < <(awk '{ passed += $3; failed += $4 } END { print passed + 0, failed + 0 }' "$RESULTS")
say "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
