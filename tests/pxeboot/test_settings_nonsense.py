"""Whatever stands in the settings file or the environment: settings, or mistakes with a remedy."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pxeboot.adapters.interfaces import InterfaceFacts
from pxeboot.adapters.plan import make_plan
from pxeboot.settings import Settings, describe
from pxeboot.settings.load import judged
from pxeboot.settings.mistake import refuse
from tests.pxeboot.adapters.test_plan import ETH1, ETH2

# What people really write, right or wrong, beside anything that TOML can hold.
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "10.20.0.0/24", "10.20.0.1", "10.20.0.0/0", "10.20.0.10-10.20.0.20", "0.0.0.0-255.255.255.255",
         "eth1", "eth2=10.30.0.1", "=", "full", "proxy", "52:54:00:00:00:01", "hex:", "hex:0102", "a.b", "\0",
         "é", "10.20.0.0/32", "0.0.0.0/0", "255.255.255.255", "224.0.0.1/4", "routers", "43",
         "entry:x"]
    ),
)  # fmt: skip
SCALARS = st.one_of(
    TEXTS,
    st.integers(-(2**70), 2**70),
    st.integers(0, 70000),
    st.floats(),
    st.booleans(),
    st.just(datetime.datetime(2026, 1, 1)),
    st.just(datetime.date(2026, 1, 1)),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
_NAMES: dict[str, list[str]] = {}
for _section, _key, _default, _text in describe():
    _NAMES.setdefault(_section, []).append(_key)


def table(section: str, **more: Any) -> Any:
    """A table with names of ours (and some of nobody's) and any values."""
    names = st.one_of(st.sampled_from(_NAMES[section]), st.text(max_size=8))
    return st.builds(lambda some, own: {**some, **own}, st.dictionaries(names, ANYTHING, max_size=6),
                     st.fixed_dictionaries({}, optional=more))  # fmt: skip


RESERVATIONS = st.lists(table("[dhcp.reservations]", mac=TEXTS, address=TEXTS) | ANYTHING, max_size=3)
OPTIONS = st.dictionaries(TEXTS, ANYTHING, max_size=3)
SUBNETS = st.lists(
    table("[dhcp.subnets]", network=TEXTS, pools=st.lists(TEXTS, max_size=3), interface=TEXTS,
          options=OPTIONS, reservations=RESERVATIONS, exclude=st.lists(TEXTS, max_size=2)) | ANYTHING,
    max_size=4,
)  # fmt: skip
MORE = {"dhcp": {"subnets": SUBNETS, "reservations": RESERVATIONS, "options": OPTIONS, "pool_start": TEXTS,
                 "pool_end": TEXTS, "subnet": TEXTS}}  # fmt: skip
FILES = st.fixed_dictionaries(
    {},
    optional={
        section: table(section, **MORE.get(section, {})) | ANYTHING
        for section in _NAMES
        if not section.startswith("[")
    },
) | st.dictionaries(TEXTS, ANYTHING, max_size=4)
VARIABLES = st.sampled_from([f"PXEBOOT_{s}__{k}".upper() for s in _NAMES if s[0] != "[" for k in _NAMES[s]])
ENVIRONMENTS = st.dictionaries(
    VARIABLES | st.just("PXEBOOT_X__Y") | st.just("PXEBOOT___"),
    TEXTS | st.just('["x"]') | st.just("[[") | st.just('{"a": 1}'),
    max_size=4,
)


def see(values: dict[str, Any], environment: dict[str, str], interfaces: list[InterfaceFacts]) -> None:
    mistakes, made, _sources = judged(values, environment)
    assert isinstance(made, Settings)
    for one in [*mistakes, *make_plan(made, interfaces).mistakes]:
        assert one.key or one.value is not None
        assert one.what
        assert one.remedy
        assert len(one.sentence) < 1000
        json.dumps(one.to_dict())
    if not any(one.level == "error" for one in mistakes):
        refuse(mistakes)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(FILES, ENVIRONMENTS, st.sampled_from([[], [ETH1], [ETH1, ETH2]]))
def test_nonsense_is_told_not_raised(
    values: dict[str, Any], environment: dict[str, str], interfaces: list[InterfaceFacts]
) -> None:
    see(values, environment, interfaces)


@pytest.mark.fuzz
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(FILES, ENVIRONMENTS, st.sampled_from([[], [ETH1], [ETH1, ETH2]]))
@pytest.mark.timeout(600)
def test_much_nonsense(
    values: dict[str, Any], environment: dict[str, str], interfaces: list[InterfaceFacts]
) -> None:
    see(values, environment, interfaces)
