"""Tracing, off the road: spans made of receipts, and their way to a collector over OTLP (HTTP, protobuf).

What is in here runs in the control process alone; which trace a request is part of was decided by its worker
(`dataplane/tracing.py`).
"""
