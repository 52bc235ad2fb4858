"""The snapshot: configuration as a worker decides by it, compiled once per publication, with the keys beside it.

`SnapshotSpec` (`specs.py`) is what travels over the link; `Snapshot` is the immutable lookups made from it. Keys travel apart,
since one of them changes far more often than all else: see `keytable.py`. This module does not know where configuration comes
from, and holds no state that outlives a reload: limits and health live elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from slmgate.policy.access import Access
from slmgate.policy.charges import Charges
from slmgate.policy.keytable import KeyTable
from slmgate.policy.networks import networks_of
from slmgate.policy.roles import INTERNAL, RoleSpec, TeamSpec
from slmgate.policy.specs import ModelSpec, SnapshotSpec
from slmgate.terms import Bearer, Principal, Refuse

MAX_ACCESSES = 10_000
"""Teams and lists of roles whose access is remembered; who signs tokens may name as many teams as they like."""


class Snapshot:
    """What one generation decides by. A reload makes another, and so does a change of keys, by `again`.

    All is as it was made, but for `keys` and `tokens` (digest -> whose token it is, or why it opens nothing, and until when that
    holds): those are the tables of this process, which are always as new as can be. What is taken out of them before its time
    makes another snapshot, so that whoever kept an answer by its snapshot asks anew.
    """

    __slots__ = (
        "_accesses",
        "_open",
        "_roles",
        "_teams",
        "agents",
        "anonymous",
        "auth",
        "charges",
        "forwarders",
        "gate",
        "generation",
        "keys",
        "model_names",
        "models",
        "proxies",
        "tokens",
        "tracing",
    )

    def __init__(
        self,
        spec: SnapshotSpec,
        keys: KeyTable | None = None,
        tokens: Mapping[bytes, tuple[Bearer | Refuse, float]] | None = None,
    ) -> None:
        """`keys` or `tokens` None: there are none."""
        self.auth = spec.auth
        self.anonymous = spec.auth.anonymous
        self.tokens = {} if tokens is None else tokens
        self.generation = spec.generation
        self.gate = spec.gate
        self.tracing = spec.tracing
        self.agents = spec.agents
        self.proxies = networks_of(spec.gate.trusted_proxies)
        self.forwarders = self.proxies if spec.gate.proxy_header != "none" else networks_of(())  # who may say it in a header
        self.models: dict[str, ModelSpec] = {model.name: model for model in spec.models}
        self.model_names: tuple[str, ...] = tuple(self.models)
        self._open = {name: model for name, model in self.models.items() if not model.hidden}  # what callers may know of
        self.keys = KeyTable() if keys is None else keys
        self.charges = Charges(spec, self.keys.limited)
        self._roles: dict[str, RoleSpec] = {role.name: role for role in spec.roles}
        self._teams: dict[str, TeamSpec] = {team.name: team for team in spec.teams}
        # (team, own roles) -> what they come to; made when first asked for
        self._accesses: dict[tuple[str | None, tuple[str, ...]], Access] = {}

    def again(self, generation: int) -> Snapshot:
        """The same of another generation, by which it is known that keys have changed: whoever kept an answer asks anew."""
        other = copy(self)
        other.generation = generation
        if self.charges.keys_as_of != self.keys.limited:
            other.charges = self.charges.again(self.keys.limited)
        return other

    def access(self, principal: Principal) -> Access:
        """What this principal's roles come to."""
        which = principal.team, principal.roles
        found = self._accesses.get(which)
        if found is None:
            if len(self._accesses) >= MAX_ACCESSES:
                self._accesses.clear()
            found = self._accesses[which] = Access(self._roles_of(*which), self._open)
        return found

    def _roles_of(self, team: str | None, own: tuple[str, ...]) -> list[RoleSpec]:
        """Its own roles in their order, then its team's; a role that no longer exists grants and denies nothing."""
        if not self._roles:
            return [INTERNAL]
        of_team = self._teams[team].roles if team is not None and team in self._teams else ()
        return [self._roles[name] for name in dict.fromkeys((*own, *of_team)) if name in self._roles]

    def __repr__(self) -> str:
        return f"<Snapshot {self.generation}: {len(self.models)} models, {len(self.keys)} keys>"
