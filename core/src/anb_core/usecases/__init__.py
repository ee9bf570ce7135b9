"""What ANB Video does: one module per use case, each written against the ports."""
