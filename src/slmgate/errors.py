"""The table of faults: one row for everything that can go wrong for a client, with the words to say it.

Other rooms refer to a row by its code. The table knows no dialect: how a fault looks on the wire is a
dialect's affair, and the message of a single case is written where the case is decided.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Source = Literal["client", "policy", "gate", "upstream"]


class Fault(msgspec.Struct, frozen=True):
    """One row: `code` as clients see it, HTTP `status`, whose fault it is, whether asking again can help.

    `retry` says whether the same request, sent again later and unchanged, can succeed and is safe to send;
    the default is no. `kind` is the OpenAI error `type`; `sentence` explains the fault to a user in general.
    """

    code: str
    status: int
    source: Source
    kind: str
    sentence: str
    retry: bool = False


_ROWS = (
    Fault("invalid_request", 400, "client", "invalid_request_error", "The request could not be read."),
    Fault("parameter_not_allowed", 400, "policy", "invalid_request_error", "A parameter's value is not allowed for this key."),
    Fault(
        "context_length_exceeded",
        400,
        "client",
        "invalid_request_error",
        "The prompt, with what may be written, is longer than the model can hold.",
    ),
    Fault("invalid_api_key", 401, "client", "authentication_error", "No valid credential was given."),
    Fault("permission_denied", 403, "policy", "permission_error", "This credential may not do that."),
    # A status that no client library tries again by itself: what was cancelled is not to come back a second later.
    Fault(
        "cancelled", 403, "policy", "permission_error", "An operator of the gate has ended the request while it was under way."
    ),
    Fault("not_found", 404, "client", "invalid_request_error", "There is nothing at this path."),
    Fault(
        "model_not_found",
        404,
        "policy",
        "invalid_request_error",
        "The model does not exist, or this credential may not know of it.",
    ),
    Fault("method_not_allowed", 405, "client", "invalid_request_error", "The path exists, but not for this method."),
    Fault("request_timeout", 408, "client", "invalid_request_error", "The request did not arrive in time."),
    Fault("request_too_large", 413, "client", "invalid_request_error", "The request is larger than the gate accepts."),
    Fault("uri_too_long", 414, "client", "invalid_request_error", "The request target is longer than the gate accepts."),
    Fault("unsupported_media_type", 415, "client", "invalid_request_error", "The body's type or coding is not accepted here."),
    Fault(
        "expectation_failed", 417, "client", "invalid_request_error", "The only expectation that is understood is 100-continue."
    ),
    Fault("misdirected_request", 421, "client", "invalid_request_error", "The connection is for another host than the request."),
    Fault("idempotency_conflict", 422, "client", "invalid_request_error", "This idempotency key was used with another body."),
    Fault("rate_limit_exceeded", 429, "policy", "rate_limit_error", "A rate limit is used up.", retry=True),
    Fault("quota_exceeded", 429, "policy", "insufficient_quota", "A quota is used up.", retry=True),
    Fault("headers_too_large", 431, "client", "invalid_request_error", "The header section is larger than the gate accepts."),
    Fault("internal_error", 500, "gate", "api_error", "The gate failed; the operator's log tells more under the request id."),
    Fault("upstream_error", 502, "upstream", "api_error", "The model's instance failed.", retry=True),
    Fault("overloaded", 503, "gate", "overloaded_error", "There is no room for this request now.", retry=True),
    Fault(
        "accounting_unavailable",
        503,
        "gate",
        "overloaded_error",
        "The gate cannot record work now, so it takes none.",
        retry=True,
    ),
    Fault(
        "identity_unavailable",
        503,
        "gate",
        "overloaded_error",
        "Who is calling cannot be found out now, since an identity provider does not answer.",
        retry=True,
    ),
    Fault("upstream_timeout", 504, "upstream", "api_error", "The model's instance did not answer in time.", retry=True),
    Fault("version_not_supported", 505, "client", "invalid_request_error", "Only HTTP/1.1 and HTTP/1.0 are spoken here."),
)

FAULTS: dict[str, Fault] = {row.code: row for row in _ROWS}
