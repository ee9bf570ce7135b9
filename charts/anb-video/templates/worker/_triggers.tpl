{{/*
The sum of triggers that counts the messages of all queues. Takes (list root "visible") or (list root "total"). The total
includes messages in flight. On RabbitMQ, only the management API reports messages in flight, so without it the total
leaves them out.
*/}}
{{- define "anb-video.messages" -}}
{{- $root := index . 0 -}}
{{- $which := index . 1 -}}
{{- $terms := list -}}
{{- if $root.Values.queue.url -}}
{{- $terms = append $terms $which -}}
{{- end -}}
{{- if include "anb-video.celerySecret" $root -}}
{{- $keda := include "anb-video.celeryKeda" $root | fromYaml -}}
{{- if and (eq $which "total") $keda.managementUrlKey -}}
{{- $terms = append $terms "celeryTotal" -}}
{{- else -}}
{{- $terms = append $terms "celeryVisible" -}}
{{- end -}}
{{- if and (eq $which "total") (eq $keda.broker "redis") -}}
{{- $terms = append $terms "celeryInFlight" -}}
{{- end -}}
{{- end -}}
{{- join " + " $terms -}}
{{- end }}

{{/* The triggers of all queues. Each trigger counts messages, and the formula of the ScaledObject adds the numbers. */}}
{{- define "anb-video.triggers" -}}
{{- $authentication := include "anb-video.name" (list . "worker") | quote -}}
{{- if .Values.queue.url -}}
{{- range $name := ternary (list "visible" "total") (list "total") (eq .Values.worker.autoscaling.policy "step") }}
- type: aws-sqs-queue
  name: {{ $name }}
  metadata:
    queueURL: {{ $.Values.queue.url | quote }}
    awsRegion: {{ include "anb-video.queueRegion" $ | quote }}
    {{- with $.Values.aws.endpointUrl }}
    # KEDA sends its requests to this address and uses only the path of the queue's URL.
    awsEndpoint: {{ . | quote }}
    {{- end }}
    scaleOnInFlight: {{ eq $name "total" | quote }}
  authenticationRef:
    name: {{ $authentication }}
{{- end }}
{{- end }}
{{- if include "anb-video.celerySecret" . }}
{{- $keda := include "anb-video.celeryKeda" . | fromYaml }}
{{- $queue := .Values.queue.celery.queueName }}
{{- if eq $keda.broker "redis" }}
{{- /* The second key is a sorted set with an entry for each message in flight. KEDA can count these entries, too. */}}
{{- range $name, $key := dict "celeryVisible" $queue "celeryInFlight" (printf "%s.anb.unacked_index" $queue) }}
- type: redis
  name: {{ $name }}
  metadata:
    listName: {{ $key | quote }}
    address: {{ $keda.address | quote }}
    databaseIndex: {{ $keda.database | quote }}
    {{- with $keda.username }}
    username: {{ . | quote }}
    {{- end }}
    enableTLS: {{ $keda.tls | quote }}
  {{- if $keda.passwordKey }}
  authenticationRef:
    name: {{ $authentication }}
  {{- end }}
{{- end }}
{{- else }}
{{- range $name := ternary (list "celeryVisible" "celeryTotal") (list "celeryVisible") (not (empty $keda.managementUrlKey)) }}
- type: rabbitmq
  name: {{ $name }}
  metadata:
    queueName: {{ $queue | quote }}
    {{- if $keda.managementUrlKey }}
    excludeUnacknowledged: {{ eq $name "celeryVisible" | quote }}
    {{- end }}
  authenticationRef:
    name: {{ $authentication }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The spec of the TriggerAuthentication with which KEDA logs in at the queues. Empty if no queue needs a login, as with a
Redis without a password.
*/}}
{{- define "anb-video.triggerAuthentication" -}}
{{- $secrets := list -}}
{{- $aws := .Values.aws.credentials -}}
{{- if .Values.queue.url -}}
{{- if eq $aws "secret" -}}
{{- $name := include "anb-video.awsSecret" . -}}
{{- $secrets = append $secrets (dict "parameter" "awsAccessKeyID" "name" $name "key" "AWS_ACCESS_KEY_ID") -}}
{{- $secrets = append $secrets (dict "parameter" "awsSecretAccessKey" "name" $name "key" "AWS_SECRET_ACCESS_KEY") -}}
{{- else }}
podIdentity:
  provider: aws
  {{- if eq $aws "irsa" }}
  # KEDA uses the role in the annotation of the worker's ServiceAccount.
  identityOwner: workload
  {{- else }}
  # KEDA can't use the worker's role from a Pod Identity association, so KEDA's own role must allow
  # sqs:GetQueueAttributes.
  identityOwner: keda
  {{- end }}
{{- end }}
{{- end }}
{{- $name := include "anb-video.celerySecret" . }}
{{- if $name }}
{{- $keda := include "anb-video.celeryKeda" . | fromYaml }}
{{- if eq $keda.broker "rabbitmq" }}
{{- $key := $keda.managementUrlKey | default (include "anb-video.celeryUrlKey" .) }}
{{- $secrets = append $secrets (dict "parameter" "host" "name" $name "key" $key) }}
{{- else if $keda.passwordKey }}
{{- $secrets = append $secrets (dict "parameter" "password" "name" $name "key" $keda.passwordKey) }}
{{- end }}
{{- end }}
{{- with $secrets }}
secretTargetRef:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
