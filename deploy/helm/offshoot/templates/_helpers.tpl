{{- /* Names, labels and choices that several templates share. */ -}}

{{- define "offshoot.name" -}}
{{- if .Values.nameOverride -}}
{{- .Values.nameOverride -}}
{{- else if contains "offshoot" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-offshoot" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels by which pods are selected; they can never change. */ -}}
{{- define "offshoot.selector" -}}
app.kubernetes.io/name: offshoot
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "offshoot.labels" -}}
{{ include "offshoot.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "offshoot.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What no container but the agent needs to be without. */ -}}
{{- define "offshoot.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "offshoot.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "offshoot.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "offshoot.elects" -}}
{{- if gt (int .Values.controller.replicas) 1 }}true{{ end -}}
{{- end -}}

{{- /* auto, true or false, and the API that auto looks for: "true" or nothing. */ -}}
{{- define "offshoot.wanted" -}}
{{- $choice := toString (index . 0) -}}
{{- if or (eq $choice "true") (and (eq $choice "auto") ((index . 2).Capabilities.APIVersions.Has (index . 1))) -}}
true
{{- end -}}
{{- end -}}

{{- define "offshoot.snapshots" -}}
{{- include "offshoot.wanted" (list .Values.sidecars.snapshotter.enabled "snapshot.storage.k8s.io/v1" .) -}}
{{- end -}}

{{- define "offshoot.groups" -}}
{{- if include "offshoot.snapshots" . -}}
{{- include "offshoot.wanted" (list .Values.sidecars.snapshotter.groups "groupsnapshot.storage.k8s.io/v1" .) -}}
{{- end -}}
{{- end -}}

{{- define "offshoot.certManager" -}}
{{- if eq .Values.tls.mode "certManager" }}true{{ end -}}
{{- end -}}

{{- /* The groups of nodes as JSON: what was asked for, else one of all nodes. */ -}}
{{- define "offshoot.nodeGroups" -}}
{{- $node := .Values.node -}}
{{- $groups := $node.groups | default (list (dict "name" "")) -}}
{{- if include "offshoot.certManager" . -}}
{{-   if $node.groups }}{{ fail "node.groups cannot be combined with tls.mode certManager, which makes a group of each node" }}{{ end -}}
{{-   if not .Values.tls.certManager.nodes }}{{ fail "tls.certManager.nodes is empty: name every node that runs an agent" }}{{ end -}}
{{-   if not .Values.tls.certManager.issuerRef.name }}{{ fail "tls.certManager.issuerRef.name is empty: name an Issuer" }}{{ end -}}
{{-   $groups = list -}}
{{-   range .Values.tls.certManager.nodes -}}
{{-     $groups = append $groups (dict "name" (. | replace "." "-") "certificate" . "nodeSelector" (dict "kubernetes.io/hostname" .)) -}}
{{-   end -}}
{{- end -}}
{{- $result := list -}}
{{- range $groups -}}
{{-   $selector := merge (dict) (.nodeSelector | default dict) $node.nodeSelector -}}
{{-   $result = append $result (dict "name" .name "pools" (.pools | default $.Values.pools) "nodeSelector" $selector "affinity" (.affinity | default $node.affinity) "certificate" .certificate) -}}
{{- end -}}
{{- toJson $result -}}
{{- end -}}

{{- /*
The directories of the node that a group's pools need, as a JSON list: the parent of each pool, so that a disk that is mounted later is
seen and one that is missing costs no other pool. One that lies in the state directory or in another of them is left out: a mount in a
shared mount would appear on the node.
*/ -}}
{{- define "offshoot.poolParents" -}}
{{- $state := index . 0 -}}
{{- $all := list -}}
{{- range index . 1 -}}
{{-   $all = append $all (dir (.directory | default .file)) -}}
{{- end -}}
{{- $kept := list -}}
{{- range $one := $all | uniq | sortAlpha -}}
{{-   $inside := or (eq $one $state) (hasPrefix (printf "%s/" $state) $one) -}}
{{-   range $kept -}}
{{-     if hasPrefix (printf "%s/" .) $one }}{{ $inside = true }}{{ end -}}
{{-   end -}}
{{-   if hasPrefix (printf "%s/" $one) $state }}{{ fail (printf "pools: %s contains node.stateDir %s; put the pool or the state elsewhere" $one $state) }}{{ end -}}
{{-   if not $inside }}{{ $kept = append $kept $one }}{{ end -}}
{{- end -}}
{{- toJson $kept -}}
{{- end -}}

{{- /* Options that all sidecars have: LIST of context, port of the diagnostics, name of the options' section. */ -}}
{{- define "offshoot.sidecarArgs" -}}
{{- $context := index . 0 -}}
- --csi-address=/csi/csi.sock
- --http-endpoint=:{{ index . 1 }}
{{- if include "offshoot.elects" $context }}
- --leader-election
- --leader-election-namespace=$(NAMESPACE)
{{- end }}
# The default of 5 requests a second is what limits a burst of claims, not the driver.
- --kube-api-qps=50
- --kube-api-burst=100
- --retry-interval-max=1m
{{- with (index . 2).extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "offshoot.sidecarProbe" -}}
{{- if include "offshoot.elects" (index . 0) -}}
livenessProbe:
  httpGet:
    path: /healthz/leader-election
    port: {{ index . 1 }}
  initialDelaySeconds: 10
  periodSeconds: 20
  timeoutSeconds: 5
{{- end }}
{{- end -}}

{{- /* Refuses an upgrade that the API server would refuse half-way: LIST of context, kind, object as it is to be, immutable fields. */ -}}
{{- define "offshoot.immutable" -}}
{{- $wanted := index . 1 -}}
{{- $there := lookup $wanted.apiVersion $wanted.kind "" $wanted.metadata.name -}}
{{- if $there -}}
{{-   range $field := index . 2 -}}
{{-     $old := get $there $field | default dict -}}
{{-     $new := get $wanted $field | default dict -}}
{{-     if ne (toJson $old) (toJson $new) -}}
{{-       fail (printf "%s %s exists with %s %s, and Kubernetes lets nobody change that to %s. Give the class in the values a new name, or delete the old class first (kubectl delete %s %s; its volumes stay as they are)." $wanted.kind $wanted.metadata.name $field (toJson $old) (toJson $new) (lower $wanted.kind) $wanted.metadata.name) -}}
{{-     end -}}
{{-   end -}}
{{- end -}}
{{- end -}}
