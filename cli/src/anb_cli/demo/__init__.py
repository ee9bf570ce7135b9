"""`anb demo`: starts its own stack, sends one video through it, and verifies the result."""
