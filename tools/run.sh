#!/usr/bin/env bash
# `make run`: builds qflow and opens psql on a throw-away server that has it.
#   tools/run.sh MAJOR        leaving psql removes the server and everything in it
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if [ -n "${PG_CONFIG:-}" ]; then set -- "$(pg_major "$PG_CONFIG")"; fi
say "building qflow for PostgreSQL $1"
"$ROOT/tools/install.sh" debug "$1"
say "PostgreSQL $1 with qflow; \\q leaves and removes it"
exec "$ROOT/tools/server.sh" "$1"
