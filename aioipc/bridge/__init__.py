"""What the user holds: one file for each family of `multiprocessing` objects."""
