"""A DNS server of our own on loopback: it says of each name what the test says, counts the questions, and can fall silent.

It speaks UDP only, in a thread of this process. It knows no gate.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class Names:
    """`names` maps each name to its addresses (both families); one that is not there does not exist. Use it in a `with`."""

    def __init__(self, ttl: int = 1) -> None:
        self.ttl = ttl
        self.names: dict[str, list[str]] = {}
        self.silent = False
        self.rcode: dns.rcode.Rcode | None = None  # in place of any answer
        self.asked: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Names:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._ending.is_set():
            try:
                data, client = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            answer = self.answer(dns.message.from_wire(data))
            if not self.silent:
                self._socket.sendto(answer.to_wire(), client)

    def answer(self, question: dns.message.Message) -> dns.message.Message:
        """What it says to one question."""
        (one,) = question.question
        name = one.name.to_text(omit_final_dot=True)
        self.asked[name] += 1
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        if self.rcode is not None:
            answer.set_rcode(self.rcode)
        elif name not in self.names:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            kind = dns.rdatatype.to_text(one.rdtype)
            fitting = [each for each in self.names[name] if (":" in each) == (kind == "AAAA") and kind in ("A", "AAAA")]
            if fitting:
                answer.answer.append(dns.rrset.from_text_list(one.name, self.ttl, "IN", kind, fitting))
        return answer
