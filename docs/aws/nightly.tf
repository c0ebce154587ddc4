# A nightly run of tawny on Fargate, started by EventBridge. See ../aws.md.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40, < 7.0"
    }
  }
}

variable "name" {
  description = "Name of all resources"
  type        = string
  default     = "tawny"
}

variable "image" {
  description = "Image with the binary, /etc/tawny/tawny.toml and your rules, by digest"
  type        = string
}

variable "log_bucket" {
  description = "Bucket to which CloudTrail delivers"
  type        = string
}

variable "log_prefix" {
  description = "Prefix of the trail in that bucket"
  type        = string
  default     = "AWSLogs"
}

variable "lake_bucket" {
  description = "New bucket for the lake, the state and the findings"
  type        = string
}

variable "log_key_arns" {
  description = "KMS keys that encrypt the trail"
  type        = list(string)
  default     = []
}

variable "webhook_secret_arn" {
  description = "Secret of Secrets Manager whose text is the URL of a webhook, such as Slack's"
  type        = string
}

variable "subnets" {
  description = "Subnets with a route to S3, the registry and the webhook"
  type        = list(string)
}

variable "security_groups" {
  description = "Security groups that allow HTTPS to the outside, and nothing else"
  type        = list(string)
}

variable "assign_public_ip" {
  description = "Whether the task has a public address, for subnets without NAT"
  type        = bool
  default     = false
}

variable "schedule" {
  description = "When to run, in UTC"
  type        = string
  default     = "cron(30 2 * * ? *)"
}

variable "cpu" {
  description = "CPU units: 1024 are one vCPU"
  type        = number
  default     = 2048
}

variable "memory" {
  description = "Memory in MiB"
  type        = number
  default     = 4096
}

variable "alarm_email" {
  description = "Address that learns of runs that fail or are incomplete"
  type        = string
}

data "aws_region" "current" {}

data "aws_s3_bucket" "logs" {
  bucket = var.log_bucket
}

# The lake.

resource "aws_s3_bucket" "lake" {
  bucket = var.lake_bucket
}

resource "aws_s3_bucket_public_access_block" "lake" {
  bucket                  = aws_s3_bucket.lake.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  bucket = aws_s3_bucket.lake.id

  # Uploads of killed runs.
  rule {
    id     = "incomplete-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

# What the run itself may do: read the trail; read, write and clean up the lake.

data "aws_iam_policy_document" "run" {
  # Without a condition on the prefix: S3 answers "not found" only to those who may list the bucket.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [data.aws_s3_bucket.logs.arn, aws_s3_bucket.lake.arn]
  }

  statement {
    sid       = "ReadTrail"
    actions   = ["s3:GetObject"]
    resources = ["${data.aws_s3_bucket.logs.arn}/${var.log_prefix}/*"]
  }

  statement {
    sid       = "WriteLake"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.lake.arn}/*"]
  }

  dynamic "statement" {
    for_each = length(var.log_key_arns) > 0 ? [var.log_key_arns] : []
    content {
      sid       = "DecryptTrail"
      actions   = ["kms:Decrypt"]
      resources = statement.value
    }
  }
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "run" {
  name               = "${var.name}-run"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "run" {
  name   = "data"
  role   = aws_iam_role.run.id
  policy = data.aws_iam_policy_document.run.json
}

# What ECS may do to start it: pull the image, write the log, read the secret.

data "aws_iam_policy_document" "start" {
  statement {
    sid       = "Secret"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [var.webhook_secret_arn]
  }
}

resource "aws_iam_role" "start" {
  name               = "${var.name}-start"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy_attachment" "start" {
  role       = aws_iam_role.start.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "start" {
  name   = "secret"
  role   = aws_iam_role.start.id
  policy = data.aws_iam_policy_document.start.json
}

# The task.

resource "aws_ecs_cluster" "this" {
  name = var.name
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}/nightly"
  retention_in_days = 90
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.run.arn
  execution_role_arn       = aws_iam_role.start.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  # Matches beyond the memory of a hunt go there.
  volume {
    name = "scratch"
  }

  container_definitions = jsonencode([{
    name                   = "tawny"
    image                  = var.image
    command                = ["nightly", "--config", "/etc/tawny/tawny.toml", "--log", "json"]
    essential              = true
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "scratch", containerPath = "/tmp" }]
    environment = [
      { name = "TAWNY_SOURCES", value = "s3://${var.log_bucket}/${var.log_prefix}" },
      { name = "TAWNY_LAKE", value = "s3://${var.lake_bucket}/lake" },
    ]
    secrets = [{ name = "TAWNY_WEBHOOK_URL", valueFrom = var.webhook_secret_arn }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = data.aws_region.current.name
        awslogs-stream-prefix = "run"
      }
    }
  }])
}

# The schedule.

data "aws_iam_policy_document" "scheduler_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    actions   = ["ecs:RunTask"]
    resources = ["${aws_ecs_task_definition.this.arn_without_revision}:*"]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.run.arn, aws_iam_role.start.arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "scheduler" {
  name               = "${var.name}-scheduler"
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust.json
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "run"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}

resource "aws_scheduler_schedule" "this" {
  name                = var.name
  schedule_expression = var.schedule

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 15
  }

  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.scheduler.arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.this.arn
      launch_type         = "FARGATE"
      network_configuration {
        subnets          = var.subnets
        security_groups  = var.security_groups
        assign_public_ip = var.assign_public_ip
      }
    }
  }
}

# Runs that end with another code than 0: 2 is a wrong configuration, 3 leaves something for the next run.

resource "aws_sns_topic" "alarm" {
  name = "${var.name}-alarm"
}

resource "aws_sns_topic_subscription" "alarm" {
  topic_arn = aws_sns_topic.alarm.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

data "aws_iam_policy_document" "alarm" {
  statement {
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarm.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.failed.arn]
    }
  }
}

resource "aws_sns_topic_policy" "alarm" {
  arn    = aws_sns_topic.alarm.arn
  policy = data.aws_iam_policy_document.alarm.json
}

resource "aws_cloudwatch_event_rule" "failed" {
  name = "${var.name}-failed"
  event_pattern = jsonencode({
    source        = ["aws.ecs"]
    "detail-type" = ["ECS Task State Change"]
    detail = {
      clusterArn = [aws_ecs_cluster.this.arn]
      lastStatus = ["STOPPED"]
      "$or" = [
        { containers = { exitCode = [{ "anything-but" = [0] }] } },
        { stopCode = ["TaskFailedToStart"] },
      ]
    }
  })
}

resource "aws_cloudwatch_event_target" "failed" {
  rule = aws_cloudwatch_event_rule.failed.name
  arn  = aws_sns_topic.alarm.arn
}
