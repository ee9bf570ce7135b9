{{/*
Checks for values that can't work. Each failed check has a sentence that says what to do, and all sentences are shown at
once. values.schema.json checks types and bounds of single values. Formats are checked here, where the error can be a sentence.
*/}}
{{- define "anb-video.requirements" -}}
{{- $values := .Values -}}
{{- $problems := list -}}

{{- /* Names */ -}}
{{- $fullname := include "anb-video.fullname" . -}}
{{- if not (regexMatch "^[a-z]" $fullname) -}}
{{- $problems = append $problems (printf "The release's name %q begins with a digit, and a Service's name can't: set fullnameOverride." $fullname) -}}
{{- end -}}
{{- if contains "." $fullname -}}
{{- $problems = append $problems (printf "The release's name %q has a dot, and a Service's name can't: set fullnameOverride." $fullname) -}}
{{- end -}}
{{- if gt (len $fullname) 38 -}}
{{- $problems = append $problems (printf "The release's name %q has %d characters; with more than 38 the names of its pods are cut off: set fullnameOverride." $fullname (len $fullname)) -}}
{{- end -}}

{{- /* Values that every release needs */ -}}
{{- $celery := $values.queue.celery -}}
{{- if not (or $values.queue.url $celery.url $celery.existingSecret) -}}
{{- $problems = append $problems "queue.url is not set: give the URL of the queue, such as https://sqs.us-east-1.amazonaws.com/123456789012/anb-video-processing-queue, or name a Celery broker in queue.celery." -}}
{{- end -}}
{{- if and $values.queue.deadLetterUrl (not $values.queue.url) -}}
{{- $problems = append $problems "queue.deadLetterUrl is set, but queue.url is not: a Celery broker has no dead-letter queue, so leave it out." -}}
{{- end -}}
{{- if and $celery.url $celery.existingSecret -}}
{{- $problems = append $problems "queue.celery.url and queue.celery.existingSecret are both set: keep one." -}}
{{- end -}}
{{- if not $values.bucket.name -}}
{{- $problems = append $problems "bucket.name is not set: name the bucket for uploads and results." -}}
{{- end -}}
{{- if not $values.aws.region -}}
{{- $problems = append $problems "aws.region is not set: give the bucket's region, such as us-east-1." -}}
{{- end -}}
{{- $fifo := hasSuffix ".fifo" $values.queue.url -}}
{{- if and $values.queue.url $values.queue.deadLetterUrl (ne $fifo (hasSuffix ".fifo" $values.queue.deadLetterUrl)) -}}
{{- $problems = append $problems (printf "queue.url (%s) and queue.deadLetterUrl (%s) must both be FIFO queues (.fifo), or neither." $values.queue.url $values.queue.deadLetterUrl) -}}
{{- end -}}
{{- if and $values.database.url $values.database.existingSecret -}}
{{- $problems = append $problems "database.url and database.existingSecret are both set: keep one." -}}
{{- else if not (or $values.database.url $values.database.existingSecret) -}}
{{- $problems = append $problems "No database: name a Secret in database.existingSecret, or give database.url." -}}
{{- end -}}
{{- if and $values.bootstrapToken.value $values.bootstrapToken.existingSecret -}}
{{- $problems = append $problems "bootstrapToken.value and bootstrapToken.existingSecret are both set: keep one." -}}
{{- end -}}

