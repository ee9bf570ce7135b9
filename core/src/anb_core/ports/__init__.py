"""What the use cases need of the world: one protocol a module. Adapters and the in-memory fakes implement them."""
