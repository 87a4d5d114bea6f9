#!/usr/bin/env bash
# `make check`: everything that can be said about the sources without running them, for developers and for CI.
#   tools/check.sh [MAJOR…]       clippy for these PostgreSQL versions, by default all
# Format, clippy without a warning (with and without the tests), documentation without a warning, layer rules, and no
# finding of pgspot in the scripts that CREATE EXTENSION runs. The client crate: the same, with its features alone and
# together, and the list of what would be published.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

BAD=()
# check NAME COMMAND…
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@"; then say "check: $name ... ok ($((SECONDS - start)) s)"; else say "check: $name ... FAILED"; BAD+=("$name"); fi
}
clippy() {
  cargo_step "$ROOT/target/log/clippy-pg$1-$2.log" cargo clippy --locked --all-targets --no-default-features --features "$3" -- -D warnings
}
documentation() {
  RUSTDOCFLAGS="-D warnings" cargo_step "$ROOT/target/log/doc.log" cargo doc --locked --no-deps --document-private-items \
    --no-default-features --features "pg$MAJOR"
}

# in_client NAME CARGO-COMMAND…: for the client crate, which has a target folder of its own
in_client() {
  local name=$1
  shift
  RUSTDOCFLAGS="-D warnings" cargo_step "$ROOT/target/log/client-$name.log" env CARGO_TARGET_DIR="$CACHE/target/client" cargo "$@"
}

VERSIONS=${*:-$PG_MAJORS}
cd "$ROOT"
check "layer rules" "$ROOT/tools/layers.sh"
check "format" cargo fmt --all --check
for major in $VERSIONS; do
  use_postgres "$major"
  LOG_TAIL=100
  check "clippy pg$major" clippy "$major" plain "pg$major"
  check "clippy pg$major with tests" clippy "$major" tests "pg$major pg_test"
done
check "documentation pg$MAJOR" documentation
check "client clippy" in_client clippy clippy --locked -p qflow-client --all-targets -- -D warnings
check "client clippy with all features" in_client clippy-all clippy --locked -p qflow-client --all-targets --all-features -- -D warnings
check "client documentation" in_client doc doc --locked -p qflow-client --no-deps --all-features
check "client package" in_client package package --locked -p qflow-client --list --allow-dirty
check "install script pg$MAJOR" "$ROOT/tools/pgspot.sh" "$MAJOR"
if [ ${#BAD[@]} != 0 ]; then
  printf 'check: %s\n' "failed: $(printf '%s; ' "${BAD[@]}" | sed 's/; $//')"
  exit 1
fi
say "check: all well"
