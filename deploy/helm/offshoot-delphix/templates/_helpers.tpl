{{- /* Names and labels that the templates share. */ -}}

{{- define "delphix.name" -}}
{{- if contains "offshoot-delphix" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-offshoot-delphix" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "delphix.selector" -}}
app.kubernetes.io/name: offshoot-delphix
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "delphix.labels" -}}
{{ include "delphix.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "delphix.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "delphix.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "delphix.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What every sidecar of the controller is told: [root, port]. */ -}}
{{- define "delphix.sidecarArgs" -}}
{{- $root := index . 0 -}}
- --csi-address=/csi/csi.sock
- --http-endpoint=:{{ index . 1 }}
- --timeout={{ $root.Values.timeout }}
{{- if gt (int $root.Values.controller.replicas) 1 }}
- --leader-election
- --leader-election-namespace=$(NAMESPACE)
{{- end }}
{{- end -}}
