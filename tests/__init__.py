"""All tests of slmgate, one directory for each room of the source, beside `system` and `tools`.

This package exists so that tests can import `tests.tools`; it holds nothing itself.
"""
