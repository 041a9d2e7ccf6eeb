"""The steps of a run, in order. Each is a function of a project and what the step before gave.

A step may be repeated at any time: what an earlier run with the same data and the same declaration
has done is found again and not done twice.
"""
