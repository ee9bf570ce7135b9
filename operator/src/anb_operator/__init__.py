"""The operator of ANB Video: it mirrors videos as VideoJobs, and does what people ask of them through these."""
