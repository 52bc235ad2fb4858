"""The access log's parts: how a line looks (`formats`), what waits and writes (`sink`), and where to (`streams`, `syslog`).

`targets` is the registry of what an option may name. Which targets there are, and who gives them lines, is `access_log.py`'s.
"""
