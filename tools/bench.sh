#!/usr/bin/env bash
# `make bench-latency`: bench/NAME.py on a throw-away PostgreSQL 17 that preloads qflow, with the release build.
#   tools/bench.sh NAME [ARGUMENT…]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
unset PG_CONFIG # always the pinned one

"$ROOT/tools/install.sh" release "$(pg_home 17)/bin/pg_config"
export PYTHONPATH=$PYTHON_DIR PYTHONDONTWRITEBYTECODE=1
exec "$ROOT/tools/server.sh" --durable --set "shared_preload_libraries = 'qflow'" 17 python3 "$ROOT/bench/$1.py" "${@:2}"
