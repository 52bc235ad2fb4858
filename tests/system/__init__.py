"""Tests with real processes, sockets, clients and engines.

Only here may a test open a socket or sleep; nothing in the other test directories imports from this package.
"""