{{- /* Formats. A value that may contain a password, for example before an @, is not shown. */ -}}
{{- $forms := (.Files.Get "files/settings.yaml" | fromYaml).forms -}}
{{- $queue := list (printf "^(%s)$" $forms.queueUrl.pattern) $forms.queueUrl.sentence -}}
{{- $broker := list (printf "^(%s)$" $forms.brokerUrl.pattern) $forms.brokerUrl.sentence -}}
{{- $celeryQueue := list (printf "^(%s)$" $forms.celeryQueueName.pattern) $forms.celeryQueueName.sentence -}}
{{- $address := list "^([^:/@\\s]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$" "it must be a host and a port, such as redis.example.com:6379" -}}
{{- $bucket := list (printf "^(%s)$" $forms.bucketName.pattern) $forms.bucketName.sentence -}}
{{- $endpoint := list (printf "^(%s)$" $forms.httpUrl.pattern) $forms.httpUrl.sentence -}}
{{- $topic := list (printf "^(%s)$" $forms.topicArn.pattern) $forms.topicArn.sentence -}}
{{- $cloudwatch := list (printf "^(%s)$" $forms.cloudwatchNamespace.pattern) $forms.cloudwatchNamespace.sentence -}}
{{- $region := list (printf "^(%s)$" $forms.region.pattern) $forms.region.sentence -}}
{{- $postgres := list "^postgres(ql(\\+psycopg)?)?://\\S+$" "it must be a URL such as postgresql://user:password@host:5432/name" -}}
{{- $token := list "^\\S{16,}$" "it must have 16 characters or more, and no space" -}}
{{- $certificate := list "^arn:aws[a-z-]*:(acm|iam)::?\\S+$" "it must be a certificate's ARN, such as arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000" -}}
{{- $role := list "^arn:aws[a-z-]*:iam::[0-9]{12}:role/\\S+$" "it must be an IAM role's ARN, such as arn:aws:iam::123456789012:role/anb-video" -}}
{{- $digest := list "^sha256:[0-9a-f]{64}$" "it must be sha256: and 64 hexadecimal digits" -}}
{{- $prefixes := list "^[,\\s]*([^/,\\s][^,\\s]*/\\s*(,[,\\s]*|$))*$" "each prefix must end with a slash and not begin with one" -}}
{{- $formed := list
  (list "queue.url" $values.queue.url $queue)
  (list "queue.deadLetterUrl" $values.queue.deadLetterUrl $queue)
  (list "queue.celery.url" $celery.url $broker)
  (list "queue.celery.queueName" $celery.queueName $celeryQueue)
  (list "queue.celery.keda.address" $celery.keda.address $address)
  (list "alerts.snsTopicArn" $values.alerts.snsTopicArn $topic)
  (list "metrics.cloudwatch.namespace" $values.metrics.cloudwatch.namespace $cloudwatch)
  (list "bucket.name" $values.bucket.name $bucket)
  (list "bucket.endpointUrl" $values.bucket.endpointUrl $endpoint)
  (list "bucket.publicEndpoint" $values.bucket.publicEndpoint $endpoint)
  (list "aws.region" $values.aws.region $region)
  (list "aws.endpointUrl" $values.aws.endpointUrl $endpoint)
  (list "database.url" $values.database.url $postgres)
  (list "bootstrapToken.value" $values.bootstrapToken.value $token)
  (list "ingress.alb.certificateArn" $values.ingress.alb.certificateArn $certificate)
  (list "config.ANB_SOURCE_PREFIXES" $values.config.ANB_SOURCE_PREFIXES $prefixes)
-}}
{{- range $component := list "api" "worker" "operator" -}}
{{- $own := index $values $component -}}
{{- $formed = concat $formed (list
  (list (printf "%s.roleArn" $component) $own.roleArn $role)
  (list (printf "%s.image.digest" $component) $own.image.digest $digest)
) -}}
{{- end -}}
{{- range $formed -}}
{{- $name := index . 0 -}}
{{- $value := index . 1 -}}
{{- $form := index . 2 -}}
{{- if and $value (not (regexMatch (index $form 0) $value)) -}}
{{- $fault := ternary "can't be used" (printf "is %s" $value) (or (has $name (list "database.url" "bootstrapToken.value" "queue.celery.url")) (contains "@" $value)) -}}
{{- $problems = append $problems (printf "%s %s: %s." $name $fault (index $form 1)) -}}
{{- end -}}
{{- end -}}

{{- /* Credentials */ -}}
{{- $keys := $values.aws.secret -}}
{{- $inline := or $keys.accessKeyId $keys.secretAccessKey -}}
{{- if eq $values.aws.credentials "secret" -}}
{{- if and $inline $keys.existingSecret -}}
{{- $problems = append $problems "aws.secret.existingSecret is set together with keys: keep one." -}}
{{- else if not (or $keys.existingSecret (and $keys.accessKeyId $keys.secretAccessKey)) -}}
{{- $problems = append $problems "aws.credentials is secret: name a Secret in aws.secret.existingSecret, or give both aws.secret.accessKeyId and aws.secret.secretAccessKey." -}}
{{- end -}}
{{- else if or $inline $keys.existingSecret -}}
{{- $problems = append $problems (printf "aws.secret is set, but aws.credentials is %s: set aws.credentials to secret, or leave the keys out." $values.aws.credentials) -}}
{{- end -}}
{{- range $component := list "api" "worker" "operator" -}}
{{- $role := (index $values $component).roleArn -}}
{{- if and (eq $values.aws.credentials "irsa") (not $role) -}}
{{- $problems = append $problems (printf "aws.credentials is irsa, but %s.roleArn is not set: give the IAM role of its ServiceAccount." $component) -}}
{{- else if and (ne $values.aws.credentials "irsa") $role -}}
{{- $problems = append $problems (printf "%s.roleArn is set, but aws.credentials is %s and would ignore it: set aws.credentials to irsa, or leave the role out." $component $values.aws.credentials) -}}
{{- end -}}
{{- end -}}

