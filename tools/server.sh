#!/usr/bin/env bash
# A throw-away PostgreSQL server: for make run, for the demo, and for the test scripts, which source this file.
#   tools/server.sh [--durable] [--set 'name = value']… MAJOR [COMMAND…]
# starts one with qflow created in the database qflow (if it was installed, see tools/install.sh), runs the command
# (psql if there is none) with PGHOST, PGPORT, PGUSER and PGDATABASE set, and removes the server again.
# With PG_CONFIG=path it is the user's own PostgreSQL. The server runs as an ordinary user also when root calls this.

# make_server DIR [line…]: a new cluster below DIR (which it makes its own), with extra configuration lines.
# Uses BINDIR. Everything the server needs lies in DIR or in the PostgreSQL folder, never in the clone.
make_server() {
  local dir=$1
  shift
  mkdir -p "$dir"
  chmod 755 "$dir"
  if is_root; then chown "$RUNAS" "$dir"; fi
  (cd "$dir" && HOME=$dir as_server_user "$BINDIR/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1) ||
    { cat "$dir/initdb.log" >&2; return 1; }
  {
    echo "listen_addresses = ''"
    echo "unix_socket_directories = '$dir'"
    echo "port = 5432"
    printf '%s\n' "$@"
  } >>"$dir/data/postgresql.conf"
}
# start_server DIR: starts it and waits until it answers. Output goes to DIR/server.log.
start_server() {
  (cd "$1" && HOME=$1 as_server_user "$BINDIR/pg_ctl" -D "$1/data" -l "$1/server.log" -t 60 -w -s start </dev/null) ||
    { tail -n 30 "$1/server.log" >&2; return 1; }
  export PGHOST=$1 PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
}
# drop_server DIR: stops it whatever it does, and removes it.
drop_server() {
  [ -d "$1" ] || return 0
  if [ -e "$1/data/postmaster.pid" ]; then
    (cd "$1" && HOME=$1 as_server_user "$BINDIR/pg_ctl" -D "$1/data" -m immediate -w -s stop) || true
  fi
  rm -rf "$1"
}
# The settings of a server whose data nobody will miss.
FAST=("fsync = off" "synchronous_commit = off" "full_page_writes = off" "autovacuum_naptime = 5s")

# Lines that qflow's tests need of a server: tests/postgresql.conf, without its comments, and QFLOW_TEST_CONF.
test_conf() {
  sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$ROOT/tests/postgresql.conf" 2>/dev/null || true
  printf '%s\n' "${QFLOW_TEST_CONF:-}"
}

[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

set -euo pipefail
. "$(dirname "$0")/lib.sh"
lines=("${FAST[@]}")
while [ $# -gt 0 ]; do
  case $1 in
    --durable) lines=("fsync = on" "synchronous_commit = on"); shift ;;
    --set) lines+=("$2"); shift 2 ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || die "usage: tools/server.sh [--durable] [--set 'name = value'] MAJOR [COMMAND…]"
use_postgres "$1"
shift
while IFS= read -r line; do lines+=("$line"); done < <(test_conf)

dir=$(mktemp -d /tmp/qflow.XXXXXX)
trap 'drop_server "$dir"' EXIT
trap 'exit 130' INT TERM HUP
make_server "$dir" "${lines[@]}"
start_server "$dir"
export BINDIR PATH=$BINDIR:$PATH
psql -Xqc 'CREATE DATABASE qflow' && export PGDATABASE=qflow
if [ -e "$("$PG_CONFIG_PATH" --sharedir)/extension/qflow.control" ]; then psql -Xqc 'CREATE EXTENSION qflow'; fi
status=0
"${@:-psql}" || status=$?
exit $status
