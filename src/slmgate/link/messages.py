"""The messages between control and its workers: typed, tagged, versioned by their names.

Control sends snapshots and keys down; workers say who they are, confirm what they decide by and send tallies up. This module
knows how messages look, not how they travel (`channel.py`) nor what is done about them.

A worker that joins is sent `Tls` (`tls.py`), `Publish`, then all keys in parts (`KeysWhole`); from then on what changes:
`Publish` with the configuration and the keys declared in it, `KeysChanged` with stored keys. What changes while the parts are
under way comes between them, and each part holds its keys as they are when it is sent: so the last word on each is the newest.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from slmgate.link.tls import Tls
from slmgate.policy.health import Failure, State
from slmgate.policy.specs import SnapshotSpec
from slmgate.terms import Bearer, Key, LimitSpec, Refuse


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A worker's first words. `incarnation` is new for each start and names its journal segments and request ids.

    `generation` is the last one that it confirmed, with all keys; 0: none. `gate` is its supervisor's run: while one gate takes
    over from another, workers of both come to the new one's control. `version` is that of slmgate.
    """

    slot: int
    pid: int
    incarnation: str
    generation: int = 0
    gate: str = ""
    version: str = ""


class Publish(msgspec.Struct, frozen=True, tag="publish"):
    """Decide by this from now on, and these keys, declared in it, have come or changed (`put`) or are gone (their ids)."""

    snapshot: SnapshotSpec
    put: tuple[Key, ...] = ()
    gone: tuple[str, ...] = ()


class KeysWhole(msgspec.Struct, frozen=True, tag="keys_whole"):
    """A part of all keys. After the last part, keys in none of them are gone."""

    generation: int
    put: tuple[Key, ...]
    first: bool = False
    last: bool = False


class KeysChanged(msgspec.Struct, frozen=True, tag="keys_changed"):
    """These keys have come or changed, and those are gone (ids)."""

    generation: int
    put: tuple[Key, ...] = ()
    gone: tuple[str, ...] = ()


class Confirm(msgspec.Struct, frozen=True, tag="confirm"):
    """This worker decides by that generation now."""

    slot: int
    generation: int


class InstanceTally(msgspec.Struct, frozen=True):
    """One instance as one worker sees it. `healthy` False: it is passed over.

    `state` is the worker's own view of it, `why` what it is passed over for, `again` the seconds until it is tried (0: that is
    for its checks to say, or now), `failures` how many requests failed there in a row. `draining`: it gets no new request from
    this worker, because it is drained, not configured any more or not running. `served` changes with each request given to it.
    """

    id: str
    model: str
    in_flight: int
    waiting: int
    healthy: bool
    state: State = "healthy"
    why: str = ""
    again: float = 0.0
    failures: int = 0
    draining: bool = False
    served: float = 0.0


class Tally(msgspec.Struct, frozen=True, tag="tally"):
    """A worker's figures, about once a second. Counters only grow; gauges are as of now."""

    slot: int
    connections: int
    in_flight: int
    requests: int
    refused: int
    unjournaled: int
    instances: tuple[InstanceTally, ...] = ()
    shadows: int = 0
    shadows_dropped: int = 0
    turned_away: int = 0
    guarded: int = 0
    bans: int = 0
    shed: int = 0
    mine: int = 0


class CheckedOut(msgspec.Struct, frozen=True):
    """An instance (its id) whose checks fail: in which way, and why in words."""

    id: str
    kind: Failure
    why: str


class Checked(msgspec.Struct, frozen=True, tag="checked"):
    """What control's checks have come to: these instances are out, and those (their ids) are well. Of others it says nothing.

    A worker that joins is told of all that have been checked; later only what changes, and who is out once more now and then.
    """

    out: tuple[CheckedOut, ...] = ()
    well: tuple[str, ...] = ()


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """A request waits for a model of which an instance would have to be started. Tallies say the same, later."""

    slot: int
    model: str


class NotStarted(msgspec.Struct, frozen=True, tag="not_started"):
    """No instance of a model could be started, and none is tried again for so many seconds."""

    model: str
    seconds: float


class Verify(msgspec.Struct, frozen=True, tag="verify"):
    """Whose access token is this? `number` is the worker's own, and comes back in the answer."""

    number: int
    token: str

    def __repr__(self) -> str:
        return f"Verify({self.number})"


class Verified(msgspec.Struct, frozen=True, tag="verified"):
    """Whose token it is, and until when that may be relied on (seconds since the epoch); or why it opens nothing."""

    number: int
    bearer: Bearer | None = None
    until: float = 0.0
    refuse: Refuse | None = None


class Grounds(msgspec.Struct, frozen=True, tag="grounds"):
    """What verdicts on tokens may rest on from now on; one that rests on anything else (`Bearer.grounds`) is void."""

    valid: tuple[str, ...]


class Look(msgspec.Struct, frozen=True, tag="look"):
    """What is used of these limits? Each of `places` names one of `specs`, by its number, and for whom it is counted.

    `number` is control's own, and comes back in the answer.
    """

    number: int
    specs: tuple[LimitSpec, ...]
    places: tuple[tuple[int, str], ...]


class Looked(msgspec.Struct, frozen=True, tag="looked"):
    """For each place what is used, and what may be at most now. None: the table cannot be read."""

    number: int
    found: tuple[tuple[int, int], ...] | None


class Ban(msgspec.Struct, frozen=True):
    """An address that is banned, as operators see it (`203.0.113.7`, `2001:db8::/64`): for so many seconds more, and how often
    it was banned, of which old ones are forgotten."""

    address: str
    seconds: int
    times: int


