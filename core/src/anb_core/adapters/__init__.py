"""Implementations of the ports: the store on PostgreSQL and SQLite, the bucket on S3, the queue on SQS."""
