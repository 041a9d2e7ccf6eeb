"""One module a library that reaches outside, behind `ml.ports`. Only `ml.bootstrap` imports them."""
