"""Automatic certificates: got from an authority by ACME (RFC 8555), stored, renewed before they end.

`service.py` decides when, `timing.py` by what rules; `issuing.py` alone speaks to the authority, `presenting.py` to the workers,
which answer its challenges; `files.py` keeps what is got. Nothing here is on the road of a request.
"""
