"""From what an S3 server answered, as obstore or boto3 reports it, to one of our errors.

obstore folds most answers into a few classes and keeps the status and the XML body in the message; the code
in that body is what tells a wrong key from a missing permission, and an absent bucket from an absent object.
"""

from __future__ import annotations

import re

from botocore.exceptions import BotoCoreError, ClientError
from obstore import exceptions as obx

from blockvault.stores.errors import (
    AccessDenied,
    AlreadyExists,
    BucketNotFound,
    ClockSkew,
    InvalidCredentials,
    ObjectNotFound,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreThrottled,
    StoreUnreachable,
    TooManyOpenFiles,
)

# What obstore and boto3 raise for answers and for connections that fail.
RAISED = (obx.BaseError, OSError, ValueError, ClientError, BotoCoreError)

_CODE = re.compile(r"<Code>(\w+)</Code>")
_TEXT = re.compile(r"<Message>([^<]{1,300})</Message>")
# From obstore's messages and dumps of requests that were not answered: where to, how long it took, and why.
_PLACE = re.compile(r"Error performing \w+ (\w+://[^/\s]+)")
_TOOK = re.compile(r"elapsed: (\d+(?:\.\d)?)\d*s")
_CAUSE = re.compile(r'(?:message|error): "([^"]{1,200})"')
_STATUS = re.compile(r"status code: (\d{3})")

_BY_CODE: dict[str, type[StoreError]] = {
    "NoSuchBucket": BucketNotFound,
    "NoSuchKey": ObjectNotFound,
    "InvalidAccessKeyId": InvalidCredentials,
    "SignatureDoesNotMatch": InvalidCredentials,
    "InvalidToken": InvalidCredentials,
    "ExpiredToken": InvalidCredentials,
    "TokenRefreshRequired": InvalidCredentials,
    "AuthorizationHeaderMalformed": StoreRefused,
    "RequestTimeTooSkewed": ClockSkew,
    "AccessDenied": AccessDenied,
    "AccountProblem": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "SlowDown": StoreThrottled,
    "ServiceUnavailable": StoreThrottled,
    "Throttling": StoreThrottled,
    "RequestTimeout": StoreUnreachable,
    "InternalError": StoreUnreachable,
    # Our body did not arrive as it was signed.
    "BadDigest": StoreUnreachable,
    "IncompleteBody": StoreUnreachable,
    "XAmzContentSHA256Mismatch": StoreUnreachable,
    "InvalidObjectState": StoreRefused,
    "NotImplemented": StoreRefused,
    "InvalidRequest": StoreRefused,
    "QuotaExceeded": StoreFull,
    "XMinioStorageFull": StoreFull,
    "PreconditionFailed": AlreadyExists,
    "ConditionalRequestConflict": AlreadyExists,
    "OperationAborted": StoreUnreachable,
}

# Where credentials are asked for when none are given.
_IDENTITY_SERVICES = ("//169.254.", "/latest/api/token", "/latest/meta-data")

_REMEDIES = {
    "InvalidRequest": "Read the store's answer. If object lock is configured here, the bucket must have been made with "
    "object lock enabled: use such a bucket, or no object lock.",
    "AuthorizationHeaderMalformed": "Correct the region: the bucket is in another one.",
    "ExpiredToken": "Renew the session token.",
    "InvalidObjectState": "Bring the object back from the archive first; give Blockvault a storage class "
    "that is read at once, and no rule that archives its objects.",
}


def translate(error: Exception, what: str) -> StoreError:
    """The StoreError for one of `RAISED`; `what` names the object in the message."""
    text = str(error)
    if isinstance(error, ClientError):
        answer = error.response
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code, said = answer["Error"].get("Code", ""), answer["Error"].get("Message") or ""
        code = "" if code == str(status) else code  # HEAD has no body
    else:
        code, said = _first(_CODE, text), _first(_TEXT, text)
        status = int(_first(_STATUS, text) or 0)
    said = _line(said)
    words = f"{what}: {' '.join(part for part in (str(status or ''), code, said) if part) or _short(text)}"
    if any(place in text for place in _IDENTITY_SERVICES):
        return InvalidCredentials(
            f"{what}: no credentials: none were given, and this machine's identity service gave none"
        )
    if "invalid list response" in text:  # without the body, which is anybody's
        return StoreUnreachable(f"{what}: the answer is no listing as S3 writes it")
    if code in _BY_CODE:
        return _BY_CODE[code](words, remedy=_REMEDIES.get(code))
    kind = _by_status(status, error)
    if kind is not None:
        return kind(words)
    if "Received redirect" in text:
        return StoreRefused(
            f"{what}: the store answers with a redirect",
            remedy="Correct the region and the endpoint: the bucket lives in another region.",
        )
    if "os error 24" in text:
        return TooManyOpenFiles(f"{what}: too many open files")
    if isinstance(error, FileNotFoundError):
        return ObjectNotFound(words)
    if "ertificate" in text:
        return StoreRefused(
            f"{what}: the server's certificate is not trusted",
            remedy="Give the CA that signed it (caBundleSecretRef, AWS_CA_BUNDLE), or correct the endpoint.",
        )
    if "credential" in text.lower() and status == 0:
        return InvalidCredentials(f"{what}: no credentials: {_short(text)}")
    return StoreUnreachable(words)


def past_the_end(error: Exception) -> bool:
    """Whether this says that a range begins where the object has ended."""
    text = str(error)
    return _first(_STATUS, text) == "416" or _first(_CODE, text) == "InvalidRange"


def _by_status(status: int, error: Exception) -> type[StoreError] | None:
    if isinstance(error, obx.AlreadyExistsError | obx.PreconditionError) or status in (409, 412):
        return AlreadyExists
    if status == 404:
        return ObjectNotFound
    if status == 401:
        return InvalidCredentials
    if status == 403:
        return AccessDenied
    if status in (429, 503):
        return StoreThrottled
    if status == 501:
        return StoreRefused
    if status == 507:
        return StoreFull
    if status == 408 or status >= 500:
        return StoreUnreachable
    return StoreRefused if status else None


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group(1) if match else ""


def _line(text: str) -> str:
    """What a server says, as one line: it stands in logs and in what terminals show."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _short(text: str) -> str:
    """What obstore says without its debug dump; of a connection that failed, what failed and why."""
    head, _, dump = text.partition("Debug source:")
    words = _line(head)[:300]
    if " - HTTP error" not in words:
        return words
    place, took = _first(_PLACE, text), _first(_TOOK, text)
    if "kind: Timeout" in dump:
        return f"{place}: no {'connection' if ' Connect,' in dump else 'answer'} within {took} s"
    return f"{place}: {_first(_CAUSE, dump) or words}"
