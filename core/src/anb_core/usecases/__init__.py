"""The use cases of ANB Video, one per module. They use only the domain and the ports."""
