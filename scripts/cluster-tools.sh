#!/bin/bash
# Build Kubernetes, containerd, etcd, helm and the CSI sidecars for the test cluster, and print the directory they are in.
#
#   scripts/cluster-tools.sh     build what is missing, print the directory
#
# Why: the end-to-end tests run on a real Kubernetes without an image registry, so all of it is built from source. tests/cluster/go/go.mod
# and tests/cluster/go/earlier/go.mod pin the versions, the go.sum beside them the checksum of everything.
#
# The directory holds the programs under their usual names and, under crds/, the custom resources of snapshots, group snapshots and
# snapshot metadata as the pinned modules define them. It lies outside the work tree, see scripts/go-lib.sh.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../tests/cluster/go"
# shellcheck source=scripts/go-lib.sh
. ../../../scripts/go-lib.sh

go_begin cluster-tools go.mod go.sum earlier/go.mod earlier/go.sum cmd/*/main.go ../../../scripts/cluster-tools.sh
go_find go.mod

version() { # MODULE
    go_run list -m -f '{{.Version}}' "$1"
}
sidecar() { # MODULE PROGRAM…
    local module=$1
    shift
    go_build "-X main.version=$(version "$module")" "${@/#/$module/cmd/}"
}
step() { # COUNT WHAT
    echo "cluster-tools.sh: $1 of 4: $2 ($SECONDS s so far; all together 15 minutes on two cores the first time)" >&2
}

kubernetes=$(version k8s.io/kubernetes)
minor=${kubernetes#v*.}
# Clients refuse a server that says v0.0.0.
stamp="-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=1"
stamp+=" -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
helm="-X helm.sh/helm/v4/internal/version.version=$(version helm.sh/helm/v4)"
containerd="-X github.com/containerd/containerd/v2/version.Version=$(version github.com/containerd/containerd/v2)"

step 1 "the Kubernetes servers and etcd"
go_build "$stamp" ./cmd/servers
step 2 "kubectl and helm"
go_build "$stamp $helm" ./cmd/clients ./cmd/pause
step 3 "containerd and the sidecars"
for name in containerd containerd-shim-runc-v2 ctr; do go_build "$containerd" "github.com/containerd/containerd/v2/cmd/$name"; done
sidecar github.com/kubernetes-csi/external-resizer/v2 csi-resizer
sidecar github.com/kubernetes-csi/external-snapshotter/v8 csi-snapshotter snapshot-controller
for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet; do ln -s servers "$part/$name"; done
for name in kubectl helm; do ln -s clients "$part/$name"; done
mkdir "$part/crds"
cp "$(go_run list -m -f '{{.Dir}}' github.com/kubernetes-csi/external-snapshotter/client/v8)"/config/crd/*.k8s.io_*.yaml "$part/crds"

step 4 "the provisioner and the snapshot metadata sidecar"
cd earlier
sidecar github.com/kubernetes-csi/external-provisioner/v6 csi-provisioner
sidecar github.com/kubernetes-csi/external-snapshot-metadata csi-snapshot-metadata
cp "$(go_run list -m -f '{{.Dir}}' github.com/kubernetes-csi/external-snapshot-metadata/client)"/config/crd/*.k8s.io_*.yaml "$part/crds"
chmod u+w "$part"/crds/*
go_end
