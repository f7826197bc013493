{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/* Name of the objects in a namespace: short enough to leave room for suffixes. */}}
{{- define "mqtt-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of the objects outside the release's namespace: two releases of one name can live in two namespaces. */}}
{{- define "mqtt-operator.clusterName" -}}
{{- printf "%s:%s" (include "mqtt-operator.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "mqtt-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "mqtt-operator.fullname" .) -}}
{{- end -}}

{{/* What a Deployment selects; none of it may ever change. */}}
{{- define "mqtt-operator.selector" -}}
app.kubernetes.io/name: mqtt-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "mqtt-operator.labels" -}}
{{ include "mqtt-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/part-of: mqtt-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Labels of what helm test makes; a selector of the chart must not take it for the operator. */}}
{{- define "mqtt-operator.testLabels" -}}
app.kubernetes.io/name: mqtt-operator-test
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
app.kubernetes.io/part-of: mqtt-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Reference of an image: takes a list of its values and the root. */}}
{{- define "mqtt-operator.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- if eq $image.tag "latest" -}}
{{- fail (printf "the tag latest of %s says nothing about what runs: set that of a version, or a digest" $image.repository) -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The namespaces that the operator looks after, as {"names": […]}; empty for all. */}}
{{- define "mqtt-operator.namespaces" -}}
{{- if eq .Values.scope.mode "OwnNamespace" -}}
{{- dict "names" (list .Release.Namespace) | toYaml -}}
{{- else -}}
{{- dict "names" .Values.scope.namespaces | toYaml -}}
{{- end -}}
{{- end -}}
