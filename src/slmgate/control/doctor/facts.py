"""What the doctor looks at on the gate's own machine: files and their modes, sockets that listen, what instances answer, clocks.

It gathers and judges nothing. What cannot be looked at is left out or None, never a failure: a doctor that faints helps nobody.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from slmgate.control.config import Config
from slmgate.control.config.addresses import Origin
from slmgate.control.config.document import parse, plain_value
from slmgate.control.state_dir import ACME_DIR, JOURNAL_DIR
from slmgate.link.journal import read_intents

TIMEOUT = 2.0
LONGEST = 3
"""So many times a timeout is all that an answer may take."""
_ASKED = {"ollama": "/api/tags", "tgi": "/info"}
_SECRETS = ("bearer", "client_secret", "password", "secret")
_LISTENS = "0A"  # TCP_LISTEN of the kernel's table
ALL_ADDRESSES = ("00000000", "0" * 32)


class Answer(NamedTuple):
    """What somebody answered who was asked without a credential. `skew`: seconds that its clock is ahead of ours."""

    status: int
    skew: float | None


class Mode(NamedTuple):
    """A file that is there, and its mode."""

    path: Path
    mode: int

    @property
    def open_to_others(self) -> bool:
        """Whether anybody but its owner may read or write it."""
        return bool(self.mode & 0o077)


def mode_of(path: Path) -> Mode | None:
    """None: it is not there, or not ours to look at."""
    try:
        return Mode(path, stat.S_IMODE(path.stat().st_mode))
    except OSError:
        return None


def modes_in(folder: Path) -> list[Mode]:
    """The folder and every file and folder below it."""
    found = [mode_of(folder)]
    with contextlib.suppress(OSError):
        found += [mode_of(path) for path in folder.rglob("*") if not path.is_symlink() and not path.is_socket()]
    return [one for one in found if one is not None]


def listening_on_all(port: int, tables: tuple[Path, ...] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))) -> bool:
    """Whether something on this machine listens at `port` on every address of it."""
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 3 and fields[3] == _LISTENS:
                host, _, number = fields[1].partition(":")
                if host in ALL_ADDRESSES and int(number, 16) == port:
                    return True
    return False


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what is done inside once that is over: a socket's own timeout begins anew with each byte.

    For the main thread of a command alone.
    """

    def over(*_: object) -> None:
        raise TimeoutError

    timer = signal.getitimer(signal.ITIMER_REAL)
    before = signal.signal(signal.SIGALRM, over)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def asked(origin: Origin, engine: str, timeout: float = TIMEOUT) -> Answer | None:
    """What an instance answers to a stranger who asks for its models; None: nothing."""
    try:
        if origin.tls:
            context = ssl.create_default_context()  # whom it is that answers is not the question here
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            link: http.client.HTTPConnection = http.client.HTTPSConnection(
                origin.host, origin.port, timeout=timeout, context=context
            )
        else:
            link = http.client.HTTPConnection(origin.host, origin.port, timeout=timeout)
        try:
            with within(LONGEST * timeout):
                link.request("GET", _ASKED.get(engine, "/v1/models"))
                answer = link.getresponse()
            now = time.time()
            return Answer(answer.status, _skew(answer.getheader("date"), now))
        finally:
            link.close()
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _skew(date: str | None, now: float) -> float | None:
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError, OverflowError):  # whatever an instance may write there
        return None
    ahead = there - now
    return 0.0 if -1.5 < ahead < 0.5 else ahead  # a date has whole seconds, and was written a moment ago


def literal_secrets(text: str) -> list[str]:
    """The options of a configuration file, by their last two names, in which a secret itself stands."""
    root, _ = parse(text)
    return sorted(set(_literal(plain_value(root), ""))) if root is not None else []


def _literal(value: Any, above: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            if name in _SECRETS and isinstance(one, str) and "${" not in one:
                yield f"{above}.{name}".lstrip(".")
            yield from _literal(one, str(name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _literal(one, above)


def certificate_files(config: Config) -> list[tuple[Path, Path]]:
    """The certificate and key files of the gate's listeners."""
    return [(one.cert, one.key) for listen in config.listen if listen.tls is not None for one in listen.tls.certificates]


class Automatic(NamedTuple):
    """A name whose certificate the gate gets by itself. `ends` None: there is none, but what stands in for it.

    `wanted` is when it was to be renewed.
    """

    name: str
    wanted: datetime | None
    ends: datetime | None


def automatic(config: Config) -> list[Automatic]:
    """Those whose files can be looked at, or are not there."""
    names = {domain: tls.acme for listen in config.listen if (tls := listen.tls) is not None and tls.acme is not None
             for domain in tls.acme.domains}  # fmt: skip
    if not names:
        return []
    # imported here, as below
    from slmgate.control.acme.files import AcmeFiles
    from slmgate.control.acme.making import leaf_of
    from slmgate.control.acme.timing import renew_at

    found: list[Automatic] = []
    for name, acme in names.items():
        path = AcmeFiles(config.state_dir / ACME_DIR, acme.directory, lambda _: None).certificate_path(name)
        try:
            leaf = leaf_of(path.read_bytes())
        except FileNotFoundError:
            found.append(Automatic(name, None, None))
        except (OSError, ValueError, IndexError):
            continue
        else:
            wanted = datetime.fromtimestamp(renew_at(name, leaf.not_before, leaf.not_after), UTC)
            ends = datetime.fromtimestamp(leaf.not_after, UTC)
            found.append(Automatic(name, None, None) if leaf.placeholder else Automatic(name, wanted, ends))
    return found


def ends_at(cert: Path) -> datetime | None:
    """When the first certificate of a PEM file ends; None: it cannot be read."""
    # imported here: it takes its time, and few configurations have certificates
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def open_intents(state_dir: Path) -> list[datetime]:
    """When each request began that has an intent and no receipt yet."""
    began: list[datetime] = []
    for path in sorted((state_dir / JOURNAL_DIR).glob("*.intents")):
        try:
            payloads, _ = read_intents(path.read_bytes())
        except OSError:
            continue
        for payload in payloads:
            try:
                began.append(datetime.fromisoformat(msgspec.json.decode(payload)["time"]))
            except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
                continue
    return began


def is_global(host: str) -> bool:
    """Whether an instance's host is an address of the open network. Of a name nobody can say."""
    try:
        return ip_address(host).is_global
    except ValueError:
        return False
