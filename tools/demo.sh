#!/usr/bin/env bash
# `make demo`: the whole of qflow on real documents, on a throw-away durable PostgreSQL 17, with the release build.
#   tools/demo.sh [FOLDER…]       the documents; by default those that every Debian machine has
# The demo itself is examples/demo/demo.py; its exit status is this one's.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ -e "$ROOT/examples/demo/demo.py" ] || die "examples/demo/demo.py is not there"
"$ROOT/tools/install.sh" release "$(pg_home 17)/bin/pg_config"
export PYTHONPATH=$PYTHON_DIR PYTHONDONTWRITEBYTECODE=1
exec "$ROOT/tools/server.sh" --durable 17 python3 "$ROOT/examples/demo/demo.py" "$@"
