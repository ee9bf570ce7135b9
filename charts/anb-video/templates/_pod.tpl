{{/*
The common parts of all pods, which give every pod the same protections. The parts are separate templates, because hooks,
Deployments and tests need different combinations of the parts.
*/}}

{{/* The beginning of a pod's spec. Takes (list root values-with-nodeSelector-and-tolerations). */}}
{{- define "anb-video.podSpec" -}}
{{- $root := index . 0 -}}
{{- $placement := index . 1 -}}
# Adds no variables about other Services to the environment.
enableServiceLinks: false
# Without a shared namespace, the program would be process 1. The kernel drops a SIGTERM for process 1 that arrives
# before the program has set its handler. A pod that is stopped at its start would then go on, and be killed during its
# work.
shareProcessNamespace: true
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $placement.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /*
By default Kubernetes waits 300 s before it replaces the pods of a lost node. These tolerations must have the effect
NoExecute. Without an effect, they would tolerate all effects, and the scheduler would still count the lost zone. With
whenUnsatisfiable DoNotSchedule, no pod could then be replaced.
*/}}
{{- $keys := list -}}
{{- range $placement.tolerations -}}
{{- $keys = append $keys .key -}}
{{- end }}
tolerations:
  {{- with $placement.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- range list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" }}
  {{- if not (has . $keys) }}
  - {key: {{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
  {{- end }}
  {{- end }}
{{- end }}

{{/*
The annotations of a Deployment's pods. Takes (list root component).
A change of a setting restarts the pods, because settings are in the pod template. Secrets, and the role that EKS gives to
a new pod, are not in the template. So the checksum annotation restarts the pods after a change of a Secret or the role.
*/}}
{{- define "anb-video.podAnnotations" -}}
{{- $root := index . 0 -}}
{{- $own := index $root.Values (index . 1) -}}
{{- $keys := $root.Values.aws.secret -}}
{{- $credentials := list $root.Values.database.url $keys.accessKeyId $keys.secretAccessKey $own.roleArn -}}
{{- with $root.Values.queue.celery.url -}}
{{- $credentials = append $credentials . -}}
{{- end -}}
{{- $checksum := dict "checksum/credentials" (toJson $credentials | sha256sum) -}}
{{- /* Data in scratch may be lost with the node. Without this annotation the Cluster Autoscaler keeps every node with such a pod. */ -}}
{{- $evictable := dict "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" "scratch" -}}
{{- merge $checksum $own.podAnnotations $evictable | toYaml -}}
{{- end }}

{{/* The image and the security context of a container. Takes (list root component). */}}
{{- define "anb-video.container" -}}
{{- $root := index . 0 -}}
image: {{ include "anb-video.image" . }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
# /tmp itself stays read-only. TMPDIR is this folder.
volumeMounts:
  - name: scratch
    mountPath: /tmp/anb-temp
{{- end }}

{{/* The volume for scratch space. Takes its size in bytes. */}}
{{- define "anb-video.scratch" -}}
- name: scratch
  emptyDir:
    sizeLimit: {{ . | quote }}
{{- end }}

{{/* Spreads pods evenly over the zones. Takes (list root component). */}}
{{- define "anb-video.spread" -}}
topologySpreadConstraints:
  - topologyKey: topology.kubernetes.io/zone
    maxSkew: 1
    whenUnsatisfiable: {{ (index (index . 0).Values (index . 1)).whenUnsatisfiable }}
    # A zone does not count if taints exclude all of its nodes.
    nodeTaintsPolicy: Honor
    labelSelector:
      matchLabels:
        {{- include "anb-video.selectorLabels" . | nindent 8 }}
    # The pods of each rollout are spread separately; the replaced pods don't count.
    matchLabelKeys: [pod-template-hash]
{{- end }}

{{/*
The environment of a container. Takes (list root component). A component gets the settings that its program reads, as
files/settings.yaml says. A program that uses the bucket also gets the AWS settings.
*/}}
{{- define "anb-video.env" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := $root.Values -}}
{{- $readers := ($root.Files.Get "files/settings.yaml" | fromYaml).readers -}}
- name: TMPDIR
  value: /tmp/anb-temp
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "anb-video.databaseSecret" . | quote }}
      key: {{ ternary "DATABASE_URL" $values.database.existingSecretKey (empty $values.database.existingSecret) | quote }}
{{- $celery := include "anb-video.celerySecret" $root -}}
{{- if and $celery (has $component $readers.CELERY_BROKER_URL) }}
- name: CELERY_BROKER_URL
  valueFrom:
    secretKeyRef:
      name: {{ $celery | quote }}
      key: {{ include "anb-video.celeryUrlKey" $root | quote }}
{{- end }}
{{- $plain := list
  (list "ANB_DATABASE_CONNECTIONS" (get $values.database.connections $component))
  (list "S3_BUCKET" $values.bucket.name)
  (list "SQS_QUEUE_URL" $values.queue.url)
  (list "SQS_DLQ_URL" $values.queue.deadLetterUrl)
  (list "CELERY_TASK_DEFAULT_QUEUE" (ternary $values.queue.celery.queueName "" (not (empty $celery))))
  (list "AWS_REGION" $values.aws.region)
  (list "ANB_CREATE_RESOURCES" (ternary "true" "" $values.aws.createResources))
-}}
{{- range $plain }}
{{- if and (last .) (has $component (get $readers (first .))) }}
- name: {{ first . }}
  value: {{ last . | quote }}
{{- end }}
{{- end }}
{{- if has $component $readers.S3_BUCKET }}
# The name of the program in AWS's logs, because pods with `secret` credentials share one key.
- name: AWS_SDK_UA_APP_ID
  value: {{ printf "anb-video-%s" $component }}
{{- with $values.aws.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with $values.bucket.endpointUrl }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{- end }}
{{- if eq $values.aws.credentials "secret" }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ include "anb-video.awsSecret" $root | quote }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := $values.config }}
{{- if has $component (get $readers $name) }}
- name: {{ $name }}
  value: {{ include "anb-video.plain" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The HTTP GET request of a probe. Takes (list path port). */}}
{{- define "anb-video.get" -}}
httpGet:
  path: {{ index . 0 }}
  port: {{ index . 1 }}
{{- end }}
