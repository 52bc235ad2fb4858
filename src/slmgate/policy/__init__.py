"""Decisions, and nothing but decisions: plain calls from facts to verdicts.

No clock, chance, socket, task or log is known here: `now` is an argument, a refusal is a value. `dataplane/exchange.py`
asks the questions; what is decided by (`Snapshot`) is compiled once per reload.
"""
