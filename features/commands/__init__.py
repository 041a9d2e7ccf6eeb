"""The commands of `features`, a module for each subject. Imports everything below `__main__`."""
