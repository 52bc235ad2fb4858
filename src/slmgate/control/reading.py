"""Receipts read from their records, in the two parts in which the ledger keeps them (`stores/parted.py`).

A record has what its receipt shares with others in one piece, and most receipts share all of it with one before: the piece is
looked up as it stands, and only what is the receipt's own is decoded. So what is to be judged of the shared part, such as
whether its caller made it up, is judged once for each piece and not for each receipt. This module knows no segment and no store.
"""

from __future__ import annotations

import msgspec

from slmgate.control.keyfields import DECLARED
from slmgate.control.settling import UNREADABLE
from slmgate.dialects import PATHS
from slmgate.stores.parted import FACET_FIELDS, OWN_FIELDS, Facet, Own, Parted, part, parted
from slmgate.stores.records import KeyUse
from slmgate.terms import Receipt

UNKNOWN = "(unknown)"
"""In the ledger, a path that the gate does not have. Which it was is in the access log."""
MAX_UNKNOWN = 1000
"""Names of models that nobody has, which the ledger learns a day. All further ones are `UNKNOWN`."""
MAX_PIECES = 16_384
"""Shared pieces of records remembered, about a kilobyte each. More of them cost the time to decode them, and nothing else."""

_decode = msgspec.json.Decoder(Receipt).decode
_fields = {field.name: field for field in msgspec.structs.fields(Receipt)}
# All of its fields are required and no others allowed: what this reads is a record cut where it ought to be, or none.
_Own = msgspec.defstruct(
    "_Own", [(name, _fields[name].type) for name in OWN_FIELDS], frozen=True, gc=False, forbid_unknown_fields=True
)
_decode_own = msgspec.json.Decoder(_Own).decode_lines
# The same of records that also say what their clients call themselves, which is for the access log and not for the ledger.
_Told = msgspec.defstruct("_Told", [("referer", str, ""), ("user_agent", str, "")], bases=(_Own,), frozen=True, kw_only=True)
_decode_told = msgspec.json.Decoder(_Told).decode_lines
# Where the shared piece begins. It cannot be inside a text, where a quote has a backslash before it.
_SHARED = b',"%b":' % FACET_FIELDS[0].encode()

_KEY = FACET_FIELDS.index("key")
_TIME, _ADDRESS = OWN_FIELDS.index("time"), OWN_FIELDS.index("address")


class OtherForm(Exception):
    """Not all of these records are of the form in which workers write: they are to be read one by one."""


class Reader:
    """Reads records, and bounds what callers can add to the ledger by asking for what is not there.

    Receipts share their path, model and so on in rows that stay for good, as do the sums of each. So a path of no row is one
    word, and of models that are refused as unknown there are so many a day at most. The access log has all as they came.
    """

    def __init__(self) -> None:
        # Only of receipts in which nothing can be made up: all others are judged each time.
        self._pieces: dict[bytes, Facet] = {}
        self._day = 0
        self._models: set[str] = set()

    def __repr__(self) -> str:
        return f"<Reader {len(self._pieces)} pieces, {len(self._models)} invented models>"

    def read(self, records: list[bytes]) -> Parted:
        """All of these records (JSON of a `terms.Receipt` each). Raises OtherForm."""
        cut = [record.partition(_SHARED) for record in records]
        lines = b"}\n".join([own for own, _, _ in cut] + [b""])
        try:
            own = list(map(msgspec.structs.astuple, _decode_own(lines)))
        except UNREADABLE:
            own = _own_of_told(lines)
        if len(own) != len(records):
            raise OtherForm
        return Parted(own, self._facets([piece for _, _, piece in cut], records))

    def _facets(self, pieces: list[bytes], records: list[bytes]) -> list[Facet]:
        try:
            return list(map(self._pieces.__getitem__, pieces))
        except KeyError:
            return [self._pieces.get(piece) or self._learn(piece, record) for piece, record in zip(pieces, records, strict=True)]

    def _learn(self, piece: bytes, record: bytes) -> Facet:
        """What is shared in a record with a piece that is not known."""
        try:
            receipt = _decode(record)
        except UNREADABLE as error:
            raise OtherForm from error
        if _may_be_invented(receipt):
            return part(self._bounded(receipt))[1]
        if len(self._pieces) >= MAX_PIECES:
            self._pieces = {}
        facet = self._pieces[piece] = part(receipt)[1]
        return facet

    def read_one(self, record: bytes) -> Parted:
        """One record, of whatever form. Raises UNREADABLE."""
        return parted([self._bounded(_decode(record))])

    def _bounded(self, receipt: Receipt) -> Receipt:
        """The receipt; without what its caller made up, where that is too much."""
        if not _may_be_invented(receipt):
            return receipt
        if receipt.endpoint == "":
            return msgspec.structs.replace(receipt, path=UNKNOWN)
        return receipt if self._is_known(receipt) else msgspec.structs.replace(receipt, model=UNKNOWN)

    def _is_known(self, receipt: Receipt) -> bool:
        """Whether its model is one of the first unknown ones of the day."""
        day = receipt.time.toordinal()
        if day != self._day:
            self._day = day
            self._models.clear()
        if len(self._models) < MAX_UNKNOWN:
            self._models.add(receipt.model)
        return receipt.model in self._models


def _own_of_told(lines: bytes) -> list[Own]:
    """What is each one's own, of records that also say what the ledger does not keep. Raises OtherForm."""
    try:
        return [tuple([getattr(one, name) for name in OWN_FIELDS]) for one in _decode_told(lines)]
    except UNREADABLE as error:
        raise OtherForm from error


def _may_be_invented(receipt: Receipt) -> bool:
    """Whether its path or model may be any text, as it came from the caller."""
    if receipt.endpoint == "":
        return bool(receipt.path) and receipt.path not in PATHS
    return receipt.reason == "model_not_found"


def newest_uses(receipts: Parted) -> dict[str, KeyUse]:
    """When and from where keys were used last, by their ids. Other principals (see `terms.Principal`) are left out.

    A request counts as a use when its key was known, also if it was refused for another reason.
    """
    newest: dict[str | None, Own] = {}
    for own, facet in zip(receipts.own, receipts.facets, strict=True):
        key = facet[_KEY]
        known = newest.get(key)
        if known is None or known[_TIME] < own[_TIME]:
            newest[key] = own
    return {
        key: KeyUse(own[_TIME], own[_ADDRESS])
        for key, own in newest.items()
        if key is not None and (":" not in key or key.startswith(DECLARED))
    }
