#!/bin/bash
# Build the Go programs that the tests drive Offshoot with, and print the directory they are in.
#
#   scripts/go-tools.sh          build what is missing, print the directory
#
# Why: csi-sanity, the conformance suite of the CSI project, is published as source only. tests/tools/go.mod pins its version and
# tests/tools/go.sum the checksum of all it is made from. `go install path@version` would use neither.
#
# The result lies outside the work tree, see scripts/go-lib.sh.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../tests/tools"
# shellcheck source=scripts/go-lib.sh
. ../../scripts/go-lib.sh

programs=(github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity)

go_begin go-tools go.mod go.sum ../../scripts/go-tools.sh
go_find go.mod
echo "go-tools.sh: building ${programs[*]##*/}, two to three minutes the first time" >&2
version=$(sed -n 's|.*kubernetes-csi/csi-test/v5 \(v[^ ]*\).*|\1|p' go.mod)
go_build "-X main.VERSION=$version" "${programs[@]}"
go_end
