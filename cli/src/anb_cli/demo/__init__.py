"""`anb demo`: one video's whole way through a stack of its own, and an examination of what came out."""
