{{/* The pods of a Ray cluster. */}}

{{- define "automem.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- end -}}

{{- define "automem.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.user }}
runAsGroup: {{ .Values.podSecurity.group }}
fsGroup: {{ .Values.podSecurity.group }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
sysctls:
  # NCCL and gloo take any free port: this is the range that the network policies open.
  - name: net.ipv4.ip_local_port_range
    value: "{{ .Values.ports.ephemeral.min }} {{ .Values.ports.ephemeral.max }}"
{{- end -}}

{{- define "automem.env" -}}
- {name: HOME, value: /home/automem}
- {name: TMPDIR, value: /tmp}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: AUTOMEM_RUNS, value: /etc/automem/runs}
{{- if eq .Values.auth.mode "disabled" }}
- {name: RAY_AUTH_MODE, value: disabled} # the image asks for a token
{{- end }}
{{- if eq .Values.storage.kind "object" }}
- {name: AUTOMEM_SCRATCH, value: {{ .Values.storage.path }}/scratch}
- {name: AUTOMEM_STORAGE_URL, value: {{ trimSuffix "/" .Values.storage.object.url | quote }}}
{{- end }}
{{- if .Values.models.existingClaim }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- range .Values.secrets }}
- name: {{ .env }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}
{{- end -}}

{{- define "automem.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/automem}
- {name: shm, mountPath: /dev/shm}
- {name: data, mountPath: {{ .Values.storage.path }}}
- {name: runs, mountPath: /etc/automem/runs, readOnly: true}
{{- if .Values.models.existingClaim }}
- {name: models, mountPath: {{ .Values.models.path }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* Takes (dict "root" $ "resources" ...). */}}
{{- define "automem.volumes" -}}
{{- $values := .root.Values -}}
- {name: tmp, emptyDir: {}}
- {name: home, emptyDir: {}}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ include "automem.shm" . }}
- name: data
{{- if eq $values.storage.kind "pvc" }}
  persistentVolumeClaim: {claimName: {{ include "automem.claim" .root }}}
{{- else }}
  emptyDir: {sizeLimit: {{ $values.storage.object.scratch }}}
{{- end }}
- name: runs
  configMap: {name: {{ include "automem.name" .root }}-runs}
{{- if $values.models.existingClaim }}
- name: models
  persistentVolumeClaim: {claimName: {{ $values.models.existingClaim }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* A share of the pod's memory in Mi; memory is given in Mi, Gi or Ti (the schema says so). */}}
{{- define "automem.shm" -}}
{{- $memory := .resources.memory -}}
{{- $factor := get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[MGT]i$" $memory) -}}
{{- $number := regexFind "^[0-9]+" $memory | int -}}
{{- mulf $number $factor .root.Values.sharedMemory | floor | int64 }}Mi
{{- end -}}

{{- define "automem.drain" -}}
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message 'the pod is being removed' --deadline-remaining-seconds {{ .drainSeconds }} && sleep {{ .drainSeconds }}
{{- end -}}

{{/* Takes (dict "root" $ "scope" ... "component" ... "group" {...} "kind" "cluster", "run", "service"). */}}
{{- define "automem.podTemplate" -}}
{{- $values := .root.Values -}}
{{- $isHead := eq .component "head" -}}
{{- $hasGpu := hasKey .group.resources "nvidia.com/gpu" -}}
metadata:
  labels:
    {{- include "automem.selector" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "automem.serviceAccount" .root }}
  # With it the head's autoscaler changes the number of workers, and Ray checks Kubernetes' tokens.
  automountServiceAccountToken: {{ or $values.auth.kubernetes (and $isHead $values.autoscaler.enabled) }}
  enableServiceLinks: false
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - {name: {{ . }}}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "automem.podSecurity" .root | nindent 4 }}
  {{- with .group.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .group.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .group.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .group.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .group.terminationGracePeriodSeconds | default 60 }}
  containers:
    - name: {{ ternary "ray-head" "ray-worker" $isHead }}
      image: {{ include "automem.image" (dict "root" .root "kind" (ternary "gpu" "cpu" $hasGpu)) | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      securityContext:
        {{- include "automem.containerSecurity" .root | nindent 8 }}
      resources:
        requests: {{- toYaml .group.resources | nindent 10 }}
        limits: {{- toYaml .group.resources | nindent 10 }}
      ports:
        {{- if $isHead }}
        - {name: gcs-server, containerPort: {{ $values.ports.gcs }}}
        - {name: dashboard, containerPort: {{ $values.ports.dashboard }}}
        - {name: client, containerPort: {{ $values.ports.client }}}
        {{- end }}
        {{- if or $isHead (eq .kind "service") }}
        - {name: serve, containerPort: {{ $values.ports.serve }}}
        {{- end }}
        - {name: metrics, containerPort: {{ $values.ports.metrics }}}
      env:
        {{- include "automem.env" .root | nindent 8 }}
      volumeMounts:
        {{- include "automem.mounts" .root | nindent 8 }}
      {{- $raylet := printf "http://127.0.0.1:%v/api/local_raylet_healthz" $values.ports.dashboardAgentListen }}
      {{- $gcs := printf "http://127.0.0.1:%v/api/gcs_healthz" $values.ports.dashboard }}
      {{- $proxy := printf "http://127.0.0.1:%v/-/healthz" $values.ports.serve }}
      {{- $alive := ternary (list $raylet $gcs) (list $raylet) $isHead }}
      {{- $ready := ternary (append $alive $proxy) $alive (and (eq .kind "service") (not $isHead)) }}
      {{- if and (not $isHead) .group.drainSeconds }}
      lifecycle: # Ray is told that this node goes, so that what it does is done elsewhere
        preStop:
          exec: {command: {{ list "bash" "-c" (include "automem.drain" .group) | toJson }}}
      {{- end }}
      livenessProbe:
        exec: {command: {{ concat (list "automem-health") $alive | toJson }}}
        initialDelaySeconds: 30
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 60
      readinessProbe:
        exec: {command: {{ concat (list "automem-health") $ready | toJson }}}
        initialDelaySeconds: 10
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: {{ ternary 1 10 (and (eq .kind "service") (not $isHead)) }}
  volumes:
    {{- include "automem.volumes" (dict "root" .root "resources" .group.resources) | nindent 4 }}
{{- end -}}
