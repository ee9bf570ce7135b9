"""In-memory implementations of the ports, for tests. The contract tests compare them with the real adapters."""
