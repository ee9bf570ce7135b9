"""In-memory implementations of every port, shipped for tests; the contract suites hold them to what the real adapters do."""
