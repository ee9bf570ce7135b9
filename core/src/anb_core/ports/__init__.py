"""The ports: protocols for everything outside the use cases. Adapters and in-memory fakes implement the ports."""
