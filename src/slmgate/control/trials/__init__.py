"""Policies tried before and after they count: would-be requests explained, tests of them, their edges, receipts replayed.

All of it asks `policy.decide`, as the road does, of a snapshot made from a configuration; none of it is on the road. It serves
nobody and changes nothing. `asked.py` holds the request that was never sent.
"""
