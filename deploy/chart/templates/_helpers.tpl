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

{{/* The rules of a role: "resources" for what pxed watches, "leases" for those of its own namespace. */}}
{{- define "pxed.rules" -}}
{{- get (.root.Files.Get "files/rbac.json" | fromJson) .of | toYaml -}}
{{- end -}}

{{/* What pxed does with CAP_…: NET_ADMIN, BPF and PERFMON attach XDP, IPC_LOCK is for the memory of AF_XDP. */}}
{{- define "pxed.capabilities" -}}
{{- $capabilities := list "NET_BIND_SERVICE" "NET_RAW" -}}
{{- if ne (dig "datapath" "auto" .Values.options) "socket" -}}
{{- $capabilities = concat $capabilities (list "BPF" "IPC_LOCK" "NET_ADMIN" "PERFMON") -}}
{{- end -}}
{{- toYaml $capabilities -}}
{{- end -}}

{{- define "pxed.httpPort" -}}
{{- int (dig "http-port" 8000 .Values.options) -}}
{{- end -}}

{{/* A number as pxed reads it, and not as 1e+06. */}}
{{- define "pxed.word" -}}
{{- if kindIs "float64" . }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{- define "pxed.talosConfigPath" -}}
{{- with .Values.talosConfig -}}
{{- if or .secret .configMap -}}
/etc/pxed/talos-config{{ with .key }}/{{ . }}{{ end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of the ConfigMap with the certificates of authorities. */}}
{{- define "pxed.caCertificates" -}}
{{- if .Values.caCertificates.pem -}}
{{- printf "%s-ca-certificates" (include "pxed.fullname" .) -}}
{{- else -}}
{{- .Values.caCertificates.configMap -}}
{{- end -}}
{{- end -}}

{{/* 0440 or 0400, in decimal as JSON needs it: readable by the user that pxed runs as. */}}
{{- define "pxed.secretMode" -}}
{{- if int .Values.runAsUser }}288{{ else }}256{{ end -}}
{{- end -}}

{{- define "pxed.directory" -}}
{{- if .claim -}}
persistentVolumeClaim: {claimName: {{ .claim | quote }}}
{{- else if .hostPath -}}
hostPath: {path: {{ .hostPath | quote }}, type: DirectoryOrCreate}
{{- else -}}
emptyDir: {}
{{- end -}}
{{- end -}}

{{- define "pxed.probe" -}}
path: {{ .path }}
port: admin
# The kubelet is on the same host, and so in the same network.
host: 127.0.0.1
{{- end -}}

{{- define "pxed.args" -}}
{{- $words := list "run" "--kubernetes" -}}
{{- range .Values.namespaces | uniq | sortAlpha -}}
{{- $words = append $words (printf "--namespace=%s" .) -}}
{{- end -}}
{{- $words = append $words "--artifacts=/var/lib/pxed/artifacts" -}}
{{- $words = append $words "--state=/var/lib/pxed/state" -}}
{{- with include "pxed.talosConfigPath" . -}}
{{- $words = append $words (printf "--talos-config=%s" .) -}}
{{- end -}}
{{- if .Values.secureBoot.secret -}}
{{- $words = concat $words (list "--secure-boot-key=/etc/pxed/secure-boot/tls.key" "--secure-boot-cert=/etc/pxed/secure-boot/tls.crt") -}}
{{- end -}}
{{- if include "pxed.caCertificates" . -}}
{{- $words = append $words (printf "--ca-certificates=/etc/pxed/ca-certificates/%s" .Values.caCertificates.key) -}}
{{- end -}}
{{- range $name, $value := .Values.options -}}
{{- range (kindIs "slice" $value | ternary $value (list $value)) -}}
{{- $words = append $words (printf "--%s=%s" $name (include "pxed.word" .)) -}}
{{- end -}}
{{- end -}}
{{- concat $words .Values.extraArgs | toYaml -}}
{{- end -}}

{{/* What the schema cannot say in words that help. */}}
{{- define "pxed.check" -}}
{{- if and .Values.talosConfig.secret .Values.talosConfig.configMap -}}
{{- fail "talosConfig names a Secret and a ConfigMap: set one of talosConfig.secret and talosConfig.configMap" -}}
{{- end -}}
{{- if and .Values.talosConfig.key (not (or .Values.talosConfig.secret .Values.talosConfig.configMap)) -}}
{{- fail "talosConfig.key is a key of a Secret or a ConfigMap: set talosConfig.secret or talosConfig.configMap, too" -}}
{{- end -}}
{{- if and .Values.caCertificates.pem .Values.caCertificates.configMap -}}
{{- fail "caCertificates has certificates and names a ConfigMap: set one of caCertificates.pem and caCertificates.configMap" -}}
{{- end -}}
{{- if eq (int .Values.admin.port) (include "pxed.httpPort" . | int) -}}
{{- fail (printf "admin.port and the option http-port are both %d: change one of them" (int .Values.admin.port)) -}}
{{- end -}}
{{- if and (or .Values.metrics.service .Values.metrics.serviceMonitor) (ne .Values.admin.listen "node") -}}
{{- fail "metrics.service and metrics.serviceMonitor need admin.listen: node, since nobody reaches the loopback address of a node from outside" -}}
{{- end -}}
{{- $artifacts := printf "%s/" (trimSuffix "/" .Values.artifacts.hostPath) -}}
{{- $state := printf "%s/" (trimSuffix "/" .Values.state.hostPath) -}}
{{- if and .Values.artifacts.hostPath .Values.state.hostPath (or (hasPrefix $artifacts $state) (hasPrefix $state $artifacts)) -}}
{{- fail (printf "artifacts.hostPath %s and state.hostPath %s need two directories, neither in the other: what is below artifacts is served to machines" .Values.artifacts.hostPath .Values.state.hostPath) -}}
{{- end -}}
{{- if and (eq (dig "unknown" "pass" .Values.options) "drop") (eq (dig "datapath" "auto" .Values.options) "socket") -}}
{{- fail "the option unknown: drop needs XDP, so datapath must not be socket" -}}
{{- end -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "without serviceAccount.create, serviceAccount.name has to name one that exists" -}}
{{- end -}}
{{- end -}}
