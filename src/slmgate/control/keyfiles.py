"""Keys in files: many at once into the store, all or none, and out of it again, as lines of JSON or as CSV.

A file holds digests, never secrets: what is exported can be imported elsewhere, and what another gateway has can be brought here
if it keeps SHA-256 digests. Rows without a digest get a fresh secret. It opens no file; whoever reads one gives its text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from slmgate.control.keyfields import BadKeyInput, check_name, parse_digest, parse_expiry, parse_time
from slmgate.control.keylimits import limit_text
from slmgate.control.keyring import Keyring, new_id, new_secret
from slmgate.stores.records import KeyRecord, KeySecret
from slmgate.terms import LimitSpec

MOST_KEYS = 200_000
"""Keys in one import. More go in several."""
_TOLD = 20  # faults in one message
MICROSECOND = timedelta(microseconds=1)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# how a spreadsheet is kept from computing a cell, which `keys export` does as well
_GUARDED = re.compile(r"'[ ]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20].*", re.DOTALL)
_Value = TypeVar("_Value")


class BadKeyFile(BadKeyInput):
    """Keys that cannot be taken, none of them; the message has a line for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        more = [f"and {len(faults) - _TOLD} more"] if len(faults) > _TOLD else []
        super().__init__("\n".join(["No key was imported:", *faults[:_TOLD], *more]))


class KeyRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key in a file. Only `name` is needed.

    `hash` is `sha256:` and 64 hex digits, or several with spaces between, each with `@` and a time if it ends then; without it
    the key gets a new secret. `expires` and `limits` are as `keys create` takes them; in CSV, `;` stands between limits. `id`
    keeps the id that a key had. `line` is for faults.
    """

    name: str
    id: str | None = None
    owner: str | None = None
    team: str | None = None
    roles: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    created: str | None = None
    expires: str | None = None
    disabled: bool = False
    hash: str | None = None
    line: int = 0


class NewSecret(msgspec.Struct, frozen=True):
    """A secret that was made for an imported key."""

    id: str
    name: str
    secret: str


COLUMNS = tuple(name for name in KeyRow.__struct_fields__ if name != "line")
_LISTS = ("roles", "tags", "networks")
_BETWEEN_LIMITS = "; "
_read_row = msgspec.json.Decoder(KeyRow).decode


def import_keys(keyring: Keyring, rows: Sequence[KeyRow], actor: str, dry_run: bool = False) -> list[NewSecret]:
    """Take in all of these keys, or none; with `dry_run`, none, but only look whether they could be. Returns the secrets made.

    Raises BadKeyFile, LedgerUnavailable.
    """
    if len(rows) > MOST_KEYS:
        raise BadKeyFile([f"a file may hold {MOST_KEYS} keys, this one has {len(rows)}: split it"])
    made = with_secrets(rows)
    reader = _Reader(keyring)
    records = [reader.record(row) for row in rows]
    if not reader.faults:
        lines = [row.line or place for place, row in enumerate(rows, 1)]
        stored = {"id": "the id is", "name": "the name is", "secret": "the hash is the secret of"}
        reader.faults += [
            f"line {lines[place]}: {stored[what]} the key {id} already" for place, what, id in keyring.taken(records)
        ]
    if reader.faults:
        raise BadKeyFile(reader.faults)
    if records and not dry_run:
        keyring.add(records, actor)
    return [] if dry_run else made


def with_secrets(rows: Sequence[KeyRow]) -> list[NewSecret]:
    """Give each row without a digest a secret, and its digest to the row. Returns the secrets, which exist nowhere else."""
    made: list[NewSecret] = []
    for row in rows:
        if not row.hash:
            row.id = row.id or new_id()
            secret, digest = new_secret(row.id)
            row.hash = f"sha256:{digest.hex()}"
            made.append(NewSecret(row.id, row.name, secret))
    return made


class _Reader:
    """Rows to records; what is wrong with them gathers in `faults`."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._now = keyring.now()
        self._first: dict[tuple[str, str | bytes], int] = {}  # names, ids and digests, and the lines that they stand on
        # checked: most keys share theirs
        self._lists: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._limits: dict[tuple[tuple[str, ...], str | None], tuple[LimitSpec, ...]] = {}
        self._line = 0
        self.faults: list[str] = []

    def record(self, row: KeyRow) -> KeyRecord:
        self._line = row.line or self._line + 1
        id = row.id or new_id()
        if not _ID.fullmatch(id):
            self._blame("the id must be letters, digits, _ and -, at most 64 in all")
        for what, value in (("name", row.name), ("owner", row.owner), ("team", row.team)):
            if value or what == "name":
                self._try(None, check_name, value, what)
        self._once("name", row.name)
        self._once("id", id)
        self._now += MICROSECOND  # so that they are listed in the order of the file
        created = self._try(self._now, parse_time, row.created) if row.created else self._now
        expires = self._try(None, parse_expiry, row.expires, self._now) if row.expires else None
        return KeyRecord(
            id=id,
            name=row.name,
            created=created,
            owner=row.owner or None,
            team=row.team or None,
            roles=self._list("roles", row.roles),
            tags=self._list("tags", row.tags),
            networks=self._list("networks", row.networks),
            limits=self._limits_of(row) if row.limits else (),
            disabled=row.disabled,
            expires=expires,
            secrets=self._secrets(row.hash or "", created),
        )

    def _secrets(self, hash: str, created: datetime) -> tuple[KeySecret, ...]:
        found: list[KeySecret] = []
        for text in hash.split():
            named, _, until = text.partition("@")
            digest = self._try(b"", parse_digest, named)
            if digest:
                self._once("hash", digest)
            end = self._try(None, parse_time, until) if until else None
            found.append(KeySecret(digest, created, end))
        return tuple(found)

    def _list(self, name: str, values: tuple[str, ...]) -> tuple[str, ...]:
        known = self._lists.get((name, values))
        if known is None:
            known = self._lists[name, values] = self._try((), self._keyring.check_list, name, values)
        return known

    def _limits_of(self, row: KeyRow) -> tuple[LimitSpec, ...]:
        which = row.limits, row.team or None
        known = self._limits.get(which)
        if known is None:
            known = self._limits[which] = self._try((), self._keyring.check_limits, *which)
        return known

    def _once(self, what: str, value: str | bytes) -> None:
        if (what, value) in self._first:
            self._blame(f"the {what} stands on line {self._first[what, value]} already")
        else:
            self._first[what, value] = self._line

    def _try(self, otherwise: _Value, read: Callable[..., _Value], *given: Any) -> _Value:
        try:
            return read(*given)
        except BadKeyInput as error:
            self._blame(str(error))
            return otherwise

    def _blame(self, problem: str) -> None:
        self.faults.append(f"line {self._line}: {problem}")


