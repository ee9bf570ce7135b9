"""What stands behind the ports: PostgreSQL and SQLite, S3, SQS."""
