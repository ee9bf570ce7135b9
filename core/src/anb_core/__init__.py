"""The core of ANB Video: domain, ports, use cases, adapters and what wires them together."""
