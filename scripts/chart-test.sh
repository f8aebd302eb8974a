#!/bin/bash
# Try the chart and the manifests on a real API server (no nodes, so nothing runs): what it accepts, what a second time changes, and what
# each service account may do.
#
#   scripts/chart-test.sh        OFFSHOOT_BLESS=1 writes tests/data/rights anew
#
# The API server and etcd are those of scripts/cluster-tools.sh ($CLUSTER_TOOLS: the directory, if it is built already).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=${CLUSTER_TOOLS:-$(scripts/cluster-tools.sh)}
work=$(mktemp -d "${TMPDIR:-/tmp}/offshoot-chart.XXXXXX")
pids=()
cleanup() {
    local pid
    # At once: an API server whose etcd has gone first waits for it for minutes.
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
etcd=$(free_port) peer=$(free_port) api=$(free_port)
openssl genrsa -out "$work/sa.key" 2048 2>/dev/null
token=$(openssl rand -hex 16)
echo "$token,admin,1,\"system:masters\"" >"$work/tokens.csv"
"$tools/etcd" --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
    --listen-peer-urls "http://127.0.0.1:$peer" --unsafe-no-fsync >"$work/etcd.log" 2>&1 &
pids+=($!)
"$tools/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd" --secure-port "$api" --bind-address 127.0.0.1 --endpoint-reconciler-type none \
    --cert-dir "$work/certs" --service-account-key-file "$work/sa.key" --service-account-signing-key-file "$work/sa.key" \
    --service-account-issuer https://kubernetes --service-cluster-ip-range 10.99.0.0/24 --token-auth-file "$work/tokens.csv" \
    --authorization-mode RBAC --allow-privileged=true --disable-admission-plugins ServiceAccount >"$work/api.log" 2>&1 &
pids+=($!)
cat >"$work/config" <<CONFIG
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: admin, namespace: offshoot}}]
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$api", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: $token}}]
CONFIG
export KUBECONFIG=$work/config HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm
kubectl() { "$tools/kubectl" "$@"; }
helm() { "$tools/helm" "$@"; }

fail() {
    echo "chart-test.sh: $*" >&2
    exit 1
}
passed() { echo "chart: $*"; }

for _ in $(seq 120); do kubectl get --raw /readyz >/dev/null 2>&1 && break || sleep 0.5; done
kubectl get --raw /readyz >/dev/null || { tail -5 "$work/api.log"; fail "the API server does not become ready"; }

chart=deploy/helm/offshoot
# Without --reset-values, an upgrade that names no value keeps those of the last one.
install=(upgrade --install offshoot "$chart" --namespace offshoot --create-namespace --reset-values)
versions() { # of everything that the chart makes, but for helm's own record
    kubectl get --all-namespaces -l app.kubernetes.io/name=offshoot -o custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion,G:.metadata.generation \
        serviceaccounts,secrets,configmaps,services,deployments,daemonsets,roles,rolebindings,clusterroles,clusterrolebindings,csidrivers,storageclasses,networkpolicies "$@"
}

# Values that are misspelt or impossible are refused with their place.
refused() { # PLACE VALUE…
    local place=$1
    shift
    if helm template offshoot "$chart" "${@/#/--set=}" >/dev/null 2>"$work/said"; then fail "$* is accepted"; fi
    grep -qF -- "$place" "$work/said" || { cat "$work/said"; fail "the refusal of $* does not name $place"; }
}
refused "'controler' not allowed" controler.replicas=2
refused "/controller/replicas" controller.replicas=0
refused "/controller/replicas" controller.replicas=two
refused "/pools/0" 'pools[0].name=p'
refused "/pools/0" 'pools[0].name=p' 'pools[0].directory=/srv/disk/p' 'pools[0].file=/srv/disk/p.img' 'pools[0].size=1Gi'
refused "/pools/0/directory" 'pools[0].name=p' 'pools[0].directory=/etc/offshoot'
refused "/pools/0/directory" 'pools[0].name=p' 'pools[0].directory=srv/disk'
refused "/pools/0/directory" 'pools[0].name=p' 'pools[0].directory=/srv/../etc/x'
refused "/pools/0/name" 'pools[0].name=Fast' 'pools[0].directory=/srv/disk/p'
refused "/pools/0/size" 'pools[0].name=p' 'pools[0].file=/srv/disk/p.img' 'pools[0].size=20GB'
refused "/kubeletDir" kubeletDir=/var/lib/kubelet/
refused "/orphans/mode" orphans.mode=delete
refused "/orphans/grace" 'orphans.grace=5 minutes'
refused "/node/reserve" node.reserve=two
refused "/storageClasses/0/reclaimPolicy" 'storageClasses[0].name=a' 'storageClasses[0].reclaimPolicy=Keep'
refused "/volumeAttributesClasses/0" 'volumeAttributesClasses[0].name=a'
refused "/sidecars/snapshotter/enabled" sidecars.snapshotter.enabled=maybe
refused "tls.certManager.nodes is empty" tls.mode=certManager
refused "sidecars.snapshotMetadata.caBundle is empty" sidecars.snapshotMetadata.enabled=true
refused "contains node.stateDir" 'pools[0].name=p' 'pools[0].directory=/var/lib/p'
passed "bad values are refused, and their place is named"

