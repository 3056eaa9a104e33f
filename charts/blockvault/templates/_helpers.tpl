{{- define "blockvault.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 48 characters, so that the longest ending still fits into 63. */}}
{{- define "blockvault.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "blockvault.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "blockvault.selectorLabels" -}}
app.kubernetes.io/name: {{ include "blockvault.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "blockvault.labels" -}}
{{ include "blockvault.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "blockvault.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* metadata of an object; takes (list $ "name ending" with-namespace?) */}}
{{- define "blockvault.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "blockvault.fullname" $root }}{{ index . 1 }}
{{- if index . 2 }}
namespace: {{ $root.Release.Namespace }}
{{- end }}
labels:
  {{- include "blockvault.labels" $root | nindent 2 }}
{{- end -}}
