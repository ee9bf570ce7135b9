"""The Kubernetes operator of ANB Video: it mirrors videos as VideoJobs and runs the commands in their specs."""
