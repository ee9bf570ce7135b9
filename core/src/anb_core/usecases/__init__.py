"""The use cases of ANB Video. Each module contains one use case. A use case needs only the domain and the ports."""
