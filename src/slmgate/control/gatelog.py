"""The control process's part of the operator's log: what loggers say, in lines that cannot be forged; and the same for receipts.

How a line is made safe is `link/lines.py`'s; here it is given to Python's loggers, ours and those of libraries, and what JSON
leaves unescaped in the access log is escaped. It knows no event.
"""

from __future__ import annotations

import logging
import re
import sys

from slmgate.link.lines import HEAD, below, one_line

CHATTY = ("alembic", "uvicorn", "httpx")
"""Libraries of which only warnings are told."""

# In UTF-8: DEL, the C1 controls, and what turns, hides or ends a line (Unicode's Bidi_Control, zero width, Zl and Zp).
_UNSAFE = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf")


class OneLine(logging.Formatter):
    """One event, one line; a traceback below it in lines of their own kind."""

    def format(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return "\n".join([HEAD + one_line(record.getMessage()), *below(trace)])


def configure() -> None:
    """Have all loggers of this process write so, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def visible(lines: bytes) -> bytes:
    """Lines of JSON with all escaped that a terminal would obey or a reader take for a line's end; nearly always as they are."""
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    return _UNSAFE.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), lines)
