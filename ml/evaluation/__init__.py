"""Pure rules: which days, how good, good enough. They import no file, server or model library."""
