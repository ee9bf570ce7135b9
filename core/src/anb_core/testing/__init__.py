"""In-memory implementations of every port, for tests. tests/contract checks them and the real adapters alike."""
