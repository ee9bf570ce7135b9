"""The ports: protocols of all external parts that the use cases need. Adapters and in-memory fakes implement them."""
