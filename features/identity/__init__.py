"""The identity of a formula: it changes with everything that the formula reaches.

`identity_of` follows a function through constants, helpers, closures, defaults, classes and
objects, as far as they are code of a project. The product, the standard library and installed
packages count by their names.
"""
