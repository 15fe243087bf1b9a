"""Boot plane (docs/ARCHITECTURE.md §3): what loaders fetch. Read-only, no login, GET and HEAD alike.

HEAD changes nothing and shows a token as long as a real one, so that both have the same Content-Length.
Nothing here redirects: no loader follows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final, get_args
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse

from api.files import file_answer, text_answer
from api.v1.deps import ServicesDep
from pxeboot.adapters.boottree import virtual_file
from pxeboot.adapters.container import Services
from pxeboot.boot.decide import BootDecision, Choice, Client, Firmware
from pxeboot.boot.rules import LOCAL_BOOTS, BootRules, RuleError
from pxeboot.boot.scripts import (
    GRUB_PLATFORMS,
    ScriptContext,
    grub_config,
    grub_local,
    ipxe_refusal,
    ipxe_script,
    menu_texts,
)
from pxeboot.errors import Invalid, NotFound
from pxeboot.i18n import translations
from pxeboot.services import boots, lookup, tokens
from tftp.files import AccessViolation, normalise

router = APIRouter(tags=["boot"])
GET_HEAD = ["GET", "HEAD"]
# A script holds a one-time token and is true for a moment only.
NO_STORE = {"Cache-Control": "no-store"}
FIRMWARES: Final[dict[str, Firmware]] = {platform: name for name, platform in GRUB_PLATFORMS.items()}
LONGEST_FORM = 4096


def peer(request: Request) -> str:
    """The address a request comes from; "" over a Unix socket."""
    return request.client.host if request.client else ""


Peer = Annotated[str, Depends(peer)]


def asked(request: Request) -> str:
    """The address of ours that a request came to; "" over a Unix socket."""
    server = request.scope.get("server")
    return str(server[0]) if server else ""


Asked = Annotated[str, Depends(asked)]


async def form(request: Request) -> dict[str, str]:
    """What iPXE's `params` posted, or the query; each value decoded once. Never logged: it holds a
    password."""
    if request.method != "POST":
        return dict(request.query_params)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise Invalid(f"A form of the boot plane has at most {LONGEST_FORM} bytes.")
    return {key: values[0] for key, values in parse_qs(body.decode("ascii", "replace")).items()}


Form = Annotated[dict[str, str], Depends(form)]
Platform = Annotated[str, Path(description="GRUB's $grub_cpu-$grub_platform: i386-pc, x86_64-efi, …")]


@router.api_route("/boot/grub/{mac}", methods=GET_HEAD)
def grub(mac: str, request: Request, these: ServicesDep, address: Peer) -> Response:
    """GRUB's configuration for one machine with 64-bit UEFI."""
    return grub_on("x86_64-efi", mac, request, these, address)


@router.api_route("/boot/grub/{platform}/{mac}", methods=GET_HEAD)
def grub_on(platform: Platform, mac: str, request: Request, these: ServicesDep, address: Peer) -> Response:
    """GRUB's configuration for one machine."""
    client = Client(_mac(mac), _firmware(platform), "grub")
    decision, token = _decide(these, client, request, address, "")
    return PlainTextResponse(grub_config(decision, _context(these, client, request, token)), headers=NO_STORE)


@router.api_route("/boot/grub/{platform}/{mac}/{how}", methods=GET_HEAD)
def handed_over(
    platform: Platform, mac: str, how: str, request: Request, these: ServicesDep, address: Peer
) -> Response:
    """What GRUB does for an iPXE that was told to start the own disk in a way iPXE does not know; or, with a
    choice as `how`, the script for who chose to register at the menu."""
    if choice := _choice(how):
        client = Client(_mac(mac), _firmware(platform), "grub", choice)
        decision, token = _decide(these, client, request, address, "")
        script = grub_config(decision, _context(these, client, request, token))
        return PlainTextResponse(script, headers=NO_STORE)
    client = Client(_mac(mac), _firmware(platform), "grub")
    if how != "firmware-setup":
        try:
            BootRules.parse({"local_boot": how})
        except RuleError as error:
            raise NotFound("way to boot", how, f"There are {', '.join(LOCAL_BOOTS)}.") from error
    if request.method == "GET":
        these.journal.record(
            "boot",
            "boot.handed-over",
            f"iPXE on {client.mac} handed over to GRUB: {how}.",
            mac=client.mac,
            data={"address": address, "firmware": client.firmware, "local": how},
        )
    return PlainTextResponse(grub_local(how, _context(these, client, request)), headers=NO_STORE)


@router.api_route("/boot/ipxe", methods=GET_HEAD)
def ipxe(
    request: Request,
    these: ServicesDep,
    address: Peer,
    mac: str,
    uuid: str = "",
    platform: Annotated[str, Query(description="iPXE's ${platform}: pcbios or efi")] = "",
    choice: Annotated[str, Query(description="what was chosen at the menu, if anything")] = "",
) -> Response:
    """The iPXE script for one machine."""
    client = replace(_ipxe_client(mac, platform), choice=_choice(choice))
    decision, token = _decide(these, client, request, address, uuid)
    return PlainTextResponse(ipxe_script(decision, _context(these, client, request, token)), headers=NO_STORE)


