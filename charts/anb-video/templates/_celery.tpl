{{/* The Secret with the URL of the Celery broker. Empty if there is no broker. */}}
{{- define "anb-video.celerySecret" -}}
{{- with .Values.queue.celery -}}
{{- .existingSecret | default (ternary (include "anb-video.name" (list $ "celery")) "" (not (empty .url))) -}}
{{- end -}}
{{- end }}

{{/* The key of the broker's URL in that Secret. */}}
{{- define "anb-video.celeryUrlKey" -}}
{{- with .Values.queue.celery -}}
{{- ternary .existingSecretKey "CELERY_BROKER_URL" (not (empty .existingSecret)) -}}
{{- end -}}
{{- end }}

{{/*
Decodes the codes such as %40 in a part of a URL. The template language has no function for this, but urlParse decodes
the path of a URL. An invalid code would stop urlParse, so a part with an invalid code stays as it is.
*/}}
{{- define "anb-video.decoded" -}}
{{- if regexMatch "^([^%]|%[0-9A-Fa-f]{2})*$" . }}{{ (urlParse (printf "http://host/%s" .)).path | trimPrefix "/" }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/*
The settings with which KEDA reads the queue on the broker, as YAML. If queue.celery.url is set, they come from this URL
and include the password. Otherwise they are the values of queue.celery.keda.
*/}}
{{- define "anb-video.celeryKeda" -}}
{{- $url := .Values.queue.celery.url -}}
{{- if $url -}}
{{- $form := "^([a-z]+)://(([^:@]*)(:([^@]*))?@)?([^/?]+)(/([0-9]*))?.*$" -}}
{{- $password := regexReplaceAll $form $url "${5}" -}}
{{- $address := regexReplaceAll $form $url "${6}" -}}
broker: {{ ternary "redis" "rabbitmq" (hasPrefix "redis" $url) }}
address: {{ ternary $address (printf "%s:6379" $address) (regexMatch ":[0-9]+$" $address) | quote }}
database: {{ regexReplaceAll $form $url "${8}" | default "0" }}
tls: {{ hasPrefix "rediss:" $url }}
username: {{ regexReplaceAll $form $url "${3}" | include "anb-video.decoded" | quote }}
passwordKey: {{ ternary "REDIS_PASSWORD" "" (not (empty $password)) | quote }}
password: {{ include "anb-video.decoded" $password | quote }}
managementUrlKey: ""
{{- else -}}
{{- toYaml .Values.queue.celery.keda -}}
{{- end -}}
{{- end }}
