"""Figures for Prometheus: what is counted, how, and how it is told at `/metrics`.

`families.py` is the table of all there is, `counting.py` counts receipts, `kept.py` carries the counts over a restart,
`gauges.py` says how things stand now, `exposition.py` puts both into words, and `service.py` ties them together. None of it
knows a request: what is counted are receipts, as they come into the ledger.
"""
