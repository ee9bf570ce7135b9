"""Settings: a program reads them from environment variables, once, at startup.

- `capabilities` has one model for each capability, such as the store or the queue. Each program's own model inherits
  those that it uses.
- `parsing` validates values.
- `loading` reads the environment into a model, and writes an error message for each wrong variable.
- `documenting` writes the models' fields as a Markdown table.
"""
