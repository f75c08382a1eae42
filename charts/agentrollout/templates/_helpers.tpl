{{- define "agentrollout.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "agentrollout.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Takes (list $ "component"). */ -}}
{{- define "agentrollout.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* Metadata of an object of one component; takes (list $ "component" "name suffix"). */ -}}
{{- define "agentrollout.metadata" -}}
{{- $ := index . 0 -}}
name: {{ include "agentrollout.fullname" $ }}-{{ index . 2 }}
namespace: {{ $.Release.Namespace }}
labels:
  {{- include "agentrollout.labels" $ | nindent 2 }}
  app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "agentrollout.image" -}}
{{- with .Values.image -}}
{{- $name := printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- if .digest }}{{ printf "%s@%s" $name .digest }}{{ else }}{{ $name }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The Secret of one side of xDS, empty where it is spoken in clear; takes (list $ "operator"|"router"). */ -}}
{{- define "agentrollout.xdsSecret" -}}
{{- $ := index . 0 -}}
{{- $side := index . 1 -}}
{{- $tls := $.Values.xds.tls -}}
{{- if eq $tls.mode "selfSigned" -}}
{{ include "agentrollout.fullname" $ }}-xds-{{ $side }}
{{- else if eq $tls.mode "secrets" -}}
{{ required (printf "xds.tls.%sSecret is empty: name the Secret, or choose another xds.tls.mode" $side) (get $tls (printf "%sSecret" $side)) }}
{{- end -}}
{{- end -}}

{{- define "agentrollout.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "agentrollout.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Where pods of a component may go; takes (list $ "component" its-values). */ -}}
{{- define "agentrollout.scheduling" -}}
{{- $ := index . 0 -}}
{{- $component := index . 1 -}}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "agentrollout.selector" (list $ $component) | nindent 8 }}
{{- end }}
{{- with index . 2 }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* How a Prometheus without an operator of its own finds a pod; takes (list path port). */ -}}
{{- define "agentrollout.scraped" -}}
prometheus.io/scrape: "true"
prometheus.io/path: {{ index . 0 }}
prometheus.io/port: {{ index . 1 | quote }}
{{- end -}}
