"""The answer file of a prepared Windows: one made anew, or the image's own with our answers put in.

Names of passes, components and settings are those of Microsoft's "Unattended Windows Setup Reference".
"""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from imaging.customise.order import Join, Windows
from imaging.errors import CustomiseError

MAX_BYTES = 1 << 20
_NS = "urn:schemas-microsoft-com:unattend"
_WCM = "http://schemas.microsoft.com/WMIConfig/2002/State"
_MARK = "pxeboot: drivers"


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """What is to stand in it. ``computer``: at most 15 characters (NetBIOS)."""

    computer: str
    windows: Windows
    architecture: str = "amd64"  # amd64 | x86 | arm64
    install_drivers_from: str = ""  # a Windows path, "" = nothing to install


def render(existing: bytes | None, answers: Answers) -> bytes:
    """The answer file's bytes, UTF-8 with declaration.

    Everything of ``existing`` that we do not answer ourselves stays. Raises CustomiseError when it is no
    answer file.
    """
    ElementTree.register_namespace("", _NS)
    ElementTree.register_namespace("wcm", _WCM)
    root = ElementTree.Element(_name("unattend")) if existing is None else _parsed(existing)
    windows = answers.windows
    setup = _component(root, "specialize", "Microsoft-Windows-Shell-Setup", answers.architecture)
    _set(setup, "ComputerName", answers.computer)
    _set(setup, "TimeZone", windows.time_zone)
    _set(setup, "RegisteredOwner", windows.owner)
    _set(setup, "RegisteredOrganization", windows.organization)
    if windows.locale or windows.language or windows.keyboard:
        for pass_name in ("specialize", "oobeSystem"):
            locale = _component(root, pass_name, "Microsoft-Windows-International-Core", answers.architecture)
            _set(locale, "InputLocale", windows.keyboard or windows.locale)
            _set(locale, "SystemLocale", windows.locale)
            _set(locale, "UILanguage", windows.language or windows.locale)
            _set(locale, "UserLocale", windows.locale)
    if windows.join is not None:
        _join(root, windows.join, answers.architecture)
    if answers.install_drivers_from:
        _install_drivers(root, answers.install_drivers_from, answers.architecture)
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _name(tag: str) -> str:
    return f"{{{_NS}}}{tag}"


def _parsed(data: bytes) -> ElementTree.Element:
    # A document type could define entities, and no answer file has one.
    if b"<!DOCTYPE" in data or "<!DOCTYPE".encode("utf-16-le") in data or len(data) > MAX_BYTES:
        raise CustomiseError("The image's answer file (unattend.xml) is none: remove it, or replace it.")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CustomiseError(f"The image's answer file (unattend.xml) cannot be read: {error}.") from error
    if root.tag != _name("unattend"):
        raise CustomiseError("The image's answer file has another root element than <unattend>: replace it.")
    return root


def _component(
    root: ElementTree.Element, pass_name: str, name: str, architecture: str
) -> ElementTree.Element:
    settings = next((s for s in root.findall(_name("settings")) if s.get("pass") == pass_name), None)
    if settings is None:
        settings = ElementTree.SubElement(root, _name("settings"), {"pass": pass_name})
    for component in settings.findall(_name("component")):
        if component.get("name") == name and component.get("processorArchitecture") == architecture:
            return component
    return ElementTree.SubElement(
        settings,
        _name("component"),
        {
            "name": name, "processorArchitecture": architecture, "publicKeyToken": "31bf3856ad364e35",
            "language": "neutral", "versionScope": "nonSxS",
        },
    )  # fmt: skip


def _child(parent: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = parent.find(_name(tag))
    return ElementTree.SubElement(parent, _name(tag)) if found is None else found


def _set(parent: ElementTree.Element, tag: str, text: str) -> None:
    """Set a text; an empty one leaves what is there."""
    if text:
        element = _child(parent, tag)
        element.clear()
        element.text = text


def _join(root: ElementTree.Element, join: Join, architecture: str) -> None:
    component = _component(root, "specialize", "Microsoft-Windows-UnattendedJoin", architecture)
    for old in component.findall(_name("Identification")):
        component.remove(old)
    identification = ElementTree.SubElement(component, _name("Identification"))
    if join.blob:
        provisioning = _child(identification, "Provisioning")
        _set(provisioning, "AccountData", "".join(join.blob.split()))
        return
    credentials = _child(identification, "Credentials")
    # UPN and DOMAIN\user carry their own domain; Domain beside them would contradict.
    if "@" not in join.user and "\\" not in join.user:
        _set(credentials, "Domain", join.domain)
    _set(credentials, "Username", join.user)
    _set(credentials, "Password", join.password)
    _set(identification, "JoinDomain", join.domain)
    _set(identification, "MachineObjectOU", join.ou)


def _install_drivers(root: ElementTree.Element, path: str, architecture: str) -> None:
    """Have setup install every driver below a directory before it looks for devices (pnputil)."""
    component = _component(root, "specialize", "Microsoft-Windows-Deployment", architecture)
    commands = _child(component, "RunSynchronous")
    orders = []
    for command in commands.findall(_name("RunSynchronousCommand")):
        if command.findtext(_name("Description")) == _MARK:
            commands.remove(command)
        else:
            orders.append(command.findtext(_name("Order")) or "")
    number = max((int(order) for order in orders if order.isascii() and order.isdecimal()), default=0) + 1
    command = ElementTree.SubElement(commands, _name("RunSynchronousCommand"), {f"{{{_WCM}}}action": "add"})
    _set(command, "Order", str(number))
    _set(command, "Description", _MARK)
    _set(command, "Path", f'cmd.exe /c pnputil.exe /add-driver "{path}\\*.inf" /subdirs /install & exit 0')
