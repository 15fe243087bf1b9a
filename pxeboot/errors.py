"""The catalogue of errors: each carries its sentence, a stable code, an HTTP status and an exit code.

Raise at the bottom, decide once at the top: the API turns an `AppError` into problem+json (RFC 9457), the
command line into one line and an exit code, a page into a message. Exit codes: 1 failed, 2 usage, 3 partly
failed, 4 not found, 5 conflict.
"""

from __future__ import annotations

from typing import Any, ClassVar


class AppError(Exception):
    """An expected failure, with a sentence that says what happened and what to do.

    `data` goes into the problem document beside the standard members.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "Error"

    def __init__(self, sentence: str, **data: Any) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.data = data
        self.problem_code: str = self.code


class NotFound(AppError):
    """A named thing does not exist: `code` is `<kind>-not-found`."""

    status = 404
    exit_code = 4
    title = "Not found"
    code = "not-found"

    def __init__(self, kind: str, name: object, hint: str = "") -> None:
        super().__init__(
            f"There is no {kind} {str(name)!r}." + (f" {hint}" if hint else ""), kind=kind, name=str(name)
        )
        self.kind = kind
        self.problem_code = f"{kind.replace(' ', '-')}-not-found"


class Conflict(AppError):
    """The request fights with what is there (a name is taken, a host is busy)."""

    code = "conflict"
    status = 409
    exit_code = 5
    title = "Conflict"


class Invalid(AppError):
    """The request cannot be understood or makes no sense; `data['errors']` may name the fields."""

    code = "invalid"
    status = 422
    exit_code = 2
    title = "Invalid request"


class Unauthorized(AppError):
    """No credential, or one that is unknown, used, expired or someone else's; `code` says which."""

    code = "unauthorized"
    status = 401
    title = "Not signed in"

    def __init__(self, sentence: str, code: str = "unauthorized", **data: Any) -> None:
        super().__init__(sentence, **data)
        self.problem_code = code


class Forbidden(AppError):
    """Known, but not allowed."""

    code = "forbidden"
    status = 403
    title = "Not allowed"


class Throttled(AppError):
    """Too many attempts; `retry_after` seconds until the next one is looked at."""

    code = "too-many-attempts"
    status = 429
    title = "Too many attempts"

    def __init__(self, sentence: str, retry_after: int, **data: Any) -> None:
        super().__init__(sentence, **data)
        self.retry_after = retry_after


class StoreRefused(AppError):
    """The chunk store cannot take or give something; `code` comes from the imaging error."""

    status = 507
    title = "Image store"
    code = "store"

    def __init__(self, sentence: str, code: str = "store", status: int = 507, **data: Any) -> None:
        super().__init__(sentence, **data)
        self.problem_code = code
        self.problem_status = status


class ConfigError(AppError):
    """The configuration is wrong: names file, key, value and remedy."""

    code = "config"
    exit_code = 2
    title = "Configuration"


def problem_code(error: AppError) -> str:
    """The stable `code` of a problem document for this error."""
    return error.problem_code