@router.api_route("/boot/ipxe/entry", methods=["GET", "POST"])
def ipxe_entry(request: Request, these: ServicesDep, address: Peer, given: Form) -> Response:
    """A protected entry, for its name and password.

    Both come in hexadecimal (iPXE's `hexraw`): a space would end a word of the script, `&` one of the query.
    """
    client = _ipxe_client(given.get("mac", ""), given.get("platform", ""))
    name = given.get("name", "")[:64]
    user, password = (_from_hex(given.get(key, "")) for key in ("user", "password"))
    with these.read() as session:
        found = boots.choose(
            session,
            client,
            name,
            uuid=given.get("uuid", ""),
            user=user,
            password=password,
            address=address,
            is_owner=these.leases.may_speak,
            settings=these.settings,
            now=datetime.now(UTC),
        )
    context = _context(these, client, request)
    if found.decision is not None:
        sentence, kind = found.decision.reason, "boot.chosen"
        script = ipxe_script(found.decision, context, chosen=True)
    else:
        sentence, kind = f"{client.mac} was refused the entry {name!r}: {found.refused}.", "boot.not-chosen"
        texts = context.texts
        shown = {"throttled": texts.throttled, "wrong-password": texts.wrong_password}
        script = ipxe_refusal(shown.get(found.refused, texts.refused), context)
    these.journal.record("boot", kind, sentence, mac=client.mac, data={"address": address, "entry": name})
    return PlainTextResponse(script, headers=NO_STORE)


@router.api_route("/grub/{name:path}", methods=GET_HEAD)
def grub_file(name: str, request: Request, these: ServicesDep, address: Peer, local: Asked) -> Response:
    """What a GRUB that came by UEFI HTTP Boot reads: its prefix is (http,SERVER)/grub."""
    return boot_file(f"grub/{name}", request, these, address, local)


@router.api_route("/boot/files/{name:path}", methods=GET_HEAD)
def boot_file(name: str, request: Request, these: ServicesDep, address: Peer, local: Asked) -> Response:
    """A boot file, or what `pxeboot.adapters.boottree` makes up: the same tree as by TFTP."""
    root = these.settings.boot_dir.resolve()
    try:
        name = normalise(name)
        path = (root / name).resolve()
        is_there = path.is_relative_to(root) and path.is_file()
    except (AccessViolation, ValueError, OSError) as error:
        raise Invalid(f"{name[:200]!r} cannot be read: {str(error)[:200]}.") from error
    answer: Response | None = None
    if is_there:
        answer = file_answer(path, request)
    elif text := virtual_file(name, these.base_url_at(local), these.settings.server.language):
        answer = text_answer(text, request)
    if answer is None or request.method == "GET":
        _note_file(these, address, name[:200], there=answer is not None)
    if answer is None:
        raise NotFound("boot file", name)
    return answer


def _note_file(these: Services, address: str, name: str, *, there: bool) -> None:
    if not these.file_notes.is_new(address, name, datetime.now(UTC).timestamp()):
        return
    these.journal.record(
        "http",
        "http.file" if there else "http.absent",
        f"{address} reads {name} by HTTP."
        if there
        else f"{address} asked for {name} by HTTP: there is none.",
        mac=these.leases.mac_of(address),
        data={"address": address, "name": name},
    )


def _mac(text: str) -> str:
    mac = lookup.normal_mac(text)
    if mac is None:
        raise Invalid(f"{text[:40]!r} is not a MAC address; write it like 52:54:00:12:34:56.", field="mac")
    return mac


def _from_hex(text: str) -> str:
    """What was typed; "" for what is not hexadecimal."""
    try:
        return bytes.fromhex(text).decode("utf-8", "replace")
    except ValueError:
        return ""


def _firmware(platform: str) -> Firmware:
    firmware = FIRMWARES.get(platform)
    if firmware is None:
        raise NotFound("GRUB platform", platform[:40], f"There are {', '.join(FIRMWARES)}.")
    return firmware


def _choice(text: str) -> Choice | None:
    """What was chosen at the menu; None for what is no choice of ours."""
    return next((choice for choice in get_args(Choice) if choice == text), None)


def _ipxe_client(mac: str, platform: str) -> Client:
    return Client(_mac(mac), "uefi-x64" if platform == "efi" else "bios", "ipxe")


def _decide(
    these: Services, client: Client, request: Request, address: str, uuid: str
) -> tuple[BootDecision, str]:
    """The decision with the token of this boot; a HEAD request changes nothing."""
    now = datetime.now(UTC)
    if request.method == "HEAD":
        with these.read() as session:
            decision = boots.preview(session, client, uuid=uuid, settings=these.settings, now=now)
        return decision, tokens.NO_TOKEN
    with these.write() as session:
        found = boots.begin(
            session,
            client,
            address=address,
            uuid=uuid,
            is_owner=these.leases.may_speak,
            settings=these.settings,
            now=now,
        )
        if found.task_id:
            # The sender is up before the agent is: an agent that hears nothing turns to HTTP.
            these.sessions.session_for(session, found.task_id, asked(request))
    return found.decision, found.token


def _context(these: Services, client: Client, request: Request, token: str = "") -> ScriptContext:
    language = these.settings.server.language
    return ScriptContext(
        base_url=these.base_url_at(asked(request)),
        mac=client.mac,
        token=token,
        key=these.store.public_key,
        language=language,
        kernel_arguments=these.settings.boot.kernel_arguments,
        firmware=client.firmware,
        texts=menu_texts(translations(language).gettext),
    )
