{{/* Where the operator works, for itself and for the clean-up before an uninstall. */}}
{{- define "anb-video.operatorScope" -}}
- name: ANB_OPERATOR_NAMESPACE
  value: {{ .Release.Namespace | quote }}
- name: ANB_OPERATOR_WATCH
  value: {{ .Values.operator.watch | quote }}
{{- end }}

{{/* Labels as a selector: `a=b,c=d`. */}}
{{- define "anb-video.selector" -}}
{{- $terms := list -}}
{{- range $name, $value := . -}}
{{- $terms = append $terms (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join "," $terms -}}
{{- end }}

{{/*
What a ServiceAccount of the same name may do: `rules` in the release's namespace, `watched` where VideoJobs are watched.
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
{{- /* Two releases of one name in two namespaces must not share it. */}}
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
