"""What the commands of `features` do, a module for each subject."""
