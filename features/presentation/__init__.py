"""Pages, tables and progress for people. Imports everything but bootstrap and commands."""
