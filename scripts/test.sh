#!/bin/bash
# Everything that must pass before a change lands. `make test` calls it.
#
# Each step prints its name and how long it took; the first that fails ends the run with its output above.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { # NAME COMMAND…
    local name=$1 start=$SECONDS
    shift
    echo "==> $name"
    "$@"
    echo "    $name: $((SECONDS - start)) s"
}

step "install what the tests use" scripts/setup.sh test
step "formatting" cargo fmt --all --check
step "lints" cargo clippy --locked --workspace --all-targets -- -D warnings
step "licences" cargo deny --log-level error check licenses bans sources
# Builds the server too: with the features of the tests, so that nothing is built twice.
step "tests" cargo nextest run --locked --no-tests fail -p offshoot -p offshoot-dct-sim
step "conformance" scripts/conformance.sh
