"""The ports: protocols of everything outside that the use cases need. Adapters and in-memory fakes implement them."""