class AskBans(msgspec.Struct, frozen=True, tag="ask_bans"):
    """Who is banned, in that part of the table of addresses (from 0 on)? `number` is control's own, and comes back."""

    number: int
    part: int


class LiftBan(msgspec.Struct, frozen=True, tag="lift_ban"):
    """Ban this address no more (as `Ban.address`, or one of its /64), in all workers. `number` as in `AskBans`."""

    number: int
    address: str


class Bans(msgspec.Struct, frozen=True, tag="bans"):
    """The answer to both: the bans of the part, and how many parts there are; or the one that was lifted, if there was one."""

    number: int
    bans: tuple[Ban, ...] = ()
    parts: int = 0


LiveState = Literal["reading", "queued", "connecting", "waiting", "streaming"]
"""Where a request under way is. `reading`: who calls is being found out, or its body is still coming. `queued`: no instance has
room for it, or another request with its Idempotency-Key is at work. `connecting`: to its instance. `waiting`: for the first byte
of its answer. `streaming`: its answer has begun."""


class LiveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request under way, as its worker knows it now. What is not known yet is empty.

    `id` is what its receipt will be called, `request_id` what its client calls it. `since` is seconds since the epoch. `position`
    is about the how-manieth to go it is in its worker's line (0: it stands in none). `tokens` are those of a stream so far, as
    the gate counts them; `prompt_tokens` is its estimate. `attempts`: how many instances it was given so far.
    """

    id: str
    request_id: str
    since: float
    state: LiveState
    client: str = ""
    key: str = ""
    team: str = ""
    model: str = ""
    instance: str = ""
    dialect: str = ""
    endpoint: str = ""
    stream: bool = False
    position: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    attempts: int = 0
    address: str = ""
    worker: int = 0


class LiveFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests under way are meant; what is empty asks for nothing."""

    client: str = ""
    team: str = ""
    model: str = ""
    instance: str = ""
    state: str = ""


class ListLive(msgspec.Struct, frozen=True, tag="list_live"):
    """Which requests are under way? The `most` oldest of those that are meant. `number` is control's own, and comes back."""

    number: int
    which: LiveFilter
    most: int


class Live(msgspec.Struct, frozen=True, tag="live"):
    """A part of the answer; the first one has the figures: how many are under way, how many of them are meant, and the clients
    with the most of them, each with how many it has and how many of those wait for an instance."""

    number: int
    requests: tuple[LiveRequest, ...]
    last: bool
    total: int = 0
    matching: int = 0
    clients: tuple[tuple[str, int, int], ...] = ()


class CancelLive(msgspec.Struct, frozen=True, tag="cancel_live"):
    """End the request with this id; or with `look`, only say what it is."""

    number: int
    id: str
    look: bool = False


class Cancelled(msgspec.Struct, frozen=True, tag="cancelled"):
    """What the request was then. None: it is not under way; `over`: it was."""

    number: int
    request: LiveRequest | None
    over: bool = False


class Mine(msgspec.Struct, frozen=True, tag="mine"):
    """The holder of a key asks about itself. `what` is one of `questions.py`, `body` what came with it.

    `digest` is that of the secret that was shown, `address` the client's. `number` is the worker's own, and comes back.
    """

    number: int
    key: str
    digest: bytes
    what: str
    body: bytes = b""
    address: str = ""


class MineTold(msgspec.Struct, frozen=True, tag="mine_told"):
    """What its holder is told: a JSON body, or a refusal."""

    number: int
    body: bytes = b""
    refuse: Refuse | None = None

    def __repr__(self) -> str:
        return f"MineTold({self.number})"


class Captured(msgspec.Struct, frozen=True):
    """What a role wants kept of one request, as it came: it is in memory only until it was masked.

    `id` is its receipt's, `time` seconds since the epoch. `stream`: the answer is one of events. `cut`: there was more.
    """

    id: str
    role: str
    time: float
    dialect: str
    stream: bool = False
    prompt: bytes | None = None
    prompt_cut: bool = False
    answer: bytes | None = None
    answer_cut: bool = False

    def __repr__(self) -> str:
        return f"Captured({self.id})"


class Captures(msgspec.Struct, frozen=True, tag="captures"):
    """A batch of those, and how many there was no room for since the worker began. It comes again until it is confirmed."""

    number: int
    records: tuple[Captured, ...]
    dropped: int = 0


class CaptureKept(msgspec.Struct, frozen=True, tag="capture_kept"):
    """That batch is where it belongs, and so many are known to be lost."""

    number: int
    dropped: int = 0


class Challenges(msgspec.Struct, frozen=True, tag="challenges"):
    """Answer an authority's challenges so from now on, and no others (control/acme).

    `tokens`: for each token of http-01 its text. `certificates`: for each name of tls-alpn-01 the certificate to show, with its
    key (PEM). `number` comes back in `Answering`.
    """

    number: int
    tokens: dict[str, str] = {}
    certificates: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Challenges({self.number})"


class Answering(msgspec.Struct, frozen=True, tag="answering"):
    """This worker answers challenges as the message of that number says."""

    slot: int
    number: int


Message = (
    Hello
    | Publish
    | KeysWhole
    | KeysChanged
    | Confirm
    | Tally
    | Verify
    | Verified
    | Grounds
    | Checked
    | Look
    | Looked
    | AskBans
    | LiftBan
    | Bans
    | ListLive
    | Live
    | CancelLive
    | Cancelled
    | Mine
    | MineTold
    | Captures
    | CaptureKept
    | Wanted
    | NotStarted
    | Tls
    | Challenges
    | Answering
)
