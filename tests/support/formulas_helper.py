"""A module that formulas import inside of themselves; see `formulas/meaning.txt`."""

ONE, TWO = 1, 2
