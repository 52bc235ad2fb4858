"""What a form must be to be read, each way in which two readers could differ, and what a rename changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects import multipart as subject
from slmgate.terms import Refuse

B = b"xYz"
TYPE = "multipart/form-data; boundary=xYz"


def part(head: str | bytes, content: bytes = b"") -> bytes:
    raw = head if isinstance(head, bytes) else head.encode()
    return b"--xYz\r\n" + raw + b"\r\n\r\n" + content + b"\r\n"


def field(name: str, content: bytes | str) -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"', content if isinstance(content, bytes) else content.encode())


FILE = part(
    'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav', b"RIFF\r\n\r\n--xY\xff\x00"
)
MODEL = field("model", "whisper")
END = b"--xYz--\r\n"


def read(body: bytes) -> dict[str, str | list[str]] | Refuse:
    form = subject.parts(body, B)
    return form if isinstance(form, Refuse) else subject.texts(body, form)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (TYPE, b"xYz"),
        ('Multipart/Form-Data;Boundary="x Y:z"', b"x Y:z"),
        ("multipart/form-data ; boundary=----WebKitFormBoundaryA1b2 ", b"----WebKitFormBoundaryA1b2"),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    assert subject.boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("", "unsupported_media_type"),
        ("application/json", "unsupported_media_type"),
        ("multipart/mixed; boundary=x", "unsupported_media_type"),
        ("multipart/form-data", "invalid_request"),
        ("multipart/form-data; boundary=", "invalid_request"),
        ('multipart/form-data; boundary=""', "invalid_request"),
        ("multipart/form-data; boundary=" + "x" * 71, "invalid_request"),
        ("multipart/form-data; boundary=" + "x" * 80, "invalid_request"),
        ('multipart/form-data; boundary="a\r\nb"', "invalid_request"),
        ("multipart/form-data; boundary=a\n", "invalid_request"),
        ('multipart/form-data; boundary="a "', "invalid_request"),
        ("multipart/form-data; boundary=é", "invalid_request"),
        ("multipart/form-data; boundary=a; boundary=b", "invalid_request"),
        ("multipart/form-data; boundary=a; charset=utf-16", "invalid_request"),
    ],
)
def test_refused_boundaries(content_type: str, code: str) -> None:
    refused = subject.boundary_of(content_type)
    assert isinstance(refused, Refuse)
    assert refused.code == code


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (MODEL + FILE + END, {"model": "whisper"}),
        (FILE + MODEL + END.rstrip(), {"model": "whisper"}),
        (field("a[]", "1") + MODEL + field("a[]", "2") + END, {"model": "whisper", "a[]": ["1", "2"]}),
        (field("prompt", "") + END, {"prompt": ""}),
        (field("prompt", "größe\r\n") + END, {"prompt": "größe\r\n"}),
        (
            part('content-disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=utf-8', b"m") + END,
            {"model": "m"},
        ),
        (part('Content-Disposition: form-data; name="model"\r\nContent-Length: 1', b"m") + END, {"model": "m"}),
        (part('Content-Disposition: form-data; name="f"; filename="größe; name=\'x\' C:\\a.wav"', b"") + END, {}),
        (part('Content-Disposition: form-data; name="f"; filename=""', b"") + END, {}),
        # as .NET writes them
        (
            part("Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model", b"m") + END,
            {"model": "m"},
        ),
        (part("Content-Disposition: form-data; name=file; filename=a.wav; filename*=utf-8''a.wav", b"") + END, {}),
        (
            part(
                "Content-Disposition: form-data; name=file; filename=\"=?utf-8?B?w6Qud2F2?=\"; filename*=utf-8''%C3%A4.wav",
                b"model",
            )
            + END,
            {},
        ),
    ],
)
def test_forms_that_are_read(body: bytes, fields: dict[str, object]) -> None:
    assert read(body) == fields


DISPOSITION = 'Content-Disposition: form-data; name="x"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        END,
        b"\r\n" + MODEL + END,
        b"preamble\r\n" + MODEL + END,
        MODEL,
        MODEL + b"--xYz",
        MODEL + b"--xYz-",
        MODEL + b"--xYz--\r\nepilogue",
        MODEL + b"--xYz--\r\n" + MODEL + END,
        MODEL + b"--xYz \r\n" + MODEL[7:] + END,
        MODEL + b"--xYzz\r\n" + END,
        MODEL + MODEL + END,
        MODEL + FILE + MODEL + END,
        MODEL + field("Model", "other") + END,
        field("Model", "m") + END,
        field("language", "en") + field("Language", "de") + END,
        part('Content-Disposition: form-data; name="model"; filename="m"', b"m") + END,
        part('Content-Disposition: form-data; name="f"; filename="a"; name="model"', b"m") + END,
        part('Content-Disposition: form-data; name="f"; filename="a\\"; name="model"', b"m") + END,
        part("Content-Disposition: form-data; name=model; filename=m", b"m") + END,
        part('Content-Disposition: form-data; name="f"; filename="a"; filename*=utf-8\'\'b; name=model', b"m") + END,
        part('Content-Disposition: form-data; name="f"; filename="a"; filename*=utf-8\'\'b c', b"m") + END,
        part('Content-Disposition: form-data; name="f"; filename="a"; filename*=utf-16\'\'b', b"m") + END,
        part("Content-Disposition: form-data; name=f; filename*=utf-8''b", b"m") + END,
        part("Content-Disposition: form-data; name=f; filename=a b", b"m") + END,
        part("Content-Disposition: form-data; name=f; filename=", b"m") + END,
        part("Content-Disposition: form-data; name*=utf-8''model", b"m") + END,
        part("Content-Disposition: form-data; name=", b"m") + END,
        part("Content-Disposition: form-data; name=mo del", b"m") + END,
        part("Content-Disposition: form-data; name=model; name=other", b"m") + END,
        part('Content-Disposition: form-data; name=mo"del"', b"m") + END,
        part("Content-Disposition: form-data; name=Model", b"m") + END,
        part("Content-Disposition: form-data; name=model", b"m") + MODEL + END,
        part('Content-Disposition: form-data; name="mo\\del"', b"m") + END,
        part('Content-Disposition: form-data; name=""', b"m") + END,
        part('Content-Disposition: attachment; name="model"', b"m") + END,
        part('Content-Disposition: form-data; name="model\x00"', b"m") + END,
        part(b'Content-Disposition: form-data; name="\xff"', b"m") + END,
        part("Content-Type: text/plain", b"m") + END,
        part(f"{DISPOSITION}\r\n{DISPOSITION}") + END,
        part(f"{DISPOSITION}\r\n folded: yes") + END,
        part(f"{DISPOSITION}\r\nX-Other: 1") + END,
        part(f"{DISPOSITION}\r\nno colon") + END,
        # found by fuzzing: white space that ends a line to other readers
        *(part(f"{DISPOSITION}{odd}\r\nContent-Type: text/plain") + END for odd in "\r\n\x0b\x0c\x1c\x85\xa0\u2028"),
        part('Content-Disposition: \nform-data; name="model"', b"m") + END,
        part(f"{DISPOSITION}\r\nContent-Type: multipart/mixed; boundary=y") + END,
        part(f"{DISPOSITION}\r\nContent-Type: text/plain; charset=utf-16") + END,
        part(f"{DISPOSITION}\r\nContent-Transfer-Encoding: base64") + END,
        part(f"{DISPOSITION}\r\nContent-Type: {'x' * subject.MAX_HEAD}") + END,
        b"--xYz\r\n\r\nno headers\r\n" + END,
        b"--xYz\r\n" + DISPOSITION.encode() + b"\r\n\r\n" + END,
        field("_charset_", "utf-16") + END,
        field("prompt", b"\xff") + END,
        field("prompt", "a\n--xYz\nb") + END,
        field("prompt", "a\r--xYz--") + END,
        b"".join(field(f"f{number}", "") for number in range(subject.MAX_PARTS + 1)) + END,
        b"".join(field(f"f{number}", "") for number in range(10_000)) + END,
    ],
)
def test_forms_that_are_refused(body: bytes) -> None:
    refused = read(body)
    assert isinstance(refused, Refuse)
    assert refused.code == "invalid_request"


def test_as_many_parts_as_there_may_be() -> None:
    found = read(b"".join(field(f"f{number}", "") for number in range(subject.MAX_PARTS)) + END)
    assert isinstance(found, dict)
    assert len(found) == subject.MAX_PARTS


def test_a_refusal_names_the_field_only_if_it_is_known() -> None:
    known, other = read(MODEL + MODEL + END), read(field("secret", "1") + field("secret", "2") + END)
    assert isinstance(known, Refuse)
    assert known.param == "model"
    assert isinstance(other, Refuse)
    assert other.param is None
    assert "secret" not in other.message


def test_rebuild_of_a_name_without_quotes() -> None:
    body = part("Content-Disposition: form-data; name=model", b"m") + FILE + END
    form = subject.parts(body, B)
    assert not isinstance(form, Refuse)
    assert subject.rebuild(body, form, "model", "other") == field("model", "other") + FILE + END


def test_rebuild_changes_one_part() -> None:
    body = FILE + MODEL + field("language", "en") + END
    form = subject.parts(body, B)
    assert not isinstance(form, Refuse)
    assert subject.rebuild(body, form, "model", "größer/x") == FILE + field("model", "größer/x") + field("language", "en") + END
    assert subject.rebuild(body, form, "absent", "x") is body


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for body in (data, b"--xYz\r\n" + data, MODEL + data, b"--xYz\r\n" + data + b"\r\n--xYz--", field("a", data) + END):
        assert isinstance(read(body), dict | Refuse)


@given(
    st.lists(st.tuples(st.sampled_from(["prompt", "language", "x", "y"]), st.text(max_size=20)), max_size=6), st.integers(0, 6)
)
def test_a_model_twice_is_always_refused(fields: list[tuple[str, str]], place: int) -> None:
    written = [field(name, text) for name, text in fields]
    written.insert(place, MODEL)
    assert isinstance(read(MODEL + b"".join(written) + END), Refuse)


@given(st.text(max_size=80))
def test_any_content_type_has_a_boundary_or_is_refused(content_type: str) -> None:
    for text in (content_type, "multipart/form-data; boundary=" + content_type):
        assert isinstance(subject.boundary_of(text), bytes | Refuse)
