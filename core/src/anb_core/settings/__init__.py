"""The settings of programs. A program reads its settings from environment variables once, at startup.

- `capabilities` has one model for each capability, such as the store or the queue.
  The settings model of a program inherits from the models of the capabilities that the program uses.
- `parsing` validates values.
- `loading` reads environment variables into a model, and writes an error message for each wrong variable.
- `documenting` writes the models' fields as a Markdown table.
"""
