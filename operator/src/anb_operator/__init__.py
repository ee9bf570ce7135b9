"""The Kubernetes operator of ANB Video mirrors videos as VideoJobs, and runs the commands in the specs of VideoJobs."""
