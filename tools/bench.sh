#!/usr/bin/env bash
# `make bench`, `make bench-latency`, `make bench-client`: bench/NAME.py, or the client's example throughput, on a throw-away
# PostgreSQL 17 that preloads qflow, durable, with the release build.
#   tools/bench.sh NAME [ARGUMENT…]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
unset PG_CONFIG # always the pinned one

"$ROOT/tools/install.sh" release "$(pg_home 17)/bin/pg_config"
export PYTHONPATH=$PYTHON_DIR PYTHONDONTWRITEBYTECODE=1
run=(python3 "$ROOT/bench/$1.py")
if [ "$1" = client ]; then
  (cd "$ROOT" && CARGO_TARGET_DIR=$CACHE/target/client cargo build --locked --release -p qflow-client --example throughput)
  # shellcheck disable=SC2016 # for the shell that has the server's address
  run=(sh -c 'DATABASE_URL="host=$PGHOST port=$PGPORT user=$PGUSER dbname=$PGDATABASE" exec "$@"' sh "$CACHE/target/client/release/examples/throughput")
fi
# pgmq's SQL comes in a crate; without it the report says so.
if [ "$1" = compare ]; then (cd "$ROOT/bench/peers" && cargo fetch --locked --quiet) || say "pgmq's crate cannot be fetched"; fi
exec "$ROOT/tools/server.sh" --durable --set "shared_preload_libraries = 'qflow'" 17 "${run[@]}" "${@:2}"