# A cluster without snapshots gets volumes all the same, and a word about it.
helm "${install[@]}" >"$work/notes"
grep -q 'SNAPSHOTS ARE OFF' "$work/notes" || fail "nobody is told that the cluster has no snapshots"
kubectl get deployment offshoot-controller -o yaml | grep -q csi-snapshotter && fail "a snapshotter runs without the API of snapshots"
passed "installs without the API of snapshots"
kubectl apply --server-side -f "$tools/crds" >/dev/null
kubectl wait --for condition=Established crd --all --timeout 30s >/dev/null
for _ in $(seq 20); do kubectl api-resources --api-group groupsnapshot.storage.k8s.io 2>/dev/null | grep -q classes && break || sleep 0.5; done
helm "${install[@]}" >"$work/notes"
kubectl get deployment offshoot-controller -o yaml | grep -q csi-snapshotter || fail "no snapshotter after the API of snapshots came"
kubectl get volumesnapshotclass,volumegroupsnapshotclass offshoot >/dev/null
passed "an upgrade picks up snapshots"

# What the controller writes stays, and nothing else moves.
kubectl patch secret offshoot-tls --type merge -p '{"data":{"authority.key":"c2VjcmV0"}}' >/dev/null
kubectl patch configmap offshoot-ca --type merge -p '{"data":{"ca.crt":"authority"}}' >/dev/null
versions >"$work/before"
helm "${install[@]}" >/dev/null
versions >"$work/after"
diff "$work/before" "$work/after" || fail "a second upgrade with the same values changes objects"
[ "$(kubectl get secret offshoot-tls -o jsonpath='{.data}')" = '{"authority.key":"c2VjcmV0"}' ] || fail "an upgrade changed the Secret"
[ "$(kubectl get configmap offshoot-ca -o jsonpath='{.data}')" = '{"ca.crt":"authority"}' ] || fail "an upgrade changed the ConfigMap"
passed "the same upgrade twice changes nothing, and keeps the keys"

helm "${install[@]}" --set controller.replicas=2 >/dev/null
kubectl get poddisruptionbudget offshoot-controller >/dev/null
kubectl get deployment offshoot-controller -o yaml | grep -q -- --leader-election || fail "two replicas without an election"
helm "${install[@]}" >/dev/null
kubectl get deployment offshoot-controller -o yaml | grep -q -- --leader-election && fail "one replica waits for an election"
[ "$(kubectl get deployment offshoot-controller -o jsonpath='{.spec.strategy.rollingUpdate.maxSurge}')" = 0 ] || fail "two controllers at once without an election"
passed "replicas go up and down"

# A class that cannot change is named before anything is changed.
versions >"$work/before"
if helm "${install[@]}" --set 'storageClasses[0].name=offshoot,storageClasses[0].reclaimPolicy=Retain' >"$work/said" 2>&1; then fail "an impossible change of a class is not refused"; fi
grep -q 'StorageClass offshoot exists with' "$work/said" || { cat "$work/said"; fail "the refusal does not name the class"; }
versions >"$work/after"
diff "$work/before" "$work/after" || fail "a refused upgrade changed objects"
passed "an upgrade that Kubernetes would refuse half-way is refused whole"

