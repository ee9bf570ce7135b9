"""What programs read from the environment, once, at start.

`capabilities` has a model for each thing that a program can do; a program's own model composes those that it uses.
`parsing` has the forms of values, `loading` reads the environment and words what is wrong with it, `documenting` writes
the models' fields down for people.
"""