{{- /* Times. Without these checks, the programs would exit at their start */ -}}
{{- $config := $values.config -}}
{{- $heartbeat := int64 $config.ANB_HEARTBEAT_SECONDS -}}
{{- $lease := int64 $config.ANB_LEASE_SECONDS -}}
{{- if gt (mul 3 $heartbeat) $lease -}}
{{- $problems = append $problems (printf "config.ANB_HEARTBEAT_SECONDS (%d) must be at most a third of ANB_LEASE_SECONDS (%d), so that two renewals may fail." $heartbeat $lease) -}}
{{- end -}}
{{- if ge $lease (int64 $config.SQS_VISIBILITY_TIMEOUT) -}}
{{- $problems = append $problems (printf "config.ANB_LEASE_SECONDS (%d) must be less than SQS_VISIBILITY_TIMEOUT (%d)." $lease (int64 $config.SQS_VISIBILITY_TIMEOUT)) -}}
{{- end -}}
{{- if lt (int64 $config.ANB_BACKOFF_CAP_SECONDS) (int64 $config.ANB_BACKOFF_SECONDS) -}}
{{- $problems = append $problems (printf "config.ANB_BACKOFF_CAP_SECONDS (%d) must be at least ANB_BACKOFF_SECONDS (%d)." (int64 $config.ANB_BACKOFF_CAP_SECONDS) (int64 $config.ANB_BACKOFF_SECONDS)) -}}
{{- end -}}

