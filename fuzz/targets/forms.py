"""Multipart forms: what was read, against the reader of the standard library's mail package, and after a rename.

The boundary is fixed, in the Content-Type; all else is the input. Where the gate takes a form, another reader must find the same
fields in it; it knows nothing of what a field is for.
"""

from __future__ import annotations

from collections.abc import Iterable
from email import policy
from email.message import Message
from email.parser import BytesParser

from fuzz.target import Target
from slmgate.dialects import TABLE, multipart
from slmgate.errors import FAULTS
from slmgate.terms import Refuse

BOUNDARY = "b0und"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
ROUTE = TABLE["POST", "/v1/audio/transcriptions"]


def slowly(body: bytes) -> list[tuple[str, bool, bytes]]:
    """Name, whether it is a file, and content of each part, as a mail reader finds them."""
    whole = BytesParser(policy=policy.HTTP).parsebytes(b"Content-Type: " + TYPE.encode() + b"\r\n\r\n" + body)
    found = []
    for part in whole.get_payload():
        assert isinstance(part, Message), "it is no form to another reader"
        content = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        filed = part.get_param("filename", header="content-disposition") is not None
        found.append((str(name), filed, content if isinstance(content, bytes) else b""))
    return found


def check(data: bytes) -> None:
    ask = ROUTE.dialect.read(ROUTE.endpoint, data, TYPE)
    if isinstance(ask, Refuse):
        assert 400 <= FAULTS[ask.code].status < 500, ask
        assert ask.message.isprintable(), ask
        return
    form = multipart.parts(data, BOUNDARY.encode())
    assert not isinstance(form, Refuse)
    assert [name for name in (part.name for part in form) if name == "model"] == ["model"], "not one model"
    opening = b"--" + BOUNDARY.encode()
    assert data.count(opening) == len(form) + 1, "a boundary within a part"
    # The other reader takes every line end for one and drops blanks at the ends of heads: contents are compared without.
    seen = [(part.name, part.file, data[part.value : part.end].split()) for part in form]
    if all(byte < 128 and (byte >= 32 or byte in b"\t\r\n") for byte in data):
        other = [(name, filed, content.split()) for name, filed, content in slowly(data)]
        assert other == seen, f"another reader finds {other}"
    renamed = ROUTE.dialect.patch(ROUTE.endpoint, ask, data, "up")
    again = ROUTE.dialect.read(ROUTE.endpoint, renamed, TYPE)
    assert not isinstance(again, Refuse), "what is sent on would be refused"
    assert again.model == "up"
    assert {**again.fields, "model": ask.model} == ask.fields, "a field was changed on its way"


def part(head: str, content: bytes) -> bytes:
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"


def seeds() -> Iterable[bytes]:
    named = 'Content-Disposition: form-data; name="%s"'
    model, end = part(named % "model", b"m"), f"--{BOUNDARY}--\r\n".encode()
    file = part(named % "file" + '; filename="a.wav"\r\nContent-Type: audio/wav', b"RIFF\r\n")
    yield from (model + end, file + model + end, model + part(named % "stream", b"true") + file + end)
    yield model + part(named % "timestamp_granularities[]", b"word") + part(named % "timestamp_granularities[]", b"x") + end
    yield from (model + model + end, model, model + end + b"x", b"x" + model + end, model.replace(b"\r\n", b"\n") + end)
    yield part(named % "model" + "\r\nContent-Type: text/plain; charset=utf-8", b"m") + end
    yield part(named % "model" + "\r\nContent-Transfer-Encoding: base64", b"bQ==") + end
    yield part('Content-Disposition: form-data; name="file"; filename="a\\"; name=\\"model"', b"x") + model + end
    yield part("Content-Disposition: form-data; name*=utf-8''model", b"x") + model + end
    bare = part("Content-Disposition: form-data; name=model", b"m")  # as .NET writes it
    yield part("Content-Disposition: form-data; name=file; filename=a.wav; filename*=utf-8''a.wav", b"x") + bare + end
    yield (
        bare
        + part("Content-Disposition: form-data; name=file; filename=\"=?utf-8?B?w6Q=?=\"; filename*=utf-8''%C3%A4", b"x")
        + end
    )


TARGET = Target(check, seeds, 2048)
