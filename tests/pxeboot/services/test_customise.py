"""What image, group and host say, laid over one another; orders with secrets; and every kind of nonsense."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.customise import from_task
from pxeboot.adapters.fileshed import FileShed
from pxeboot.db.models import Host, Secret
from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import customise, file_drops, lookup, scripts, secrets, templates
from pxeboot.services.customise_rules import CustomiseRules, Layer, merge, parse, patched
from tests.plane import Plane

URL = "http://10.20.0.1"


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    made = Plane(tmp_path / "data")
    made.room(2)
    return made


@pytest.fixture
def shed(plane: Plane) -> FileShed:
    return FileShed(plane.settings.server.data_dir)


def key(plane: Plane) -> Path:
    return plane.settings.server.data_dir / "keys" / "secrets.key"


def say(plane: Plane, kind: str, name: str, **value: Any) -> None:
    with plane.write() as session:
        customise.change(session, kind, name, value, actor="ada")


def script(plane: Plane, name: str, **more: Any) -> None:
    with plane.write() as session:
        scripts.create_script(session, name=name, text="true", **more)


def drop(plane: Plane, shed: FileShed, name: str, data: bytes, **more: Any) -> None:
    import asyncio

    async def pieces():  # type: ignore[no-untyped-def]
        yield data

    hash, size = asyncio.run(shed.add(pieces()))
    with plane.write() as session:
        file_drops.create_drop(session, name=name, **{"path": f"/etc/{name}", **more})
        file_drops.set_content(session, name, hash, size, data)


def secret(plane: Plane, name: str, value: str) -> None:
    with plane.write() as session:
        secrets.set_secret(session, key(plane), name, value, actor="ada")


def ordered(plane: Plane, shed: FileShed, host: str = "pc1") -> customise.Made:
    operation = plane.start(kind="deploy", image="debian", hosts=[host])
    with plane.read() as session:
        return customise.for_task(session, operation.tasks[0].id, shed, key(plane), URL, rename=True)


# -- merging


def test_the_host_wins_over_its_group_and_that_over_the_image() -> None:
    found = merge(
        [
            Layer("image", "debian", parse({"hostname": False, "windows": {"locale": "fr-FR"}})),
            Layer("group", "B204", parse({"windows": {"locale": "de-DE", "join": {"domain": "x.local"}}})),
            Layer("host", "pc1", parse({"hostname": True, "linux": {"ssh_host_keys": False}})),
        ]
    )
    assert found.rules.hostname is True
    assert found.rules.windows.locale == "de-DE"
    assert found.rules.linux.ssh_host_keys is False
    assert found.rules.linux.machine_id is True
    keys = ("hostname", "windows.locale", "windows.join.domain", "linux.ssh_host_keys", "linux.machine_id")
    assert [found.origins[key] for key in keys] == ["host", "group", "group", "host", "shipped"]


def test_scripts_add_up_in_order_and_can_be_called_otherwise_or_not_at_all() -> None:
    found = merge(
        [
            Layer("image", "debian", parse({"scripts": ["one", "two", "three"], "files": ["motd"]})),
            Layer("group", "B204", parse({"scripts": [{"name": "two", "arguments": ["B204"]}, "four"]})),
            Layer("host", "pc1", parse({"scripts": [{"name": "one", "off": True}],
                                        "files": [{"name": "motd", "off": True}]})),
        ]
    )  # fmt: skip
    assert [(use.name, use.arguments) for use in found.rules.scripts] == [
        ("two", ["B204"]), ("three", []), ("four", []),
    ]  # fmt: skip
    assert found.rules.files == []
    assert found.origins["scripts.two"] == "group"
    assert "scripts.one" not in found.origins


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"hostnames": True}, "hostnames"),
        ({"linux": {"machine_id": "maybe"}}, "linux.machine_id"),
        ({"windows": {"name": "magic"}}, "windows.name"),
        ({"windows": {"drivers_path": "../x"}}, "windows.drivers_path"),
        ({"scripts": [{"name": "../x"}]}, "scripts.0.name"),
        ({"scripts": [{"name": "x", "environment": {"A=B": "1"}}]}, "scripts.0.environment.A=B.[key]"),
        ({"scripts": [{"name": "x", "seconds": 0}]}, "scripts.0.seconds"),
        ({"variables": {"room": "two\nlines"}}, "variables.room"),
        ([], "customise"),
    ],
)
def test_what_cannot_be_said_is_named(rules: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(rules)
    assert caught.value.data["errors"][0]["field"] == field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["hostname", "linux", "windows", "join", "scripts", "files", "name", "variables", "off"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(JSON)
def test_any_json_is_rules_that_can_be_stored_or_refused(value: Any) -> None:
    try:
        rules = parse(value)
    except Invalid:
        return
    assert parse(json.loads(json.dumps(rules.said()))) == rules
    assert isinstance(merge([Layer("host", "x", rules), Layer("host", "x", rules)]).rules, CustomiseRules)


def test_a_merge_patch_takes_away_what_is_null() -> None:
    before = {"windows": {"locale": "fr-FR", "join": {"domain": "x"}}, "scripts": ["a"]}
    change = {"windows": {"join": None, "owner": "Lycée"}, "scripts": ["b"]}
    assert patched(before, change) == {"windows": {"locale": "fr-FR", "owner": "Lycée"}, "scripts": ["b"]}


# -- orders


def test_a_whole_order_reaches_the_agent_with_its_secrets_once(plane: Plane, shed: FileShed) -> None:
    secret(plane, "join", "Tr3s-secret")
    secret(plane, "odj-pc1", "QUJD")
    script(plane, "printers", system="linux", seconds=60)
    drop(
        plane,
        shed,
        "motd",
        b"Poste {{ host.name }}, salle {{ vars.room }} {{ secrets['join'] }}\n",
        template=True,
    )
    drop(plane, shed, "wall", b"\x00\x01", path="/usr/share/{{ vars.room }}/wall.jpg", mode="0644")
    say(
        plane, "image", "debian",
        files=["motd", "wall"],
        scripts=[{"name": "printers", "arguments": ["{{ host.group }}", "{{ vars.room }}"],
                  "secrets": {"PASSWORD": "join"}, "on_error": "continue"}],
    )  # fmt: skip
    say(
        plane, "group", "B204", variables={"room": "204"},
        windows={"join": {"domain": "lycee.local", "user": "joiner", "password": "join",
                          "blob": "odj-{{ host.name }}"}},
    )  # fmt: skip
    made = ordered(plane, shed)
    order = made.order
    assert from_task(order).hostname == "pc1"  # the agent takes it
    assert made.secrets == ("join", "odj-pc1")
    assert base64.b64decode(order["files"][0]["content"]) == b"Poste pc1, salle 204 Tr3s-secret\n"
    assert order["files"][1]["path"] == "/usr/share/204/wall.jpg"
    assert order["files"][1]["size"] == 2
    assert order["scripts"][0]["arguments"] == ["B204", "204"]
    assert order["scripts"][0]["environment"] == {"PASSWORD": "Tr3s-secret"}
    assert (order["scripts"][0]["seconds"], order["scripts"][0]["on_error"]) == (60, "continue")
    assert order["windows"]["join"]["blob"] == "QUJD"
    assert order["environment"]["PXEBOOT_HOST"] == "pc1"
    assert order["environment"]["PXEBOOT_VAR_ROOM"] == "204"
    assert order["environment"]["PXEBOOT_IMAGE"] == "debian"
    assert set(order["masked"]) == {"Tr3s-secret", "QUJD"}

    with plane.read() as session:
        shown = customise.result(session, "pc1", shed, URL, "debian@1")
    text = shown.model_dump_json()
    assert "Tr3s-secret" not in text
    assert "QUJD" not in text
    assert shown.secrets == {"join": True, "odj-pc1": True}
    assert shown.problems == []
    assert base64.b64decode(shown.order["files"][0]["content"]) == b"Poste pc1, salle 204 ***\n"
    assert "Tr3s-secret" not in str(plane.heard.records)


def test_what_is_incomplete_becomes_a_sentence_for_the_agent_and_for_people(
    plane: Plane, shed: FileShed
) -> None:
    say(plane, "group", "B204", windows={"join": {"domain": "x.local", "blob": "odj-{{ host.name }}"}})
    problem = ordered(plane, shed).order["problem"]
    assert "There is no secret 'odj-pc1'" in problem
    with plane.read() as session:
        shown = customise.result(session, "pc1", shed, URL)
    assert "odj-pc1" in shown.problems[0]
    assert shown.secrets == {"odj-pc1": False}


def test_a_variable_that_nobody_set_is_named(plane: Plane, shed: FileShed) -> None:
    drop(plane, shed, "motd", b"{{ vars.room }}", template=True)
    say(plane, "host", "pc1", files=["motd"])
    assert "Template motd" in ordered(plane, shed).order["problem"]
    assert "room" in ordered(plane, shed, "pc2").order.get("problem", "room")


def test_a_host_without_anything_said_gets_names_and_keys_of_its_own(plane: Plane, shed: FileShed) -> None:
    order = ordered(plane, shed).order
    assert order["hostname"] == "pc1"
    assert order["linux"] == {"machine_id": True, "ssh_host_keys": True, "random_seed": True}
    assert order["windows"] == {"name": "auto"}
    say(plane, "host", "pc2", hostname=False)
    assert ordered(plane, shed, "pc2").order["windows"] == {"name": "keep"}


def test_drivers_are_those_of_the_model(plane: Plane, shed: FileShed) -> None:
    for path in ("Dell*/OptiPlex 7?90*/net/e1d.inf", "Dell*/Latitude*/x.inf", "LENOVO/*/y.inf", "Dell*/.x/z"):
        file = shed.driver_root / path
        file.parent.mkdir(parents=True)
        file.write_text("inf")
    (shed.driver_root / "Dell*/OptiPlex 7?90*/link").symlink_to("/etc/passwd")
    with plane.write() as session:
        host: Host = lookup.host(session, "pc1")
        host.manufacturer, host.product = "DELL Inc.", "OptiPlex 7090 "
        session.add(host)
    files = ordered(plane, shed).order["windows"]["drivers"]["files"]
    assert files == [{"path": "Dell*/OptiPlex 7?90*/net/e1d.inf", "size": 3}]
    place, hash = shed.driver("DELL Inc.", "OptiPlex 7090", files[0]["path"])
    assert (place.read_text(), len(hash)) == ("inf", 64)
    for bad in ("LENOVO/*/y.inf", "Dell*/OptiPlex 7?90*/link", "Dell*/OptiPlex 7?90*/../Latitude*/x.inf",
                "/etc/passwd", "..", "Dell*/OptiPlex 7?90*/", "a\0/b/c"):  # fmt: skip
        with pytest.raises(NotFound):
            shed.driver("DELL Inc.", "OptiPlex 7090", bad)
    assert shed.driver_folders("", "") == []


# -- keeping things


def test_what_is_used_cannot_be_deleted(plane: Plane, shed: FileShed) -> None:
    script(plane, "printers")
    drop(plane, shed, "motd", b"x")
    secret(plane, "join", "s3cret")
    say(plane, "group", "B204", scripts=["printers"], files=["motd"], windows={"join": {"password": "join"}})
    with plane.write() as session:
        for delete in (
            lambda: scripts.delete_script(session, "printers"),
            lambda: file_drops.delete_drop(session, "motd"),
            lambda: secrets.delete_secret(session, "join"),
        ):
            with pytest.raises(Conflict, match="group B204 still use"):
                delete()
    with plane.write() as session:
        customise.change(session, "group", "B204", {}, whole=True)
        scripts.delete_script(session, "printers")
        file_drops.delete_drop(session, "motd")
        secrets.delete_secret(session, "join")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"scripts": ["nothing"]}, "There is no script 'nothing'"),
        ({"files": ["nothing"]}, "There is no file 'nothing'"),
        ({"windows": {"join": {"password": "nothing"}}}, "There is no secret 'nothing'"),
        ({"variables": {"x": "{{ host."}}, "line 1"),
    ],
)
def test_what_does_not_exist_cannot_be_used(plane: Plane, value: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        say(plane, "host", "pc1", **value)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": "#!/bin/bash\ntrue"}, "text"),
        ({"text": "#!/usr/bin/env python3\n"}, "text"),
        ({"phase": "pre", "system": "linux"}, "system"),
        ({"system": "mac"}, "system"),
        ({"seconds": 9999}, "seconds"),
        ({"on_error": "ignore"}, "on_error"),
        ({"name": "a b"}, "name"),
    ],
)
def test_scripts_that_cannot_be_run_are_refused(plane: Plane, values: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught, plane.write() as session:
        scripts.create_script(session, **{"name": "x", "text": "true", **values})
    assert caught.value.data["field"] == field


def test_a_script_from_windows_gets_the_line_ends_of_the_shell(plane: Plane) -> None:
    with plane.write() as session:
        view = scripts.create_script(session, name="x", text="#!/bin/sh -e\r\necho x\r\n")
    assert view.text == "#!/bin/sh -e\necho x\n"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"path": "/../x"}, "path"), ({"path": ""}, "path"), ({"path": "/etc/{{ x"}, "content"),
        ({"mode": "rw"}, "mode"), ({"owner": "root"}, "owner"), ({"system": "x"}, "system"),
    ],
)  # fmt: skip
def test_files_that_can_go_nowhere_are_refused(plane: Plane, values: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught, plane.write() as session:
        file_drops.create_drop(session, **{"name": "x", "path": "/etc/x", **values})
    assert caught.value.data["field"] == field


# -- secrets and templates


def test_the_database_alone_does_not_tell_a_secret(plane: Plane) -> None:
    secret(plane, "join", "Tr3s-secret")
    with plane.read() as session:
        row = session.get(Secret, "join")
        assert row is not None
        assert "Tr3s" not in row.sealed
        assert secrets.reveal(session, key(plane), "join") == "Tr3s-secret"
        with pytest.raises(Invalid, match="set it again"):
            secrets.unseal(key(plane), "other", row.sealed)  # bound to its name
        key(plane).write_bytes(bytes(32))
        with pytest.raises(Invalid, match="set it again"):
            secrets.reveal(session, key(plane), "join")
    assert key(plane).stat().st_mode & 0o777 == 0o600
    assert b"Tr3s-secret" not in (plane.settings.server.data_dir / "pxeboot.sqlite").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}", "{{ host.__init__.__globals__ }}",
        "{% for i in range(10**8) %}{% endfor %}",
        "{{ host.nothing }}", "{{ nothing }}", "{{ 1/0 }}", "{% include 'x' %}", "{{ [].append(1) }}",
        "{% for a in range(9999) %}{% for b in range(9) %}0123456789{% endfor %}{% endfor %}",
        "{{ cycler }}", "{{ lipsum(99999) }}",
    ],
)  # fmt: skip
def test_the_sandbox_lets_nothing_out(text: str) -> None:
    with pytest.raises(Invalid, match="Template x"):
        templates.render(text, {"host": {"name": "pc1"}}, "Template x")


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_template_is_filled_in_or_refused(text: str, name: str) -> None:
    try:
        made = templates.render(text, {"host": {"name": name}}, "x")
    except Invalid:
        return
    if "{" not in text:
        assert made == text


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30))
def test_what_machines_say_of_themselves_can_be_quoted(serial: str) -> None:
    import shlex
    from xml.etree import ElementTree

    made = templates.render("x {{ host.serial|sh }}", {"host": {"serial": serial}}, "x")
    assert shlex.split(made) == ["x", serial]
    if serial.isprintable():
        xml = templates.render("<a>{{ host.serial|e }}</a>", {"host": {"serial": serial}}, "x")
        assert (ElementTree.fromstring(xml).text or "") == serial
