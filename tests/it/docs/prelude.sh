# What stands before the commands of a page. `commands.rs` sets: WATCHWORD, EXAMPLES, TOOLS, HOST, LOGS.
#
# A server, which takes the reader's terminal, runs here in the background once it answers. Programs that would build
# or install are replaced by what `cargo test` and `tests/run` have built and installed.

set -u -o pipefail
out="$LOGS/output"
# The report; the output of commands goes to a file.
exec 3>&1
trap 'kill -KILL "${servers[@]}" 2>/dev/null' EXIT
servers=()
taken=""

# at <page:line>: the next command of a block.
at() {
  here="$1"
  if [[ -n $taken ]]; then
    stop "a server runs in this terminal since $taken: what follows needs a block of its own"
  fi
}

# block: a reader opens another terminal when a server has taken this one.
block() { taken=""; }

# stop <why>: ends the page with a report.
stop() {
  {
    echo "$here: $1"
    [[ ! -s $out ]] || sed 's/^/  | /' "$out"
    for log in "$LOGS"/server-*; do
      [[ ! -e $log ]] || { echo "  ${log##*/}:" && tail -n 5 "$log" | sed 's/^/  | /'; }
    done
  } >&3
  exit 1
}

# prints <text>: what the reader is told to see.
prints() { grep -qF -e "$1" "$out" || stop "should print: $1"; }

# ctrl_c: what the reader does in the terminal of the server that was started last.
ctrl_c() {
  ((${#servers[@]})) || stop "no server runs that Ctrl-C could stop"
  local server="${servers[-1]}"
  unset 'servers[-1]'
  # A background process of a shell ignores SIGINT; SIGTERM means the same to every server here.
  kill -TERM "$server" && wait "$server" || stop "the server ended with exit code $?"
}

# serve <address> <command...>: starts a server and waits until it answers.
serve() {
  local host="${1%:*}" port="${1##*:}"
  shift
  if is_listening "$host" "$port"; then
    stop "something listens on $host:$port already: the page should say what to stop first"
  fi
  local log="$LOGS/server-${#servers[@]}-$RANDOM"
  "$@" >"$log" 2>&1 </dev/null 3>&- &
  servers+=($!)
  for _ in {1..300}; do
    kill -0 "${servers[-1]}" 2>/dev/null || stop "the server does not start"
    if is_listening "$host" "$port" && is_ready "$host:$port" "$1"; then
      taken="$here"
      return
    fi
    sleep 0.1
  done
  stop "the server does not answer on $host:$port"
}

is_listening() { (: <"/dev/tcp/$1/$2") 2>/dev/null; }

# A node listens before it has opened its store, and the admin socket comes last.
is_ready() { [[ $2 != "$WATCHWORD" ]] || "$WATCHWORD" healthcheck --ops-addr "$1" >"$out" 2>&1; }

watchword() {
  case "${1:--}" in
    --help | --version) "$WATCHWORD" "$@" ;;
    serve | -*) serve "$(ops_address "$@")" "$WATCHWORD" "$@" ;;
    *) "$WATCHWORD" "$@" ;;
  esac
}

ops_address() {
  while (($#)); do
    if [[ $1 == --ops-addr ]]; then
      echo "$2"
      return
    fi
    shift
  done
  echo "$WATCHWORD_OPS_ADDR"
}

redis-server() { serve "$HOST:6379" command redis-server "$@"; }

cargo() {
  case "$*" in
    "run --release") watchword ;;
    "install --path .") test -f Cargo.toml ;;
    "run --release --example client") "$EXAMPLES/client" ;;
    "run --release --example protected") serve "$HELLO_ADDR" "$EXAMPLES/protected" ;;
    *) stop "the tests do not know: cargo $*" ;;
  esac
}

go() {
  case "$*" in
    "generate") test -f generate.go ;;
    "run .") "$TOOLS/bin/go-client" ;;
    "run ./verify") "$TOOLS/bin/go-verify" ;;
    *) stop "the tests do not know: go $*" ;;
  esac
}

npm() { [[ "$*" == ci ]] && test -f package-lock.json && test -d node_modules; }
