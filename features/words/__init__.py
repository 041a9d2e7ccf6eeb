"""The words to declare with. `features.vocabulary` has them all in one place."""
