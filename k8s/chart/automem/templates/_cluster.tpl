{{/* A RayClusterSpec. Takes (dict "root" $ "scope" ... "groups" [...] "kind" ...). */}}

{{- define "automem.portParams" -}}
{{- $ports := .Values.ports -}}
node-manager-port: {{ $ports.nodeManager | quote }}
object-manager-port: {{ $ports.objectManager | quote }}
runtime-env-agent-port: {{ $ports.runtimeEnvAgent | quote }}
dashboard-agent-grpc-port: {{ $ports.dashboardAgentGrpc | quote }}
dashboard-agent-listen-port: {{ $ports.dashboardAgentListen | quote }}
metrics-export-port: {{ $ports.metrics | quote }}
min-worker-port: {{ $ports.worker.min | quote }}
max-worker-port: {{ $ports.worker.max | quote }}
{{- end -}}

{{- define "automem.clusterSpec" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $scope := .scope -}}
{{- $kind := .kind -}}
{{- $groups := .groups | default (keys $values.groups) | sortAlpha -}}
rayVersion: {{ $values.ray.version | quote }}
authOptions:
  mode: {{ $values.auth.mode }}
  {{- with $values.auth.secretName }}
  secretName: {{ . }}
  {{- end }}
  {{- if $values.auth.kubernetes }}
  enableK8sTokenAuth: true
  {{- end }}
{{- if $values.tls }}
tlsOptions: {enabled: true}
{{- end }}
{{- if $values.gcsFaultTolerance.enabled }}
gcsFaultToleranceOptions:
  {{- include "automem.gcsFaultTolerance" $root | nindent 2 }}
{{- end }}
{{- if $values.autoscaler.enabled }}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: {{ $values.autoscaler.idleTimeoutSeconds }}
  upscalingMode: {{ $values.autoscaler.upscalingMode }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  resources: {{- toYaml $values.autoscaler.resources | nindent 4 }}
  securityContext:
    {{- include "automem.containerSecurity" $root | nindent 4 }}
  env:
    - {name: HOME, value: /home/automem}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: home, mountPath: /home/automem}
{{- end }}
headGroupSpec:
  serviceType: ClusterIP
  rayStartParams:
    {{- include "automem.portParams" $root | nindent 4 }}
    port: {{ $values.ports.gcs | quote }}
    dashboard-host: 0.0.0.0 # KubeRay and the submitter speak to it, with the token
    dashboard-port: {{ $values.ports.dashboard | quote }}
    ray-client-server-port: {{ $values.ports.client | quote }}
    num-cpus: "0" # drivers run here, workers elsewhere
    num-gpus: "0"
  template:
    {{- include "automem.podTemplate" (dict "root" $root "scope" $scope "component" "head" "kind" $kind "group" $values.head) | nindent 4 }}
workerGroupSpecs:
{{- range $name := $groups }}
{{- $group := index $values.groups $name }}
{{- if $group.enabled }}
  - groupName: {{ $name }}
    replicas: {{ $group.replicas }}
    minReplicas: {{ ternary $group.minReplicas $group.replicas $values.autoscaler.enabled }}
    maxReplicas: {{ $group.maxReplicas }}
    labels: {automem/role: {{ $name }}} # Ray's own labels, by which actors are placed
    rayStartParams:
      {{- include "automem.portParams" $root | nindent 6 }}
      {{- range $key, $value := $group.rayStartParams }}
      {{ $key }}: {{ $value | quote }}
      {{- end }}
    template:
      {{- include "automem.podTemplate" (dict "root" $root "scope" $scope "component" $name "kind" $kind "group" $group) | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "automem.gcsFaultTolerance" -}}
{{- $options := .Values.gcsFaultTolerance -}}
backend: {{ $options.backend }}
{{- if eq $options.backend "redis" }}
redisAddress: {{ $options.redis.address }}
{{- with $options.redis.passwordSecret }}
{{- if .name }}
redisPassword:
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
{{- end }}
{{- end }}
{{- else }}
storage:
  size: {{ $options.rocksdb.size }}
  {{- with $options.rocksdb.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  accessModes: [ReadWriteOnce]
{{- end }}
{{- end -}}
