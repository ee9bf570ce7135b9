{{/* The namespaces that the operator and the cleanup before an uninstall work in, as environment variables. */}}
{{- define "anb-video.operatorScope" -}}
- name: ANB_OPERATOR_NAMESPACE
  value: {{ .Release.Namespace | quote }}
- name: ANB_OPERATOR_WATCH
  value: {{ .Values.operator.watch | quote }}
{{- end }}

{{/* Formats labels as a selector: `a=b,c=d`. */}}
{{- define "anb-video.selector" -}}
{{- $terms := list -}}
{{- range $name, $value := . -}}
{{- $terms = append $terms (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join "," $terms -}}
{{- end }}

{{/*
Roles and bindings of the ServiceAccount with the same name: `rules` apply to the release's namespace, `watched` to the
namespaces in which VideoJobs are watched.
Takes (dict root component suffix annotations rules watched), the rules as YAML.
*/}}
{{- define "anb-video.permissions" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $suffix := .suffix | default "" -}}
{{- $metadata := list $root $component $suffix .annotations -}}
{{- $name := include "anb-video.name" (list $root $component $suffix) -}}
{{- $cluster := eq $root.Values.operator.watch "cluster" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "anb-video.metadata" $metadata | nindent 2 }}
rules:
  {{- .rules | nindent 2 }}
  {{- if not $cluster }}
  {{- .watched | nindent 2 }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "anb-video.metadata" $metadata | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ $name | quote }}
    namespace: {{ $root.Release.Namespace | quote }}
{{- if $cluster }}
{{- /* The name contains the namespace, because two namespaces may have releases with the same name. */}}
{{- $global := printf "%s-%s" $root.Release.Namespace $name }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $global | quote }}
  labels:
    {{- include "anb-video.labels" (list $root $component) | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
rules:
  {{- .watched | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $global | quote }}
  labels:
    {{- include "anb-video.labels" (list $root $component) | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $global | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ $name | quote }}
    namespace: {{ $root.Release.Namespace | quote }}
{{- end }}
{{- end }}
