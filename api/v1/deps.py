"""What every admin endpoint asks for: the services, and who is calling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from pxeboot.adapters.container import Services
from pxeboot.errors import Unauthorized
from pxeboot.services.auth import Principal, Role

bearer = HTTPBearer(auto_error=False, description="API token `pxb_<prefix>_<secret>`")


async def services(request: Request) -> Services:
    """The services this application was made with."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def principal(
    these: ServicesDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Principal:
    """Who is calling, by bearer token. Unauthorized without a good one."""
    if given is None:
        raise Unauthorized(
            "This address wants an API token: send `Authorization: Bearer TOKEN`.", "token-missing"
        )
    return these.principal(given.credentials)


def at_least(role: Role) -> Callable[[Principal], Principal]:
    """A dependency that lets only this role or a higher one pass. Forbidden for the others."""

    def check(who: Annotated[Principal, Depends(principal)]) -> Principal:
        who.require(role)
        return who

    return check


Viewer = Annotated[Principal, Depends(at_least("viewer"))]
Technician = Annotated[Principal, Depends(at_least("technician"))]
Admin = Annotated[Principal, Depends(at_least("admin"))]

Limit = Annotated[int, Query(ge=1, le=500, description="Items per page.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="The same key and body run once; the answer is sent again."),
]
