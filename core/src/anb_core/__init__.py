"""The core of ANB Video: domain, ports, use cases, adapters, and the module that connects them."""
