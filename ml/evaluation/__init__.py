"""Pure rules: split, metrics, gates. They use no file and no server."""
