{{/* What a schema cannot say: values that contradict one another, each in a sentence. */}}
{{- define "automem.check" -}}
{{- $values := .Values -}}
{{- if and (eq $values.auth.mode "disabled") (not $values.network.enabled) -}}
{{- fail "auth.mode=disabled with network.enabled=false would let everybody in the Kubernetes cluster run code here: keep one of the two" -}}
{{- end -}}
{{- if and $values.auth.kubernetes (or $values.runs $values.service.enabled) -}}
{{- fail "auth.kubernetes works for the cluster alone: KubeRay has it for no RayJob and no RayService; empty `runs` and set service.enabled=false, or use tokens" -}}
{{- end -}}
{{- if and $values.auth.kubernetes (or (ne $values.auth.mode "token") $values.auth.secretName) -}}
{{- fail "auth.kubernetes goes with auth.mode=token and an empty auth.secretName: the tokens are Kubernetes' own" -}}
{{- end -}}
{{- if and $values.auth.kubernetes (not (or $values.serviceAccount.create $values.serviceAccount.name)) -}}
{{- fail "auth.kubernetes needs an account for Ray's pods alone, since whatever runs under it may enter: serviceAccount.create=true, or serviceAccount.name" -}}
{{- end -}}
{{- if and $values.auth.kubernetes $values.network.enabled (not $values.network.apiServer.cidrs) -}}
{{- fail "auth.kubernetes needs network.apiServer.cidrs: every pod of Ray asks the Kubernetes API about each token, at the addresses that `kubectl get endpoints kubernetes` shows" -}}
{{- end -}}
{{- if and $values.autoscaler.enabled $values.network.enabled (not $values.network.apiServer.cidrs) -}}
{{- fail "autoscaler.enabled needs network.apiServer.cidrs: the autoscaler speaks to the Kubernetes API, whose addresses `kubectl get endpoints kubernetes` shows" -}}
{{- end -}}
{{- if and $values.kueue.queue $values.autoscaler.enabled -}}
{{- fail "kueue.queue and autoscaler.enabled: Kueue admits clusters of a fixed size; turn one of them off" -}}
{{- end -}}
{{- if and (eq $values.storage.kind "object") (not $values.storage.object.url) -}}
{{- fail "storage.kind=object needs storage.object.url, such as s3://bucket/automem" -}}
{{- end -}}
{{- if and (eq $values.storage.kind "object") $values.service.enabled -}}
{{- fail "the served policy keeps episodes, tokens and versions in one folder with working locks: use storage.kind=pvc for service.enabled" -}}
{{- end -}}
{{- if and (eq $values.storage.kind "object") $values.network.enabled (not (or $values.network.storage.cidrs $values.network.internet)) -}}
{{- fail "storage.kind=object: let pods reach the object store, by network.storage.cidrs or network.internet" -}}
{{- end -}}
{{- range $run := $values.runs -}}
{{- if and (eq $values.storage.kind "object") (not (has $run.command (list "rollout" "proficiency"))) -}}
{{- fail (printf "the run %q: %s keeps its ledger in its folder, which goes with the pod: use storage.kind=pvc" $run.name $run.command) -}}
{{- end -}}
{{- end -}}
{{- with $values.gcsFaultTolerance -}}
{{- if and .enabled (eq .backend "redis") (not .redis.address) -}}
{{- fail "gcsFaultTolerance.redis.address is empty: give the address of a Redis, such as redis:6379" -}}
{{- end -}}
{{- end -}}
{{- $named := list -}}
{{- range $run := $values.runs -}}
{{- if has $run.name $named -}}
{{- fail (printf "two runs are called %q: a RayJob's name is its own" $run.name) -}}
{{- end -}}
{{- $named = append $named $run.name -}}
{{- if gt (len (printf "%s-%s" (include "automem.name" $) $run.name)) 47 -}}
{{- fail (printf "%s-%s is longer than the 47 characters that KubeRay takes: shorten nameOverride or the run's name" (include "automem.name" $) $run.name) -}}
{{- end -}}
{{- end -}}
{{- range $scope := include "automem.scopes" . | fromYamlArray -}}
{{- $groups := $scope.groups | default (keys $values.groups) -}}
{{- $on := 0 -}}
{{- range $groups -}}
{{- if (index $values.groups .).enabled -}}{{- $on = add1 $on -}}{{- else if $scope.groups -}}
{{- fail (printf "%s asks for the group %q, which is off: set groups.%s.enabled=true" $scope.scope . .) -}}
{{- end -}}
{{- end -}}
{{- if eq $on 0 -}}
{{- fail (printf "%s would have no workers: enable a group" $scope.scope) -}}
{{- end -}}
{{- end -}}
{{- range $name, $group := $values.groups -}}
{{- if or (gt (int $group.minReplicas) (int $group.replicas)) (gt (int $group.replicas) (int $group.maxReplicas)) -}}
{{- fail (printf "groups.%s: replicas must lie between minReplicas and maxReplicas, got %v <= %v <= %v" $name $group.minReplicas $group.replicas $group.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- range $name, $group := $values.groups -}}
{{- $wanted := $group.minAvailable -}}
{{- if and $wanted (ne (toString $wanted) "all") (gt (int $wanted) (int $group.maxReplicas)) -}}
{{- fail (printf "groups.%s: minAvailable is %v of %v pods at most: say all if none may be evicted" $name $wanted $group.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- range $name, $group := $values.groups -}}
{{- if and $group.drainSeconds (lt (int $group.terminationGracePeriodSeconds) (add (int $group.drainSeconds) 5 | int)) -}}
{{- fail (printf "groups.%s: terminationGracePeriodSeconds must be drainSeconds and 5 more at least, got %v for %v" $name $group.terminationGracePeriodSeconds $group.drainSeconds) -}}
{{- end -}}
{{- end -}}
{{- if gt (int $values.service.replicas.min) (int $values.service.replicas.max) -}}
{{- fail (printf "service.replicas: min is %v, max %v" $values.service.replicas.min $values.service.replicas.max) -}}
{{- end -}}
{{- if and $values.service.enabled (gt (float64 $values.service.gpusPerReplica) 0.0) (not (has "engine" $values.service.groups)) -}}
{{- fail "service.gpusPerReplica needs pods with GPUs: service.groups=[engine]" -}}
{{- end -}}
{{- end -}}
