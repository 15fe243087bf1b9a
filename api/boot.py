"""Boot plane (docs/ARCHITECTURE.md §3): what loaders fetch. Read-only, no login, GET and HEAD alike.

HEAD changes nothing and shows a token as long as a real one, so that both have the same Content-Length.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse

from api.v1.deps import ServicesDep
from pxeboot.adapters.boot import stub
from pxeboot.adapters.container import Services
from pxeboot.boot.decide import BootDecision, Client
from pxeboot.boot.scripts import ScriptContext, grub_config, ipxe_script, menu_texts
from pxeboot.errors import Invalid, NotFound
from pxeboot.i18n import translations
from pxeboot.services import boots, lookup, tokens
from tftp.files import AccessViolation, normalise

router = APIRouter(tags=["boot"])
GET_HEAD = ["GET", "HEAD"]
# A script holds a one-time token and is true for a moment only.
NO_STORE = {"Cache-Control": "no-store"}


def peer(request: Request) -> str:
    """The address a request comes from; "" over a Unix socket."""
    return request.client.host if request.client else ""


Peer = Annotated[str, Depends(peer)]


def asked(request: Request) -> str:
    """The address of ours that a request came to; "" over a Unix socket."""
    server = request.scope.get("server")
    return str(server[0]) if server else ""


Asked = Annotated[str, Depends(asked)]


class BigFile(FileResponse):
    """A file in pieces of 1 MiB: each costs a hop to a thread, and an initramfs has a hundred of them."""

    chunk_size = 1 << 20


@router.api_route("/boot/grub/{mac}", methods=GET_HEAD)
def grub(mac: str, request: Request, these: ServicesDep, address: Peer) -> Response:
    """GRUB's configuration for one machine."""
    # GRUB is only ever loaded by UEFI here: BIOS machines get iPXE.
    client = Client(_mac(mac), "uefi-x64", "grub")
    decision, context = _decide(these, client, request, address, "")
    return PlainTextResponse(grub_config(decision, context), headers=NO_STORE)


@router.api_route("/boot/ipxe", methods=GET_HEAD)
def ipxe(
    request: Request,
    these: ServicesDep,
    address: Peer,
    mac: str,
    uuid: str = "",
    platform: Annotated[str, Query(description="iPXE's ${platform}: pcbios or efi")] = "",
) -> Response:
    """The iPXE script for one machine."""
    client = Client(_mac(mac), "uefi-x64" if platform == "efi" else "bios", "ipxe")
    decision, context = _decide(these, client, request, address, uuid)
    return PlainTextResponse(ipxe_script(decision, context), headers=NO_STORE)


@router.api_route("/grub/grub.cfg", methods=GET_HEAD)
@router.api_route("/boot/files/grub/grub.cfg", methods=GET_HEAD)
def stub_config(these: ServicesDep, local: Asked) -> Response:
    """What a GRUB that came by UEFI HTTP Boot reads first (its prefix is (http,SERVER)/grub)."""
    return PlainTextResponse(stub(these.settings, these.base_url_at(local)), headers=NO_STORE)


@router.api_route("/boot/files/{name:path}", methods=GET_HEAD)
def boot_file(name: str, these: ServicesDep) -> Response:
    """A boot file: Range, strong ETag."""
    root = these.settings.boot_dir.resolve()
    try:
        path = (root / normalise(name)).resolve()
    except (AccessViolation, ValueError) as error:
        raise Invalid(f"{name!r} cannot be read: {error}.") from error
    if not path.is_relative_to(root) or not path.is_file():
        raise NotFound("boot file", name)
    # A file that is replaced by another of the same size in the same second must not look the same.
    status = path.stat()
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
    return BigFile(path, media_type="application/octet-stream", headers={"ETag": etag}, stat_result=status)


def _mac(text: str) -> str:
    mac = lookup.normal_mac(text)
    if mac is None:
        raise Invalid(f"{text[:40]!r} is not a MAC address; write it like 52:54:00:12:34:56.", field="mac")
    return mac


def _decide(
    these: Services, client: Client, request: Request, address: str, uuid: str
) -> tuple[BootDecision, ScriptContext]:
    now = datetime.now(UTC)
    settings = these.settings
    token = tokens.NO_TOKEN
    if request.method == "HEAD":
        with these.read() as session:
            decision = boots.preview(session, client, uuid=uuid, settings=settings, now=now)
    else:
        with these.write() as session:
            found = boots.begin(
                session,
                client,
                address=address,
                uuid=uuid,
                is_owner=these.leases.may_speak,
                settings=settings,
                now=now,
            )
            if found.task_id:
                # The sender is up before the agent is: an agent that hears nothing turns to HTTP.
                these.sessions.session_for(session, found.task_id)
        decision, token = found.decision, found.token
    language = settings.server.language
    return decision, ScriptContext(
        base_url=these.base_url_at(asked(request)),
        mac=client.mac,
        token=token,
        key=these.store.public_key,
        language=language,
        kernel_arguments=settings.boot.kernel_arguments,
        texts=menu_texts(translations(language).gettext),
    )
