{{/* Every port that Ray and training use between the pods of one cluster. */}}
{{- define "automem.rayPorts" -}}
{{- range $name := list "gcs" "dashboard" "client" "serve" "metrics" "nodeManager" "objectManager" "runtimeEnvAgent" "dashboardAgentGrpc" "dashboardAgentListen" }}
- {protocol: TCP, port: {{ index $.Values.ports $name }}} # {{ $name }}
{{- end }}
{{- range $name := list "worker" "ephemeral" }}
{{- $range := index $.Values.ports $name }}
- {protocol: TCP, port: {{ $range.min }}, endPort: {{ $range.max }}} # {{ $name }}
{{- end }}
{{- end -}}

{{- define "automem.apiServerEgress" -}}
{{- $apiServer := .Values.network.apiServer -}}
- to: # the Kubernetes API
    {{- range $apiServer.cidrs }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ $apiServer.port }}}
{{- end -}}

{{- define "automem.dnsEgress" -}}
{{- $dns := .Values.network.dns -}}
- to:
    - {{- toYaml (pick $dns "namespaceSelector" "podSelector") | nindent 6 }}
  ports:
    - {protocol: UDP, port: {{ $dns.port }}}
    - {protocol: TCP, port: {{ $dns.port }}}
{{- end -}}
