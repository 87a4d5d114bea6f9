#!/usr/bin/env bash
# `make demo`: the whole of qflow on real documents, on a throw-away durable PostgreSQL 17, with the release build.
#   tools/demo.sh [FOLDER] [OPTION…]    the documents, by default those that every Debian machine has; --help
# The demo itself is demo/run.py; its exit status is this one's.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
unset PG_CONFIG # always the pinned one: the demo installs into it

home=$(pg_home 17)
[ -e "$home/.ok" ] && [ -e "$PYTHON_DIR/.ok" ] || "$ROOT/tools/setup.sh"
"$ROOT/tools/install.sh" release "$home/bin/pg_config"
say "building the demo's consumer"
demo_consumer "$ROOT/target/log/demo-consumer.log" release --release
say
export PYTHONPATH=$PYTHON_DIR PYTHONDONTWRITEBYTECODE=1
exec "$ROOT/tools/server.sh" --durable 17 python3 "$ROOT/demo/run.py" "$@" </dev/null
