"""Bridle for Python: the client library and the command line."""
