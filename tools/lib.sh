# Shared by the scripts in tools/: paths, versions, and the user that servers run as. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=versions.env
. "$ROOT/tools/versions.env"
umask 022

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

is_root() { [ "$(id -u)" = 0 ]; }
if is_root; then
  CACHE=${QFLOW_CACHE:-/var/cache/qflow} # root's home is closed to the user that servers run as
else
  CACHE=${QFLOW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/qflow}
fi
case $(uname -s)-$(uname -m) in
  Linux-x86_64) ARCH=x86_64 ;;
  Linux-aarch64 | Linux-arm64) ARCH=aarch64 ;;
  *) die "no pinned PostgreSQL for $(uname -s) on $(uname -m); qflow's tools know Linux on x86_64 and aarch64" ;;
esac

# The user that PostgreSQL runs as: it refuses to run as root.
if is_root; then
  RUNAS=${QFLOW_RUNAS:-$(id -un postgres 2>/dev/null || echo qflow)}
else
  RUNAS=$(id -un)
fi
export USER=${USER:-$(id -un)} # pgrx-tests insists on it
# Runs a command as that user.
as_server_user() {
  if is_root; then runuser -u "$RUNAS" -- "$@" 9>&-; else "$@" 9>&-; fi # 9 is the lock of tools/test.sh
}

# What a build needs to know. The tools have a pgrx home of their own, so that no setting in the
# user's ~/.pgrx can change what is tested.
USER_PGRX_HOME=${PGRX_HOME:-$HOME/.pgrx}
export PGRX_HOME=$CACHE/pgrx
export CARGO_PROFILE_DEV_DEBUG=${CARGO_PROFILE_DEV_DEBUG:-line-tables-only} CARGO_TERM_PROGRESS_WHEN=never
export PATH=$PATH:$CACHE/bin # holds a stand-in for sudo where there is none
PYTHON_DIR=$CACHE/python$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)

# var NAME: the value of a variable whose name was put together, e.g. "$(var PG17)".
var() { printf '%s' "${!1}"; }
# pg_home 17: the folder of the pinned PostgreSQL 17.
pg_home() { printf '%s' "$CACHE/postgresql/$(var "PG$1")"; }

# with_progress LOG COMMAND…: runs a long command with its output in LOG, and says each half minute what it is doing.
# When it fails, shows the end of LOG. Interrupted, it takes all that the command started with it.
with_progress() (
  log=$1 start=$SECONDS next=30 status=0
  shift
  mkdir -p "$(dirname "$log")"
  setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
  pid=$!
  trap 'kill -TERM -- "-$pid" 2>/dev/null || true' EXIT
  trap 'exit 130' INT TERM HUP
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.3
    if [ $((SECONDS - start)) -ge $next ]; then
      next=$((next + 30))
      printf '      %4d s  %s\n' $((SECONDS - start)) "$(tail -n 1 "$log" | cut -c 1-90)"
    fi
  done
  wait "$pid" || status=$?
  trap - EXIT
  if [ $status != 0 ]; then
    printf '%s\n' "----- the end of $log"
    tail -n "${LOG_TAIL:-40}" "$log"
  fi
  exit $status
)

# use_postgres 17: sets MAJOR, PG_CONFIG_PATH and BINDIR, and points cargo at that version.
# With PG_CONFIG in the environment it is the user's own server instead (through a copy, see tools/own-postgres.sh).
use_postgres() {
  MAJOR=$1
  if [ -n "${PG_CONFIG:-}" ]; then
    PG_CONFIG_PATH=$("$ROOT/tools/own-postgres.sh" "$PG_CONFIG")
    export PGRX_HOME=${PG_CONFIG_PATH%%/tree/*}/pgrx CARGO_TARGET_DIR=${PG_CONFIG_PATH%%/tree/*}/target
  else
    PG_CONFIG_PATH=$(pg_home "$MAJOR")/bin/pg_config
    [ -x "$PG_CONFIG_PATH" ] || die "PostgreSQL $MAJOR is not there yet: run make setup"
    export CARGO_TARGET_DIR=$CACHE/target/pg$MAJOR # one a version: switching features in one folder rebuilds pgrx
  fi
  BINDIR=$("$PG_CONFIG_PATH" --bindir)
}

# stamp PG_CONFIG: a checksum of all that qflow is made from in this tree and of what is installed in that PostgreSQL.
# tools/install.sh debug leaves it there: as long as it fits, that installation is of this tree.
stamp() {
  (
    cd "$ROOT"
    find Cargo.toml Cargo.lock qflow.control rust-toolchain.toml src sql -type f -print0 | sort -z | xargs -0 sha256sum
    sha256sum "$("$1" --pkglibdir)/qflow.so" "$("$1" --sharedir)"/extension/qflow*
  ) 2>&1 | sha256sum | cut -c 1-16
}
stamp_file() { printf '%s' "$("$1" --pkglibdir)/qflow.stamp"; }

# pg_major PG_CONFIG: its major version.
pg_major() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

# cargo_step LOG WHAT COMMAND…: a cargo command in the folder of the sources, with progress.
cargo_step() {
  local log=$1
  shift
  (cd "$ROOT" && with_progress "$log" "$@")
}

# demo_consumer LOG PROFILE [OPTION…]: builds the demo's consumer, client/examples/demo, and exports where it is. The options of
# cargo are those of the client's tests there, so that nothing is built twice.
demo_consumer() {
  local log=$1 profile=$2
  shift 2
  cargo_step "$log" env CARGO_TARGET_DIR="$CACHE/target/client" cargo build --locked -p qflow-client --example demo "$@" || return
  export QFLOW_DEMO_CONSUMER=$CACHE/target/client/$profile/examples/demo
}
