"""The demo: a tour of the commands on the flights domain. Imports everything below `__main__`."""
