"""Which first file each kind of machine gets."""

import uuid

import pytest

from dhcp.bootfile import BootFile
from dhcp.pxe import ARCHITECTURES, Architecture, PxeClient
from pxeboot.boot.chain import NoBootFile, boot_client, boot_file, uuid_readings, uuid_text
from pxeboot.boot.decide import Client

URL = "http://10.20.0.1:8080"
FILES = {"undionly.kpxe", "shimx64.efi", "grubx64.efi"}
SMBIOS = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


def client(code, **more):
    row = ARCHITECTURES[code]
    return PxeClient(mac="52:54:00:00:00:01", architecture=row, http=row.http, **more)


@pytest.mark.parametrize(
    ("who", "file", "uri"),
    [
        (client(0), "undionly.kpxe", None),
        (client(7), "shimx64.efi", None),
        (client(9), "shimx64.efi", None),
        (client(16), f"{URL}/boot/files/shimx64.efi", f"{URL}/boot/files/shimx64.efi"),
        (client(0, ipxe=True), f"{URL}/boot/ipxe?mac=52:54:00:00:00:01&uuid=&platform=pcbios", None),
        (
            client(7, ipxe=True, ipxe_features=frozenset({"http", "efi"}), uuid=SMBIOS.bytes),
            f"{URL}/boot/ipxe?mac=52:54:00:00:00:01&uuid={SMBIOS}&platform=efi",
            None,
        ),
        # A network card's old iPXE without HTTP loads ours.
        (client(0, ipxe=True, ipxe_features=frozenset({"tftp"})), "undionly.kpxe", None),
        (client(7, ipxe=True, ipxe_features=frozenset({"tftp"})), "shimx64.efi", None),
    ],
)
def test_first_file(who, file, uri):
    answer = boot_file(who, URL, FILES)
    assert isinstance(answer, BootFile)
    assert (answer.next_server, answer.file, answer.uri) == ("", file, uri)
    assert answer.reason.endswith(".")


@pytest.mark.parametrize("code", [6, 10, 11, 15, 18, 19, 20, 41])
def test_no_file_without_a_reason(code):
    answer = boot_file(client(code), URL, FILES)
    assert isinstance(answer, NoBootFile)
    assert answer.reason.endswith(".")


def test_a_loader_that_was_added_is_used():
    assert boot_file(client(11), URL, {"shimaa64.efi"}).file == "shimaa64.efi"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (11, "bootaa64.efi"),
        (19, "grubaa64.efi"),
        (10, "bootarm.efi"),
        (18, "grubarm.efi"),
        (27, "bootriscv64.efi"),
        (39, "bootloongarch64.efi"),
        (6, "bootia32.efi"),
        (15, "shimia32.efi"),
    ],
)
def test_other_processors_are_served_when_their_loader_is_there(code, name):
    answer = boot_file(client(code), URL, FILES | {name})
    assert answer.file.endswith(name)
    missing = boot_file(client(code), URL, FILES)
    assert name in missing.reason
    assert "boot folder" in missing.reason


def test_both_readings_of_a_uuid():
    swapped = str(uuid.UUID(bytes=SMBIOS.bytes_le))
    assert uuid_readings(client(7, uuid=SMBIOS.bytes_le)) == (str(SMBIOS), swapped)
    assert uuid_readings(client(7, uuid=SMBIOS.bytes, ipxe=True)) == (str(SMBIOS), swapped)
    assert uuid_readings(client(7, uuid=bytes(16))) == (str(uuid.UUID(int=0)),)
    assert uuid_readings(client(7)) == ()


def test_an_ipxe_on_arm_gets_no_script_for_pcs():
    assert isinstance(boot_file(client(11, ipxe=True), URL, FILES), NoBootFile)


def test_an_architecture_nobody_knows():
    who = PxeClient(mac="m", architecture=Architecture(99, "architecture-99"))
    assert isinstance(boot_file(who, URL, FILES), NoBootFile)
    assert boot_client(who) == Client("m", "unknown", "firmware")


def test_uuid_is_what_dmidecode_prints():
    assert uuid_text(client(7, uuid=SMBIOS.bytes_le)) == str(SMBIOS)
    assert uuid_text(client(7, uuid=SMBIOS.bytes, ipxe=True)) == str(SMBIOS)
    assert uuid_text(client(7)) == ""
