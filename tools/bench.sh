#!/usr/bin/env bash
# `make bench`, `make bench-latency`, `make bench-instructions`, `make bench-client`: bench/NAME.py, or the client's example
# throughput, on a throw-away PostgreSQL 17 that preloads qflow, durable, with the release build.
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
set=()
if [ "$1" = compare ] || [ "$1" = instructions ]; then
  # No checkpoint and no autovacuum by itself: whoever it hit would pay for all. bench/server.py makes both where they are due.
  set=(--set "shared_buffers = '1GB'" --set "max_wal_size = '8GB'" --set "checkpoint_timeout = '1h'" --set "autovacuum = off")
fi
if [ "$1" = compare ]; then
  # What the peers are made of, pinned; the report names the ones that are missing.
  export QFLOW_BENCH_PEERS=$CACHE/bench-peers
  mkdir -p "$QFLOW_BENCH_PEERS" "$CACHE/log"
  (cd "$ROOT/bench/peers" && cargo fetch --locked --quiet) || say "pgmq's crate cannot be fetched"
  want=$(cat "$ROOT"/bench/requirements.txt "$ROOT"/bench/peers/package*.json | sha256sum | cut -c 1-16)
  if [ "$(cat "$QFLOW_BENCH_PEERS/.ok" 2>/dev/null)" != "$want" ]; then
    rm -rf "$QFLOW_BENCH_PEERS/python" "$QFLOW_BENCH_PEERS/node_modules"
    cp "$ROOT"/bench/peers/package*.json "$QFLOW_BENCH_PEERS"
    done=yes
    python3 -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
      --target "$QFLOW_BENCH_PEERS/python" -r "$ROOT/bench/requirements.txt" >"$CACHE/log/bench-pip.log" 2>&1 </dev/null ||
      { say "procrastinate cannot be fetched: $CACHE/log/bench-pip.log"; done=no; }
    (cd "$QFLOW_BENCH_PEERS" && npm ci --ignore-scripts --omit=dev --no-audit --no-fund) >"$CACHE/log/bench-npm.log" 2>&1 </dev/null ||
      { say "graphile-worker cannot be installed: $CACHE/log/bench-npm.log"; done=no; }
    [ $done = no ] || echo "$want" >"$QFLOW_BENCH_PEERS/.ok"
  fi
  # PgQ is Debian's, for PostgreSQL 15: into the pinned one.
  # shellcheck source=../bench/peers/pgq.env
  . "$ROOT/bench/peers/pgq.env"
  pgq=$(pg_home 15)/share/extension/pgq.control
  if [ ! -e "$pgq" ]; then
    (
      dir=$(mktemp -d "$QFLOW_BENCH_PEERS/pgq.XXXXXX")
      trap 'rm -rf "$dir"' EXIT
      cd "$dir"
      apt-get download -q "postgresql-15-pgq3=$(var "PGQ_${ARCH}_VERSION")" && printf '%s  %s\n' "$(var "PGQ_$ARCH")" "$(ls ./*.deb)" | sha256sum -c &&
        dpkg -x ./*.deb . && cp usr/lib/postgresql/15/lib/pgq*.so "$(pg_home 15)/lib" &&
        cp usr/share/postgresql/15/extension/pgq--* "$(pg_home 15)/share/extension" &&
        cp usr/share/postgresql/15/extension/pgq.control "$pgq"
    ) >"$CACHE/log/bench-apt.log" 2>&1 || say "PgQ cannot be fetched: $CACHE/log/bench-apt.log"
  fi
fi
# PgQ's own server goes around the other.
around=()
if [ "$1" = compare ] && [ -e "$pgq" ]; then
  # shellcheck disable=SC2016 # for the shell that has the server's address
  around=("$ROOT/tools/server.sh" --durable "${set[@]}" 15
    sh -c 'export QFLOW_BENCH_PGQ="host=$PGHOST port=$PGPORT user=$PGUSER dbname=$PGDATABASE"; exec "$@"' sh)
fi
exec "${around[@]}" "$ROOT/tools/server.sh" --durable --set "shared_preload_libraries = 'qflow'" "${set[@]}" 17 "${run[@]}" "${@:2}"
