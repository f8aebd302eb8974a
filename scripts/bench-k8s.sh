#!/bin/bash
# Measure pods with volumes on a real Kubernetes of two nodes, made here. `make bench-k8s` calls it.
#
#   scripts/bench-k8s.sh [OPTION…]     --pods 1,20,100, --rounds N, --peer CLASS, --output json: see e2e --help
#
# The cluster is used again if it is there, and left running. A peer to compare with is installed in it by hand
# (`make cluster` prints the kubeconfig) and named by its StorageClass.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
scripts/setup.sh e2e
cargo build --quiet --locked -p offshoot-cluster --bins
"$CARGO_TARGET_DIR/debug/e2e" --bench "$@"
