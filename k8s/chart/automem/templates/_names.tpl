{{/* Names and labels. KubeRay appends up to 16 characters to ours, and refuses more than 47. */}}
{{- define "automem.name" -}}
{{- $name := default .Release.Name .Values.nameOverride -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,36}[a-z0-9])?$" $name) -}}
{{- fail (printf "the name %q: use at most 38 lower-case letters, digits and -, beginning with a letter (nameOverride)" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "automem.labels" -}}
app.kubernetes.io/part-of: automem
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* What policies, budgets and monitors select by. `scope` is one Ray cluster of this release:
main, service, or run-NAME. Takes (dict "root" $ "scope" ... "component" ...). */}}
{{- define "automem.selector" -}}
app.kubernetes.io/part-of: automem
app.kubernetes.io/instance: {{ .root.Release.Name }}
automem-scope: {{ .scope }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "automem.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "automem.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "automem.claim" -}}
{{- .Values.storage.pvc.existingClaim | default (printf "%s-data" (include "automem.name" .)) -}}
{{- end -}}

{{/* Takes (dict "root" $ "kind" "cpu" or "gpu"). */}}
{{- define "automem.image" -}}
{{- $image := .root.Values.image -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}-{{ .kind }}
{{- end -}}

{{/* The Ray clusters of this release, as a YAML list of {scope, groups}. */}}
{{- define "automem.scopes" -}}
{{- if .Values.cluster.enabled }}
- {scope: main, groups: [], kind: cluster}
{{- end }}
{{- range .Values.runs }}
{{- if or .ownCluster (not $.Values.cluster.enabled) }}
- {scope: run-{{ .name }}, groups: {{ .groups | default list | toJson }}, kind: run}
{{- end }}
{{- end }}
{{- if .Values.service.enabled }}
- {scope: service, groups: {{ .Values.service.groups | toJson }}, kind: service}
{{- end }}
{{- end -}}
