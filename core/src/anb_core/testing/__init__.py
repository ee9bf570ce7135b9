"""In-memory implementations of every port, for tests. The contract tests run on the real adapters, too."""
