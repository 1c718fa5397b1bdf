{{- define "pxed.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of what is not in a namespace: two releases in two namespaces may have one name. */}}
{{- define "pxed.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "pxed.fullname" .) -}}
{{- end -}}

{{- define "pxed.selectorLabels" -}}
app.kubernetes.io/name: pxed
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pxed.labels" -}}
{{ include "pxed.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "pxed.serviceAccountName" -}}
{{- default (include "pxed.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* What a role lets do: "resources" on the resources that pxed watches, "leases" on those of its own namespace. */}}
{{- define "pxed.rules" -}}
{{- get (.root.Files.Get "files/rbac.json" | fromJson) .of | toYaml -}}
{{- end -}}
