#!/usr/bin/env bash
# `make check`: everything that can be said about the sources without running them, for developers and for CI.
#   tools/check.sh [MAJOR…]       clippy for these PostgreSQL versions, by default all
# Format, clippy without a warning (with and without the tests), documentation without a warning, layer rules, and no
# finding of pgspot in the scripts that CREATE EXTENSION runs.
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
check "install script pg$MAJOR" "$ROOT/tools/pgspot.sh" "$MAJOR"
if [ ${#BAD[@]} != 0 ]; then
  printf 'check: %s\n' "failed: $(printf '%s; ' "${BAD[@]}" | sed 's/; $//')"
  exit 1
fi
say "check: all well"
