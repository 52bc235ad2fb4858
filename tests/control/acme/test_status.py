"""Certificates of files as operators are told of them, beside those that the gate got by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trustme

from slmgate.control.acme.making import placeholder_pem
from slmgate.control.acme.status import of_files
from slmgate.link.tls import Identity

CA = trustme.CA()


def identity(name: str, days: int = 30) -> Identity:
    end = datetime.now(UTC) + timedelta(days=days)
    made = CA.issue_cert(name, not_before=end - timedelta(days=60), not_after=end)
    return Identity(chain=made.cert_chain_pems[0].bytes(), key=b"", names=(name,), kind="ECDSA")


def test_each_is_told_once_with_its_times() -> None:
    good, old = identity("good.example.com"), identity("old.example.com", days=-1)
    found = of_files([good, old, good], ())
    assert [(one.names, one.state, one.source) for one in found] == [
        (("good.example.com",), "valid", "file"),
        (("old.example.com",), "expired", "file"),
    ]
    assert found[0].not_after is not None and found[0].not_after > datetime.now(UTC) and found[0].next_try is None
    assert found[0].issuer and found[0].serial


def test_what_is_known_and_what_stands_in_are_left_out() -> None:
    one = identity("a.example.com")
    (told,) = of_files([one], ())
    stand_in = Identity(chain=placeholder_pem("b.example.com", 1_800_000_000.0), key=b"", names=("b.example.com",))
    assert of_files([one, stand_in], {told.serial}) == []
