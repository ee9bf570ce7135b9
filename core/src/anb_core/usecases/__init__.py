"""The use cases of ANB Video, one in each module. The use cases import only the domain and the ports."""
