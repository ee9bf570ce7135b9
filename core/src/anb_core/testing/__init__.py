"""Every port in memory, shipped for tests; the contract suites hold them to what the real adapters do."""
