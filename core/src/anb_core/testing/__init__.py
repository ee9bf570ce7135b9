"""In-memory implementations of every port, for tests. tests/contract tests them together with the real adapters."""
