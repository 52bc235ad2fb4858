"""What an instance's `tls`, and that of its model, come to: whom to believe at which name, for workers and checks alike.

It looks at the files only to see that they have changed. Whether they are good is `trust_checks.py`'s affair.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from slmgate.control.config.options import Instance, Model
from slmgate.control.config.stamps import stamp_text
from slmgate.control.config.trust_options import InstanceTls
from slmgate.policy.specs import SnapshotSpec, TrustSpec

_NOTHING = InstanceTls()


def tls_of(model: Model, instance: Instance) -> InstanceTls:
    """The options that hold for an instance: its own, and where it has none, its model's."""
    own, shared = instance.tls or _NOTHING, model.tls or _NOTHING
    pair = own if own.cert is not None else shared  # a certificate and its key belong together
    return InstanceTls(
        ca=shared.ca if own.ca is None else own.ca,
        cert=pair.cert,
        key=pair.key,
        server_name=shared.server_name if own.server_name is None else own.server_name,
        verify=shared.verify if own.verify is None else own.verify,
    )


def trust_of(model: Model, instance: Instance) -> TrustSpec:
    """Whom to believe at an instance."""
    tls = tls_of(model, instance)
    return TrustSpec(
        verify=tls.verify is not False,
        ca=str(tls.ca) if isinstance(tls.ca, Path) else "",
        cert="" if tls.cert is None else str(tls.cert),
        key="" if tls.key is None else str(tls.key),
    )


def stamped(trust: TrustSpec) -> TrustSpec:
    """The same with what tells that its files have changed."""
    files = [name for name in (trust.ca, trust.cert, trust.key) if name]
    return msgspec.structs.replace(trust, stamp=" ".join(stamp_text(Path(name)) for name in files)) if files else trust


def trusting(spec: SnapshotSpec) -> SnapshotSpec:
    """The snapshot with the stamps of its instances' files, as they are now."""
    if not any(one.trust is not None and (one.trust.ca or one.trust.cert) for model in spec.models for one in model.instances):
        return spec
    known: dict[TrustSpec, TrustSpec] = {}
    models = []
    for model in spec.models:
        made = []
        for one in model.instances:
            if one.trust is not None:
                trust = known[one.trust] = known.get(one.trust) or stamped(one.trust)
                one = msgspec.structs.replace(one, trust=trust)
            made.append(one)
        models.append(msgspec.structs.replace(model, instances=tuple(made)))
    return msgspec.structs.replace(spec, models=tuple(models))
