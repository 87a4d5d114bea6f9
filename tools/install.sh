#!/usr/bin/env bash
# Builds qflow and puts it into a PostgreSQL.
#   tools/install.sh release PG_CONFIG    make install: the release build, into any PostgreSQL from 14 to 18
#   tools/install.sh debug MAJOR          for the tests: the debug build, into the pinned PostgreSQL of that version
# The build keeps to the cache; where only root may write to that PostgreSQL's folders, the copy goes through sudo.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# renew_library SUDO FILE: cargo pgrx writes into the file that is there, and a server that has it loaded would crash. In
# its place comes a copy, which nobody has loaded.
renew_library() {
  [ -e "$2" ] || return 0
  $1 cp -p "$2" "$2.new"
  $1 mv -f "$2.new" "$2"
}

case ${1:-} in
  release)
    config=${2:-}
    [ -n "$config" ] || die "say which PostgreSQL: make install PG_CONFIG=/path/to/pg_config"
    [ -x "$config" ] || die "$config is not a pg_config"
    major=$(pg_major "$config")
    case " $PG_MAJORS " in *" $major "*) ;; *) die "qflow runs on PostgreSQL ${PG_MAJORS// /, }; $config is of version $major" ;; esac
    [ -e "$("$config" --includedir-server)/postgres.h" ] ||
      die "this PostgreSQL has no server headers: install its development package (postgresql-server-dev-$major, postgresql$major-devel)"
    sudo=()
    for dir in "$("$config" --pkglibdir)" "$("$config" --sharedir)/extension"; do
      [ -w "$dir" ] && continue
      command -v sudo >/dev/null || die "no right to write to $dir: run make install as a user who may"
      sudo=(--sudo) # builds as this user, copies through sudo
    done
    # pgrx reads pgNN from its configuration while it compiles: give it one that names this PostgreSQL.
    if [ "$config" = "$(pg_home "$major")/bin/pg_config" ]; then
      export CARGO_TARGET_DIR=$CACHE/target/pg$major
    else
      export PGRX_HOME=$CACHE/install/$(printf '%s' "$config" | sha256sum | cut -c 1-12)
      export CARGO_TARGET_DIR=$PGRX_HOME/target
      python3 "$ROOT/tools/pgrx_config.py" "$PGRX_HOME/config.toml" replace "pg$major=$config"
    fi
    renew_library "${sudo:+sudo}" "$("$config" --pkglibdir)/qflow.so"
    say "building qflow for PostgreSQL $major (release)"
    build=(cargo pgrx install --release --pg-config "$config" --no-default-features --features "pg$major")
    if [ ${#sudo[@]} = 0 ]; then
      cargo_step "$CACHE/log/install.log" "${build[@]}"
    else
      (cd "$ROOT" && "${build[@]}" "${sudo[@]}") # in the foreground: it may ask for a password
    fi
    say "installed into $("$config" --pkglibdir) and $("$config" --sharedir)/extension; in each database: CREATE EXTENSION qflow;"
    ;;
  debug)
    use_postgres "${2:?major version}"
    renew_library '' "$("$PG_CONFIG_PATH" --pkglibdir)/qflow.so"
    cargo_step "${LOG:-$ROOT/target/log/install-pg$MAJOR.log}" \
      cargo pgrx install --pg-config "$PG_CONFIG_PATH" --no-default-features --features "pg$MAJOR"
    stamp "$PG_CONFIG_PATH" >"$(stamp_file "$PG_CONFIG_PATH")"
    chmod a+r "$("$PG_CONFIG_PATH" --pkglibdir)"/qflow*.so "$("$PG_CONFIG_PATH" --sharedir)"/extension/qflow*
    ;;
  *) die "usage: tools/install.sh release PG_CONFIG | debug MAJOR" ;;
esac
