"""What all tests share: properties have no time limit of their own, since the machine's other work would break it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("slmgate", deadline=None)
settings.load_profile("slmgate")
