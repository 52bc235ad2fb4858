"""Who a bearer token belongs to: OpenID providers' signed tokens, and opaque ones by introspection; off the road.

`Identity` is what the control process uses of this package. It knows configuration and providers; workers reach it through
the link, and it knows nothing of connections, roles' contents or what a request asks for.
"""

from slmgate.control.identity.service import Identity

__all__ = ["Identity"]
