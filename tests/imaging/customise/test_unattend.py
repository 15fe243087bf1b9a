"""Windows' answer file: made anew, and put into one that the image has."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.customise.order import Join, Windows
from imaging.customise.unattend import Answers, render
from imaging.customise.windows import computer_name
from imaging.errors import CustomiseError

U = "{urn:schemas-microsoft-com:unattend}"

OWN = b"""<?xml version="1.0" encoding="utf-8"?>
<unattend xmlns="urn:schemas-microsoft-com:unattend">
  <settings pass="specialize" wasPassProcessed="true">
    <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="amd64"
        publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS"
        xmlns:wcm="http://schemas.microsoft.com/WMIConfig/2002/State">
      <ComputerName>*</ComputerName><CopyProfile>true</CopyProfile>
    </component>
  </settings>
  <settings pass="oobeSystem">
    <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="amd64">
      <OOBE><HideEULAPage>true</HideEULAPage></OOBE>
    </component>
  </settings>
</unattend>
"""


def text(data: bytes, pass_name: str, component: str, path: str) -> str | None:
    root = ElementTree.fromstring(data)
    inside = "/".join(U + tag for tag in path.split("/"))
    return root.findtext(
        f"{U}settings[@pass='{pass_name}']/{U}component[@name='Microsoft-Windows-{component}']/{inside}"
    )


def test_the_images_own_answers_stay() -> None:
    data = render(OWN, Answers("PC07", Windows()))
    assert text(data, "specialize", "Shell-Setup", "ComputerName") == "PC07"
    assert text(data, "specialize", "Shell-Setup", "CopyProfile") == "true"
    assert text(data, "oobeSystem", "Shell-Setup", "OOBE/HideEULAPage") == "true"
    assert text(data, "specialize", "Shell-Setup", "TimeZone") is None
    assert data.count(b"<component ") == 2
    assert render(data, Answers("PC07", Windows())) == data


def test_a_join_by_account_and_by_provisioning_data() -> None:
    join = Join("lycee.local", "OU=B204,DC=lycee,DC=local", "joiner", "p<&w")
    data = render(None, Answers("PC07", Windows(join=join)))
    at = "Identification/Credentials"
    assert text(data, "specialize", "UnattendedJoin", f"{at}/Domain") == "lycee.local"
    assert text(data, "specialize", "UnattendedJoin", f"{at}/Password") == "p<&w"
    assert text(data, "specialize", "UnattendedJoin", "Identification/MachineObjectOU") == join.ou
    data = render(data, Answers("PC07", Windows(join=Join(blob="QUJD\nREVG"))))
    assert text(data, "specialize", "UnattendedJoin", "Identification/Provisioning/AccountData") == "QUJDREVG"
    assert b"p&lt;" not in data  # the account of before is gone
    whole = render(None, Answers("PC07", Windows(join=Join("x.local", "", "joiner@x.local", "p"))))
    assert text(whole, "specialize", "UnattendedJoin", f"{at}/Domain") is None


def test_drivers_are_installed_once_however_often_it_is_deployed() -> None:
    once = render(None, Answers("PC07", Windows(), install_drivers_from="C:\\Drivers"))
    assert b'/add-driver "C:\\Drivers\\*.inf" /subdirs /install' in once
    assert render(once, Answers("PC07", Windows(), install_drivers_from="C:\\Drivers")) == once
    assert text(once, "specialize", "Deployment", "RunSynchronous/RunSynchronousCommand/Order") == "1"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no xml", b"<unattend/>", b"<a", OWN[:-20],
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]>' + OWN.split(b"\n", 1)[1],
        b'<?xml version="1.0" encoding="klingon"?><a/>', b"\xff\xfe\x00",
    ],
)  # fmt: skip
def test_what_is_no_answer_file_is_refused(data: bytes) -> None:
    with pytest.raises(CustomiseError, match="answer file"):
        render(data, Answers("PC07", Windows()))


SPOILT = st.builds(lambda n, b: OWN[:n] + b + OWN[n:], st.integers(0, 700), st.binary(max_size=8))


@given(st.binary(max_size=200) | SPOILT)
def test_any_bytes_are_an_answer_file_or_refused(data: bytes) -> None:
    try:
        made = render(data, Answers("PC07", Windows()))
    except CustomiseError:
        return
    assert b"<ComputerName>PC07</ComputerName>" in made
    assert render(made, Answers("PC07", Windows())) == made


@pytest.mark.parametrize(
    ("host", "name"),
    [("b204-07", "B204-07"), ("Salle-204-poste-07", "SALLE-204-POSTE"),
     ("fourteen-long-x", "FOURTEEN-LONG-X"),
     ("fourteen-longx-y", "FOURTEEN-LONGX"), ("pc.lab.example", "PC")],
)  # fmt: skip
def test_netbios_names(host: str, name: str) -> None:
    assert computer_name(host) == name


def test_windows_takes_no_name_of_digits() -> None:
    with pytest.raises(CustomiseError, match="needs a letter"):
        computer_name("20407")
