{{/* What a run and the served policy are told: the chart's own keys first, the user's after them. */}}

{{/* Takes (dict "root" $ "run" {...}); gives the command and its arguments, one a line. */}}
{{- define "automem.commandLine" -}}
{{- $values := .root.Values -}}
{{ .run.command }}
run.dir={{ $values.storage.path }}/runs/{{ .run.folder | default .run.name }}
agent.hooks={{ $values.hooks }}
{{- if include "automem.hasEngines" . }}
placement=cluster
{{- else }}
+engine.num_cpus=0.5
{{- end }}
{{- if eq $values.storage.kind "object" }}
storage.url={{ trimSuffix "/" $values.storage.object.url }}
{{- end }}
{{- range .run.config }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Overrides of conf/serve.yaml, as a YAML list. */}}
{{- define "automem.serveOverrides" -}}
{{- $values := .Values -}}
{{- $service := .Values.service -}}
- serving=shared
- serving.port={{ $values.ports.serve }}
- serving.dir={{ $values.storage.path }}/serving
- serving.registry={{ $values.storage.path }}/registry
- agent.hooks={{ $values.hooks }}
- serving.replicas.num_cpus={{ $service.cpusPerReplica }}
- serving.replicas.autoscaling.min_replicas={{ $service.replicas.min }}
- serving.replicas.autoscaling.max_replicas={{ $service.replicas.max }}
- serving.replicas.autoscaling.target_ongoing_requests={{ $service.replicas.targetOngoingRequests }}
{{- range $service.config }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Whether a run's cluster has nodes for engines and others for episodes, as placement=cluster asks
for both; elsewhere an engine takes half a processor, so that it is not put on the head. Takes
(dict "root" $ "run" {...}). */}}
{{- define "automem.hasEngines" -}}
{{- $isOwn := or .run.ownCluster (not .root.Values.cluster.enabled) -}}
{{- $groups := and $isOwn .run.groups | default (list "engine" "rollout") -}}
{{- $all := .root.Values.groups -}}
{{- if and $all.engine.enabled $all.rollout.enabled (has "engine" $groups) (has "rollout" $groups) -}}
yes
{{- end -}}
{{- end -}}
