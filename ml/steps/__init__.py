"""The steps of a run; `table` lists them in order. They reach servers through `ml.ports` only.

A step may be repeated at any time: for the same data and the same declaration, the results of an
earlier run are used.
"""
