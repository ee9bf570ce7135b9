{{/* What the release's objects are named after. */}}
{{- define "anb-video.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end }}

{{/*
The metadata of an object. Takes (list root component suffix annotations); the last two may be left out.
Every name is quoted: a release may be called y, on or 7.
*/}}
{{- define "anb-video.metadata" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
name: {{ include "anb-video.name" (slice . 0 (min 3 (len .))) | quote }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- include "anb-video.labels" (list $root $component) | nindent 2 }}
{{- if gt (len .) 3 }}
{{- with index . 3 }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* `<fullname>-<component>`, or with a third element `<fullname>-<component>-<suffix>`. */}}
{{- define "anb-video.name" -}}
{{- prepend (rest .) (include "anb-video.fullname" (index . 0)) | compact | join "-" -}}
{{- end }}

{{/* Takes (list root component). */}}
{{- define "anb-video.labels" -}}
{{- $root := index . 0 -}}
{{ include "anb-video.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ $root.Chart.Name | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_") | quote }}
{{- end }}

{{/* Takes (list root component). */}}
{{- define "anb-video.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 | quote }}
{{- end }}

{{/* The image of a component, by digest where one is given. Takes (list root component). */}}
{{- define "anb-video.image" -}}
{{- $root := index . 0 -}}
{{- $image := (index $root.Values (index . 1)).image -}}
{{- $repository := list $root.Values.image.registry $image.repository | compact | join "/" -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest | quote -}}
{{- else -}}
{{- printf "%s:%s" $repository (coalesce $image.tag $root.Values.image.tag $root.Chart.AppVersion) | quote -}}
{{- end -}}
{{- end }}

{{/* Where the database's URL is kept; the migration, when it runs, has a copy of its own. Takes (list root component). */}}
{{- define "anb-video.databaseSecret" -}}
{{- $root := index . 0 -}}
{{- $own := ternary "migrate" "database" (eq (index . 1) "migrate") -}}
{{- $root.Values.database.existingSecret | default (include "anb-video.name" (list $root $own)) -}}
{{- end }}

{{/*
How many connections to the database all pods may open together. A rollout may replace every pod of API and workers while
the old ones still drain; there is one operator, and a migration opens one connection.
*/}}
{{- define "anb-video.databaseConnections" -}}
{{- $sum := add 1 .Values.database.connections.operator -}}
{{- range $component := list "api" "worker" -}}
{{- $own := index $.Values $component -}}
{{- $pods := ternary $own.autoscaling.maxReplicas $own.replicas $own.autoscaling.enabled -}}
{{- $sum = add $sum (mul 2 $pods (index $.Values.database.connections $component)) -}}
{{- end -}}
{{- $sum -}}
{{- end }}

{{/* Where the access keys are kept, with `aws.credentials: secret`. */}}
{{- define "anb-video.awsSecret" -}}
{{- .Values.aws.secret.existingSecret | default (include "anb-video.name" (list . "aws")) -}}
{{- end }}

{{/* The region of the queue: what its URL tells, as the programs read it, else the region of everything. */}}
{{- define "anb-video.queueRegion" -}}
{{- $region := (.Files.Get "files/settings.yaml" | fromYaml).forms.region.pattern -}}
{{- $told := regexFind "^https?://[^/]+" .Values.queue.url | regexFind (printf "[/.]%s[.]" $region) | trimAll "/." -}}
{{- $told | default .Values.aws.region -}}
{{- end }}

{{/* Numbers in values are floats, and large ones would be written as 2e+09. */}}
{{- define "anb-video.plain" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* The ServiceAccount of a component, whose token no pod gets unasked. Takes (list root component). */}}
{{- define "anb-video.serviceAccount" -}}
{{- $annotations := dict -}}
{{- with (index (index . 0).Values (index . 1)).roleArn -}}
{{- $_ := set $annotations "eks.amazonaws.com/role-arn" . -}}
{{- end -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "anb-video.metadata" (list (index . 0) (index . 1) "" $annotations) | nindent 2 }}
automountServiceAccountToken: false
{{- end }}

{{/* Takes (list root component maxUnavailable). A lone pod, or one that is unwell, keeps no node from being drained. */}}
{{- define "anb-video.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "anb-video.metadata" (slice . 0 2) | nindent 2 }}
spec:
  maxUnavailable: {{ index . 2 }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "anb-video.selectorLabels" (slice . 0 2) | nindent 6 }}
{{- end }}
