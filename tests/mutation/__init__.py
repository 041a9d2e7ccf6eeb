"""Do the fast tests notice a change of the code? `make mutate`; see CONTRIBUTING.md."""
