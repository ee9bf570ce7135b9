{{/* The prefix of the names of the release's objects. */}}
{{- define "anb-video.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end }}

{{/*
The metadata of an object. Takes (list root component suffix annotations); the last two are optional.
Names are quoted, because a release may be called y, on or 7, which YAML would not read as a string.
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

{{/* All labels of an object. Takes (list root component). */}}
{{- define "anb-video.labels" -}}
{{- $root := index . 0 -}}
{{ include "anb-video.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ $root.Chart.Name | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_") | quote }}
{{- end }}

{{/* The labels that select the pods of a component. Takes (list root component). */}}
{{- define "anb-video.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 | quote }}
{{- end }}

{{/* The image of a component, with its digest if there is one, otherwise with its tag. Takes (list root component). */}}
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

{{/* The name of the Secret with the database's URL. The migration has its own copy. Takes (list root component). */}}
{{- define "anb-video.databaseSecret" -}}
{{- $root := index . 0 -}}
{{- $own := ternary "migrate" "database" (eq (index . 1) "migrate") -}}
{{- $root.Values.database.existingSecret | default (include "anb-video.name" (list $root $own)) -}}
{{- end }}

{{/*
The number of database connections that all pods together may open. In a rollout, old pods of API and workers may drain
while the new ones work, so these pods count twice. There is one operator, and a migration opens one connection.
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

{{/* The name of the Secret with the access keys, for `aws.credentials: secret`. */}}
{{- define "anb-video.awsSecret" -}}
{{- .Values.aws.secret.existingSecret | default (include "anb-video.name" (list . "aws")) -}}
{{- end }}

{{/* The region of the queue: the region in its URL, as the programs read it, otherwise `aws.region`. */}}
{{- define "anb-video.queueRegion" -}}
{{- $region := (.Files.Get "files/settings.yaml" | fromYaml).forms.region.pattern -}}
{{- $inUrl := regexFind "^https?://[^/]+" .Values.queue.url | regexFind (printf "[/.]%s[.]" $region) | trimAll "/." -}}
{{- $inUrl | default .Values.aws.region -}}
{{- end }}

{{/* Writes a number without an exponent. Numbers in values are floats, so 2000000000 would become 2e+09. */}}
{{- define "anb-video.plain" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* The ServiceAccount of a component. Its token is not mounted by default. Takes (list root component). */}}
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

{{/* Takes (list root component maxUnavailable). Neither a single pod nor an unready one blocks the drain of a node. */}}
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
