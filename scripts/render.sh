#!/bin/bash
# Write everything that is made from the Helm chart: its README, the single-file manifest, and kustomize's base and overlays.
#
#   scripts/render.sh            write them anew
#   scripts/render.sh --check    change nothing; show what differs and end with 1 if anything does
#
# Why: whoever does not use Helm must get the same objects, and nobody keeps two copies equal by hand. An overlay is a values.yaml; what
# it changes against the base becomes patches.yaml, what it adds becomes resources.yaml.
#
# Needs helm: $HELM, or the one on the PATH, or that of scripts/cluster-tools.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

chart=deploy/helm/offshoot
namespace=offshoot
# A cluster that has all that the chart can use.
cluster=(--kube-version 1.36.0 --api-versions snapshot.storage.k8s.io/v1 --api-versions groupsnapshot.storage.k8s.io/v1)
helm=${HELM:-$(command -v helm || echo "$(scripts/cluster-tools.sh)/helm")}

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

objects() { # [OPTION…]: all objects but hooks, without what says that helm applied them
    "$helm" template offshoot "$chart" --namespace "$namespace" "${cluster[@]}" --no-hooks --skip-tests "$@" |
        sed -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^ *helm.sh\/chart: /d' -e '/^# Source: /d'
}

split() { # DIRECTORY: each object of standard input into a file of its own, named KIND.NAME
    mkdir -p "$1"
    awk -v dir="$1" '
        function close_object() { if (kind != "") { file = dir "/" kind "." name; printf "%s", text > file; close(file) } text = kind = name = "" }
        /^---$/ { close_object(); next }
        /^$/ { next }
        /^kind: / && kind == "" { kind = $2 }
        /^  name: / && name == "" { name = $2 }
        { text = text $0 "\n" }
        END { close_object() }'
}

join() { # FILE…: objects with a line between them
    local file
    for file in "$@"; do
        echo "---"
        cat "$file"
    done
}

made="# Made by scripts/render.sh from $chart; do not edit."
kubernetes=$out/deploy/kubernetes
mkdir -p "$kubernetes/base" "$out/$chart"

{
    echo "# Chart values"
    echo
    echo "<!-- Made by scripts/render.sh from values.yaml; do not edit. -->"
    echo
    echo "How to install is in [docs/install/kubernetes.md](../../../docs/install/kubernetes.md). Unknown values and impossible ones are refused by \`values.schema.json\`."
    echo
    echo "| value | default | meaning |"
    echo "| --- | --- | --- |"
    awk -f scripts/chart-readme.awk "$chart/values.yaml"
} >"$out/$chart/README.md"

cat >"$out/namespace" <<NAMESPACE
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels:
    # The agents are privileged: only such containers may make mounts that the node sees.
    pod-security.kubernetes.io/enforce: privileged
    pod-security.kubernetes.io/audit: privileged
    pod-security.kubernetes.io/warn: privileged
NAMESPACE

objects | split "$out/base"
{
    echo "$made"
    echo "# kubectl apply --server-side -f offshoot.yaml"
    join "$out/namespace" "$out"/base/*
} >"$kubernetes/offshoot.yaml"

resources() { # NAME PATTERN…: part of the base
    local name=$1
    shift
    (cd "$out/base" && { echo "$made"; join "$@"; }) >"$kubernetes/base/$name"
    (cd "$out/base" && for file in "$@"; do echo "$file"; done) >>"$out/placed"
}
shopt -s nullglob
cd "$out/base"
all=(*)
rbac=(ServiceAccount.* Role.* RoleBinding.* ClusterRole.* ClusterRoleBinding.*)
node=(DaemonSet.* Service.*-node NetworkPolicy.*-node)
controller=(Deployment.* Service.*-controller NetworkPolicy.*-controller Secret.* ConfigMap.*)
driver=(CSIDriver.* StorageClass.* Volume*Class.*)
cd "$OLDPWD"
resources rbac.yaml "${rbac[@]}"
resources node.yaml "${node[@]}"
resources controller.yaml "${controller[@]}"
resources driver.yaml "${driver[@]}"
if [ "$(sort "$out/placed")" != "$(printf '%s\n' "${all[@]}" | sort)" ]; then
    echo "render.sh: the base's files do not hold each object once:" >&2
    diff <(sort "$out/placed") <(printf '%s\n' "${all[@]}" | sort) >&2 || true
    exit 1
fi
{ echo "$made"; cat "$out/namespace"; } >"$kubernetes/base/namespace.yaml"
cat >"$kubernetes/base/kustomization.yaml" <<KUSTOMIZATION
$made
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [namespace.yaml, rbac.yaml, driver.yaml, controller.yaml, node.yaml]
KUSTOMIZATION

for values in deploy/kubernetes/overlays/*/values.yaml; do
    overlay=$(basename "$(dirname "$values")")
    to=$kubernetes/overlays/$overlay
    mkdir -p "$to"
    objects --values "$values" | split "$out/$overlay"
    patches=() new=()
    for file in "$out/$overlay"/*; do
        if [ ! -e "$out/base/$(basename "$file")" ]; then
            new+=("$file")
        elif ! cmp -s "$file" "$out/base/$(basename "$file")"; then
            # The whole of spec, so that what the base has and this has not goes too; other parts are lists, which are replaced anyway.
            awk '{ print } /^spec:$/ { print "  $patch: replace" }' "$file" >"$file.patch"
            patches+=("$file.patch")
        fi
    done
    for file in "$out/base"/*; do
        [ -e "$out/$overlay/$(basename "$file")" ] || { echo "render.sh: $overlay takes $(basename "$file") away, which an overlay cannot" >&2; exit 1; }
    done
    {
        echo "$made"
        echo "apiVersion: kustomize.config.k8s.io/v1beta1"
        echo "kind: Kustomization"
        if [ ${#new[@]} -gt 0 ]; then echo "resources: [../../base, resources.yaml]"; else echo "resources: [../../base]"; fi
        if [ ${#patches[@]} -gt 0 ]; then printf 'patches:\n  - path: patches.yaml\n'; fi
    } >"$to/kustomization.yaml"
    [ ${#new[@]} = 0 ] || { echo "$made"; join "${new[@]}"; } >"$to/resources.yaml"
    [ ${#patches[@]} = 0 ] || { echo "$made"; join "${patches[@]}"; } >"$to/patches.yaml"
done

# The same in a directory of the work tree, but for what people write there.
present=$out/present
mkdir -p "$present/$chart" "$present/deploy"
cp "$chart/README.md" "$present/$chart/" 2>/dev/null || true
cp -r deploy/kubernetes "$present/deploy/"
rm -f "$present"/deploy/kubernetes/README.md "$present"/deploy/kubernetes/overlays/*/values.yaml
mkdir "$out/wanted"
mv "$out/deploy" "$out/wanted/"

if [ "${1:-}" = --check ]; then
    if ! diff -ru "$present" "$out/wanted"; then
        echo "render.sh: the files above are not what the chart makes; run scripts/render.sh" >&2
        exit 1
    fi
    "$helm" lint --quiet "$chart"
else
    find deploy/kubernetes -type f ! -name README.md ! -path '*/overlays/*/values.yaml' -delete
    cp -r "$out/wanted/deploy" .
fi
