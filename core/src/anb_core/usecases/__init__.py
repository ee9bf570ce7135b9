"""What ANB Video does, one module a use case, told in terms of the ports."""