# Every optional part is accepted: a cluster knows the kinds or the chart was not asked for them.
helm "${install[@]}" --dry-run=server --set sidecars.nodeRegistrar.enabled=true,sidecars.snapshotMetadata.enabled=true,sidecars.snapshotMetadata.caBundle=Y2E=,monitoring.dashboard.enabled=true \
    --set 'csiDriver.tokenRequests[0].audience=vault' --set 'volumeAttributesClasses[0].name=fast,volumeAttributesClasses[0].parameters.readAheadKiB=4096' >/dev/null
helm "${install[@]}" --set sidecars.nodeRegistrar.enabled=true,sidecars.snapshotMetadata.enabled=true,sidecars.snapshotMetadata.caBundle=Y2E=,monitoring.dashboard.enabled=true \
    --set 'csiDriver.tokenRequests[0].audience=vault' --set 'volumeAttributesClasses[0].name=fast,volumeAttributesClasses[0].parameters.readAheadKiB=4096' >/dev/null
[ "$(kubectl get csidriver csi.offshoot.dev -o jsonpath='{.spec.serviceAccountTokenInSecrets}')" = true ] || fail "tokens would be passed in the volume context"
helm "${install[@]}" >/dev/null
[ -z "$(kubectl get csidriver csi.offshoot.dev -o jsonpath='{.spec.tokenRequests}')" ] || fail "tokens are still asked for"
passed "optional parts come and go"

# The controller needs nothing that the strictest of Kubernetes' pod security standards forbids.
kubectl create namespace restricted >/dev/null
kubectl label namespace restricted pod-security.kubernetes.io/enforce=restricted >/dev/null
kubectl get deployment offshoot-controller -o json |
    jq '{apiVersion: "v1", kind: "Pod", metadata: {name: "controller", namespace: "restricted"}, spec: .spec.template.spec}' >"$work/pod.json"
kubectl create --dry-run=server -f "$work/pod.json" >/dev/null || fail "the controller's pod is not \"restricted\""
passed "the controller's pod meets the standard \"restricted\""

# What each service account may do.
rights() { # ACCOUNT NAMESPACE
    kubectl auth can-i --list --namespace "$2" --as "system:serviceaccount:offshoot:$1" --as-group system:serviceaccounts --as-group system:serviceaccounts:offshoot |
        sed 's/ *$//' | { read -r head; echo "$head"; sort; }
}
# The account of the uninstall hook exists only while it runs.
helm template offshoot "$chart" --namespace offshoot --show-only templates/hooks/uninstall-check.yaml | kubectl apply --server-side -f - >/dev/null
for account in controller node uninstall-check; do
    for namespace in offshoot default; do
        file=tests/data/rights/$account-in-$namespace.txt
        rights "offshoot-$account" "$namespace" >"$work/rights"
        if [ -n "${OFFSHOOT_BLESS:-}" ]; then
            cp "$work/rights" "$file"
        else
            diff -u "$file" "$work/rights" || fail "the rights of offshoot-$account in namespace $namespace are not those of $file; if they are meant to be, run OFFSHOOT_BLESS=1 scripts/chart-test.sh"
        fi
    done
done
for what in "get secrets" "list secrets" "get persistentvolumes" "get persistentvolumeclaims" "patch nodes" "get pods"; do
    # shellcheck disable=SC2086
    if kubectl auth can-i $what --as system:serviceaccount:offshoot:offshoot-node --all-namespaces >/dev/null 2>&1; then fail "a node may $what"; fi
done
passed "each service account may do what tests/data/rights says"

# Without helm: the single file and kustomize, twice.
helm uninstall offshoot --namespace offshoot --no-hooks >/dev/null
kubectl delete namespace restricted --wait=false >/dev/null
for overlay in "" base overlays/ha overlays/directory-pool; do
    if [ -n "$overlay" ]; then how=(-k "deploy/kubernetes/$overlay"); else how=(-f deploy/kubernetes/offshoot.yaml); fi
    kubectl apply --server-side --force-conflicts "${how[@]}" >/dev/null
    versions >"$work/before"
    kubectl apply --server-side "${how[@]}" >/dev/null
    versions >"$work/after"
    diff "$work/before" "$work/after" || fail "applying ${overlay:-offshoot.yaml} again changes objects"
    kubectl diff --server-side "${how[@]}" >/dev/null || fail "kubectl diff finds something in ${overlay:-offshoot.yaml}"
done
passed "manifests and overlays applied twice give no difference"