# -- files


def read_rows(text: str) -> list[KeyRow]:
    """The keys of a file: lines of JSON if it begins with a brace, else CSV with a line of names. Raises BadKeyFile."""
    text = text.removeprefix("\ufeff")
    return _json_rows(text) if text.lstrip().startswith("{") else _csv_rows(text)


def _json_rows(text: str) -> list[KeyRow]:
    rows: list[KeyRow] = []
    faults: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = _read_row(line)
                row.line = number
                rows.append(row)
            except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
                faults.append(f"line {number}: {error}")
    if faults:
        raise BadKeyFile(faults)
    return rows


def _csv_rows(text: str) -> list[KeyRow]:
    rows: list[KeyRow] = []
    faults: list[str] = []
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(lines, [])]
        unknown = [name for name in names if name not in COLUMNS]
        if unknown or "name" not in names or len(set(names)) < len(names):
            raise BadKeyFile([f"line 1: the first line names the columns, name and any of {', '.join(COLUMNS)}, each once"])
        for cells in lines:
            if not any(cells):
                continue
            line = lines.line_num
            if len(cells) != len(names):
                faults.append(f"line {line}: there are {len(cells)} cells for {len(names)} columns")
                continue
            try:
                rows.append(msgspec.convert(_of_cells(dict(zip(names, cells, strict=True)), line), KeyRow))
            except msgspec.ValidationError as error:
                faults.append(f"line {line}: {error}")
    except csv.Error as error:
        faults.append(f"line {lines.line_num}: {error}")
    if faults:
        raise BadKeyFile(faults)
    return rows


def _of_cells(cells: dict[str, str], line: int) -> dict[str, Any]:
    row: dict[str, Any] = {"line": line}
    for name, cell in cells.items():
        if _GUARDED.fullmatch(cell):
            cell = cell[1:]
        if name in _LISTS:
            row[name] = tuple(cell.split())
        elif name == "limits":
            row[name] = tuple(text for one in cell.split(";") if (text := one.strip()))
        elif name == "disabled" and cell.lower() in ("true", "false", ""):
            row[name] = cell.lower() == "true"
        elif cell or name == "name":
            row[name] = cell
    return row


def exported(record: KeyRecord) -> KeyRow:
    """A stored key as a row that can be imported."""
    return KeyRow(
        name=record.name,
        id=record.id,
        owner=record.owner,
        team=record.team,
        roles=record.roles,
        tags=record.tags,
        networks=record.networks,
        limits=tuple(map(limit_text, record.limits)),
        created=record.created.isoformat(),
        expires=None if record.expires is None else record.expires.isoformat(),
        disabled=record.disabled,
        hash=" ".join(map(_hash, record.secrets)),
    )


def _hash(secret: KeySecret) -> str:
    text = f"sha256:{secret.digest.hex()}"
    return text if secret.until is None else f"{text}@{secret.until.isoformat()}"


def cells(row: dict[str, Any]) -> list[str]:
    """An exported row, as the API gives it, as the cells of CSV, in the order of `COLUMNS`."""
    values = [row.get(name) for name in COLUMNS]
    return [
        (_BETWEEN_LIMITS if name == "limits" else " ").join(value)
        if isinstance(value, list | tuple)
        else str(value).lower()
        if isinstance(value, bool)
        else value or ""
        for name, value in zip(COLUMNS, values, strict=True)
    ]
