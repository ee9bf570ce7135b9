"""The core of ANB Video: domain rules, ports, use cases, adapters, and the module that connects them."""
