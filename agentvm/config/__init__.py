"""Configuration: the file, the environment and flags, put together in one order, with where each value came from."""