{{- /* Scaling */ -}}
{{- range $component := list "api" "worker" -}}
{{- $scaling := (index $values $component).autoscaling -}}
{{- if and $scaling.enabled (lt (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- $problems = append $problems (printf "%s.autoscaling.maxReplicas (%d) is below minReplicas (%d)." $component (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- end -}}
{{- end -}}
{{- $scaling := $values.worker.autoscaling -}}
{{- if $scaling.enabled -}}
{{- if and $values.queue.url (not (regexMatch "^https?://[^/]+/[^/]+/[^/]+$" $values.queue.url)) -}}
{{- $problems = append $problems (printf "queue.url (%s) must end in /account/name: KEDA can't read other queues." $values.queue.url) -}}
{{- end -}}
{{- $keda := $celery.keda -}}
{{- $redis := or $keda.address $keda.username $keda.passwordKey $keda.tls $keda.database -}}
{{- if and (not $celery.existingSecret) (or $redis $keda.broker $keda.managementUrlKey) -}}
{{- $problems = append $problems "queue.celery.keda is set, but queue.celery.existingSecret is not, and only then are these values used: leave them out." -}}
{{- else if and $celery.existingSecret (not $keda.broker) -}}
{{- $problems = append $problems "queue.celery.keda.broker is not set: say redis or rabbitmq, because the chart can't read the URL in queue.celery.existingSecret." -}}
{{- else if and (eq $keda.broker "redis") (not $keda.address) -}}
{{- $problems = append $problems "queue.celery.keda.address is not set: give host and port of Redis, because KEDA can't read the URL in queue.celery.existingSecret." -}}
{{- else if and (eq $keda.broker "redis") $keda.managementUrlKey -}}
{{- $problems = append $problems "queue.celery.keda.managementUrlKey is for RabbitMQ, but queue.celery.keda.broker is redis: leave it out." -}}
{{- else if and (eq $keda.broker "rabbitmq") $redis -}}
{{- $problems = append $problems "queue.celery.keda.broker is rabbitmq, but address, database, tls, username and passwordKey of queue.celery.keda are for Redis: leave them out." -}}
{{- end -}}
{{- if hasPrefix "pyamqp:" $celery.url -}}
{{- $problems = append $problems "queue.celery.url begins with pyamqp, which KEDA does not know: write amqp instead." -}}
{{- end -}}
{{- $rabbit := or (eq $keda.broker "rabbitmq") (regexMatch "^(py)?amqps?:" $celery.url) -}}
{{- if and $rabbit (not $keda.managementUrlKey) (eq (int $scaling.minReplicas) 0) -}}
{{- $problems = append $problems "worker.autoscaling.minReplicas is 0, but without queue.celery.keda.managementUrlKey KEDA does not count the messages in flight of RabbitMQ, and would remove the last worker during its job: set the key, or a minimum of 1." -}}
{{- end -}}
{{- $step := $scaling.step -}}
{{- if and (eq $scaling.policy "step") (gt (int $step.scaleDownBelow) (add1 $step.scaleUpAbove | int)) -}}
{{- $problems = append $problems (printf "worker.autoscaling.step.scaleDownBelow (%d) is more than one above scaleUpAbove (%d): pods would be added and removed for the same queue." (int $step.scaleDownBelow) (int $step.scaleUpAbove)) -}}
{{- end -}}
{{- if and (eq $scaling.policy "backlog") (lt (int $scaling.backlog.latencySeconds) (int $scaling.backlog.jobSeconds)) -}}
{{- $problems = append $problems (printf "worker.autoscaling.backlog.latencySeconds (%d) is below jobSeconds (%d): no number of pods makes a job quicker." (int $scaling.backlog.latencySeconds) (int $scaling.backlog.jobSeconds)) -}}
{{- end -}}
{{- $patience := mul $scaling.fallback.failureThreshold $scaling.zero.pollingSeconds -}}
{{- if and (eq (int $scaling.minReplicas) 0) (le (int $scaling.zero.cooldownSeconds) (int $patience)) -}}
{{- $problems = append $problems (printf "worker.autoscaling.zero.cooldownSeconds (%d) must be more than fallback.failureThreshold x zero.pollingSeconds (%d): else an unreadable queue takes the last worker away." (int $scaling.zero.cooldownSeconds) (int $patience)) -}}
{{- end -}}
{{- end -}}

{{- /* Service and Ingress */ -}}
{{- if and $values.service.nodePort (eq $values.service.type "ClusterIP") -}}
{{- $problems = append $problems "service.nodePort is set, but service.type is ClusterIP: set it to NodePort." -}}
{{- end -}}
{{- $alb := eq $values.ingress.className "alb" -}}
{{- if and $values.ingress.enabled $alb (lt (len $values.ingress.alb.subnets) 2) -}}
{{- $problems = append $problems "ingress.className is alb: name two subnets or more, in different zones, in ingress.alb.subnets." -}}
{{- end -}}
{{- if and $values.ingress.enabled $alb (lt (int $values.api.preStopSeconds) 20) -}}
{{- $problems = append $problems (printf "ingress.className is alb, but api.preStopSeconds is %d: give 20 or more, because the load balancer sends requests to a pod for about that long after it was told to stop." (int $values.api.preStopSeconds)) -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $alb) (or $values.ingress.alb.subnets $values.ingress.alb.certificateArn) -}}
{{- $problems = append $problems (printf "ingress.alb is set, but ingress.className is %q: set it to alb." $values.ingress.className) -}}
{{- end -}}

{{- /* The operator. Two operators of one VideoJob would each write the state of their own database */ -}}
{{- if eq $values.operator.watch "cluster" -}}
{{- range (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $owner := .metadata.annotations | default dict -}}
{{- $name := get $owner "meta.helm.sh/release-name" -}}
{{- $namespace := get $owner "meta.helm.sh/release-namespace" -}}
{{- $ours := and (eq $name $.Release.Name) (eq $namespace $.Release.Namespace) -}}
{{- $operator := and (eq (get $labels "app.kubernetes.io/name") $.Chart.Name) (eq (get $labels "app.kubernetes.io/component") "operator") -}}
{{- if and $operator $name (not $ours) -}}
{{- $problems = append $problems (printf "operator.watch is cluster, but the operator of %s in namespace %s watches the whole cluster already: set operator.watch to namespace in both." $name $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "these values can't work:\n- %s" (join "\n- " $problems)) -}}
{{- end -}}
{{- end }}
