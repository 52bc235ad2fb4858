"""Helpers that tests share: feeds, mock instances, raw clients, loaders.

Nothing here is a test, and nothing here is imported by the source.
"""
