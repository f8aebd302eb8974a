#!/bin/bash
# Build the Go programs that the tests drive Offshoot with, and print the directory they are in.
#
#   scripts/go-tools.sh          build what is missing, print the directory
#
# Why: csi-sanity, the conformance suite of the CSI project, is published as source only. tests/tools/go.mod pins its version and
# tests/tools/go.sum the checksum of all it is made from. `go install path@version` would use neither.
#
# The result lies outside the work tree, in ${OFFSHOOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/offshoot}/go-tools/HASH, where HASH
# stands for the two files and this script: a change of any builds anew, and nothing else does.
#
# Go itself: the `go` that is there, if new enough for go.mod. If not (Debian 12 ships 1.19), that `go` fetches the toolchain pinned
# below as a module through the Go module proxy, and its checksum is compared with the pinned one.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../tests/tools"

programs=(github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity)
toolchain=v0.0.1-go1.26.8.linux-amd64
toolchain_sum=h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=

fail() {
    echo "go-tools.sh: $*" >&2
    exit 1
}

cache=${OFFSHOOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/offshoot}/go-tools
hash=$(cat go.mod go.sum ../../scripts/go-tools.sh | sha256sum | cut -c 1-16)
bin=$cache/$hash

# The directory gets its name only when all in it is built.
if [ -d "$bin" ]; then
    echo "$bin"
    exit 0
fi

# One build at a time: a second caller waits and finds the result.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -d "$bin" ]; then
    echo "$bin"
    exit 0
fi

command -v go >/dev/null || fail "no go found: run scripts/setup.sh test"
needed=$(sed -n 's/^go //p' go.mod)
present=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
present=${present#go}
go=go
if [ "$(printf '%s\n%s\n' "$needed" "$present" | sort -V | head -n 1)" != "$needed" ]; then
    [ "$(uname -m)" = x86_64 ] || fail "go $present is older than $needed and the pinned toolchain is for x86_64: install go $needed or newer"
    echo "go-tools.sh: go $present is older than $needed, fetching ${toolchain#*-}" >&2
    # In an empty directory: an old go cannot read a go.mod that asks for a newer one.
    empty=$(mktemp -d)
    trap 'rm -rf "$empty"' EXIT
    said=$(cd "$empty" && GOFLAGS=-modcacherw GOTOOLCHAIN=local go mod download -json "golang.org/toolchain@$toolchain") ||
        fail "cannot fetch the go toolchain through the module proxy (GOPROXY=$(go env GOPROXY)): ${said:-no answer}"
    [ "$(sed -n 's/^[[:space:]]*"Sum": "\(.*\)",*$/\1/p' <<<"$said")" = "$toolchain_sum" ] ||
        fail "the go toolchain's checksum is not the pinned one"
    goroot=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p' <<<"$said")
    # Module files are never executable; a toolchain's programs must be.
    chmod -R u+w,a+x "$goroot/bin" "$goroot/pkg/tool"
    go=$goroot/bin/go
fi

echo "go-tools.sh: building ${programs[*]##*/}, two to three minutes the first time" >&2
version=$(sed -n 's|.*kubernetes-csi/csi-test/v5 \(v[^ ]*\).*|\1|p' go.mod)
part=$bin.part
rm -rf "$part"
mkdir -p "$part"
# -p 2: each compiler takes up to 1 GB. Nothing of a user's own go settings changes what is built.
env -u GOROOT GOFLAGS=-mod=readonly GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 \
    "$go" build -trimpath -buildvcs=false -p 2 -ldflags="-s -w -X main.VERSION=$version" -o "$part/" "${programs[@]}" ||
    fail "the build failed; if it names a host or the proxy, check DNS and GOPROXY=$(go env GOPROXY)"
mv "$part" "$bin"
echo "$bin"
