"""Fuzzing of what reads bytes from outside: targets with oracles, and what runs them.

A target is a function of bytes that fails when what it reads was read wrongly, not only when something was raised. How they are
run is `__main__.py`; this package knows no gate that listens anywhere, all of it runs on fakes.
"""
