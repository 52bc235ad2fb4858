"""What is masked and what is not: tables of both, texts that a reader would join, and time that grows with the text alone."""

from __future__ import annotations

import time

import pytest

from slmgate.control.content.masks import Masks, is_iban, is_luhn, masks

ALL = ("email", "card", "iban", "phone")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jane@example.com.", "write to [email]."),
        ("<Jane.Doe+x@mail.example.co.uk>", "<[email]>"),
        ("jörg@bücher.example", "[email]"),
        ("a@b.co,c@d.org", "[email],[email]"),
        ("jane@\u200bexample.com", "[email]"),  # what nobody sees hides nothing
        ("x" * 200 + "@example.com", "[email]"),
        ("4111111111111111", "[card]"),
        ("4111 1111 1111 1111", "[card]"),
        ("4111-1111-1111-1111 and 5500 0000 0000 0004", "[card] and [card]"),
        ("3782 822463 10005", "[card]"),
        ("4111 1111 1111 1111 12", "[card] 12"),
        ("4111\u00a01111\u20131111 1111", "[card]"),
        ("DE89 3704 0044 0532 0130 00", "[iban]"),
        ("IBAN DE89370400440532013000, please", "IBAN [iban], please"),
        ("de89 3704 0044 0532 0130 00 please", "[iban] please"),
        ("AB12 cdef ghij klmn DE89 3704 0044 0532 0130 00", "AB12 cdef ghij klmn [iban]"),
        ("GB82WEST12345698765432", "[iban]"),
        ("call +49 30 1234567", "call [phone]"),
        ("(555) 123-4567 or 0171 1234567", "[phone] or [phone]"),
        ("0049 (30) 123-45-67", "[phone]"),
    ],
)
def test_masked(text: str, masked: str) -> None:
    found = Masks(ALL).mask(text)
    assert found.text == masked
    assert found.found == masked.count("[")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "jane@localhost",
        "@example.com",
        "a @ b.com",
        "4111111111111112",  # its check digit is wrong
        "411111111111",  # too short
        "41111111111111111111111",  # too long
        "DE88 3704 0044 0532 0130 00",  # its check digits are wrong
        "XDE89370400440532013000",  # in the middle of a word
        "2026-11-28T16:30:00Z",
        "3.14159265358979",
        "version 1.2.3",
        "127.0.0.1",
    ],
)
def test_left_alone(text: str) -> None:
    assert Masks(("email", "card", "iban")).mask(text) == (text, 0)


def test_a_card_behind_other_digits() -> None:
    assert Masks(("card",)).mask("1234 4111 1111 1111 1111").text == "1234 [card]"


def test_only_what_is_asked_for() -> None:
    text = "jane@example.com 4111111111111111 ACME-12"
    assert Masks((), ["ACME-[0-9]+"]).mask(text) == ("jane@example.com 4111111111111111 [masked]", 1)
    assert Masks(("card",)).mask(text).text == "jane@example.com [card] ACME-12"
    assert Masks(()).mask(text) == (text, 0)


def test_finds_that_overlap_are_one() -> None:
    assert Masks(("email",), ["jane@ex", "ample.com and"]).mask("jane@example.com and") == ("[email]", 1)
    assert Masks((), ["x*"]).mask("axxb") == ("a[masked]b", 1)  # finds of nothing are none


def test_texts_that_are_read_as_one() -> None:
    by = Masks(("email", "card"))
    assert by.mask_joined(["to ja", "ne@exam", "ple.com now"]) == (["to [email]", "", " now"], 1)
    assert by.mask_joined(["a@b.co", "c"]) == (["[email]", "c"], 1)
    assert by.mask_joined(["4111 1111", " 1111 1111 ", "x"]) == (["[card]", " ", "x"], 1)
    # what is one by itself stays one, whatever stands beside it
    assert by.mask_joined(["1", "4111111111111111"]) == (["1", "[card]"], 1)
    assert by.mask_joined([]) == ([], 0)
    assert by.mask_joined(["", "a@b.co", ""]) == (["", "[email]", ""], 1)


@pytest.mark.parametrize("piece", ["a", "a.", "1 ", "DE89 ", "a@", "(", "-1", "+49 "])
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (32768 // len(piece))
    by, began = Masks(ALL), time.process_time()
    by.mask(text)
    assert time.process_time() - began < 4  # quadratic time would be far more


def test_check_digits() -> None:
    assert is_luhn("79927398713")
    assert not is_luhn("79927398710")
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB82WEST12345698765431")


def test_made_once() -> None:
    assert masks(("email",), ("a",)) is masks(("email",), ("a",))
