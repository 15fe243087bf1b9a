"""One shape for every error over HTTP: `application/problem+json` (RFC 9457) with a stable `code`."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pxeboot.errors import AppError, Throttled, problem_code

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


def problem(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: list[Any] | None = None,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """A problem document. `errors` lists what is wrong with each field or host."""
    body = {
        **{key: value for key, value in more.items() if key not in ("status", "code", "title", "detail")},
        "type": f"urn:pxeboot:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "errors": errors or [],
    }
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def from_app_error(request: Request, error: AppError) -> JSONResponse:
    """The document of an expected failure."""
    status = int(getattr(error, "problem_status", error.status))
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Throttled):
        headers["Retry-After"] = str(error.retry_after)
    data = dict(error.data)
    errors = data.pop("errors", None)
    if errors is None and "field" in data:
        errors = [{"field": data.pop("field"), "msg": error.sentence}]
    return problem(
        request,
        status,
        problem_code(error),
        error.title,
        error.sentence,
        errors=errors,
        headers=headers,
        **data,
    )


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem document."""

    async def expected(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, AppError)
        return from_app_error(request, error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        # Only where and what: the input itself may hold a password or a token.
        errors = [
            {"field": ".".join(str(part) for part in item["loc"]), "msg": item["msg"], "type": item["type"]}
            for item in error.errors()
        ]
        first = errors[0] if errors else {"field": "body", "msg": "cannot be read"}
        return problem(
            request, 422, "invalid", "Invalid request", f"{first['field']}: {first['msg']}.", errors=errors
        )

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        code = {404: "not-found", 405: "method-not-allowed"}.get(
            error.status_code, phrase.lower().replace(" ", "-")
        )
        detail = {
            404: f"There is nothing at {request.url.path}.",
            405: f"{request.method} is not possible at {request.url.path}.",
        }.get(error.status_code, str(error.detail))
        return problem(
            request,
            error.status_code,
            code,
            phrase,
            detail,
            headers=dict(error.headers) if error.headers else None,
        )

    async def gone(request: Request, error: Exception) -> JSONResponse:
        # A machine was switched off in mid-upload: no mistake of ours, and nobody is left to read an answer.
        who = request.client.host if request.client else "a client"
        log.info("%s %s: %s went away before all was sent", request.method, request.url.path, who)
        return problem(
            request, 400, "cut-short", "Cut short", "The connection ended before all was sent; send it again."
        )

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(
            request, 500, "internal", "Internal error", "The server made a mistake; its log has the details."
        )

    app.add_exception_handler(AppError, expected)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, unexpected)
