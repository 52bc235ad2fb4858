"""Engines that the gate starts itself: what is to run (`plan.py`), who holds one (`keeper.py`), and when it runs (`service.py`).

The control process decides; each running engine has a small process of its own above it, its keeper, which outlives control.
What is in flight is not this package's to know: it is told so by the workers' tallies.
"""
