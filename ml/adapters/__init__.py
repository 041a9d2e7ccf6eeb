"""One module for each outside library, behind `ml.ports`; only `ml.bootstrap` imports them."""
