"""Pure rules: which days, how good, good enough. They know no file, no server and no library."""
