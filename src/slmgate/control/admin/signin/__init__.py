"""Sign-in with a browser: local accounts and an OpenID Connect provider, the sessions that follow, and the pages for both.

`service.py` decides who is let in; `throttle.py`, `flow.py`, `sessions.py` and `provider.py` are its parts, `handlers.py` and
`routes.py` its web side. The admin API asks here who a cookie belongs to, and knows nothing else of it.
"""
