"""Options are read back as they were written, and what makes no sense is named with what to set instead."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.options import (
    ALL_DISKS,
    RULES_WITH_VALUE,
    RULES_WITHOUT_VALUE,
    WHOLE_KINDS,
    CaptureOptions,
    DeployOptions,
    DiskRule,
    OptionsError,
)

numbers = st.lists(st.integers(1, 1024), min_size=1, max_size=8, unique=True).map(lambda n: tuple(sorted(n)))
texts = st.text(min_size=1, max_size=40).filter(lambda text: text == text.strip() and text)
rules = st.one_of(
    st.builds(DiskRule, st.sampled_from(RULES_WITHOUT_VALUE)),
    st.builds(DiskRule, st.sampled_from(RULES_WITH_VALUE), texts),
)
disks = st.none() | st.lists(rules, min_size=1, max_size=4, unique=True).map(tuple)
captures = st.builds(
    CaptureOptions,
    partitions=st.none() | numbers,
    whole=st.sets(st.sampled_from(WHOLE_KINDS)).map(lambda kinds: tuple(sorted(kinds))),
    exclude_windows_files=st.booleans(),
    disks=disks,
)
deploys = st.one_of(
    st.builds(
        DeployOptions,
        grow=st.sampled_from(["none", "last"]) | numbers,
        shrink=st.booleans(),
        identities=st.sampled_from(["keep", "renew"]),
        discard=st.booleans(),
        disks=disks,
        verify=st.booleans(),
    ),
    st.builds(DeployOptions, partitions=numbers, discard=st.booleans()),
)


def test_nothing_said_means_the_defaults_and_defaults_are_not_said() -> None:
    assert CaptureOptions.from_task(None) == CaptureOptions.from_task({}) == CaptureOptions()
    assert DeployOptions.from_task(None) == DeployOptions.from_task({}) == DeployOptions()
    assert CaptureOptions().to_task() == DeployOptions().to_task() == {}
    assert CaptureOptions().exclude_windows_files
    assert DeployOptions().verify
    assert (DeployOptions().grow, DeployOptions().identities) == ("none", "keep")


@given(captures | deploys)
def test_what_is_written_is_read_back(options: CaptureOptions | DeployOptions) -> None:
    task = json.loads(json.dumps(options.to_task()))
    assert type(options).from_task(task) == options


def test_numbers_and_kinds_are_put_in_order() -> None:
    options = CaptureOptions.from_task({"partitions": [3, 1], "whole": ["unknown", "luks", "luks"]})
    assert (options.partitions, options.whole) == ((1, 3), ("luks", "unknown"))
    assert DeployOptions.from_task({"grow": [5, 2]}).grow == (2, 5)


def test_a_capture_may_take_every_internal_disk_and_a_deploy_may_not() -> None:
    everything = {"disks": [{"rule": "all"}]}
    options = CaptureOptions.from_task(everything)
    assert options.disks == (ALL_DISKS,)
    assert options.to_task() == everything
    for refused in ([{"rule": "all"}, {"rule": "only"}], [{"rule": "all", "value": "x"}]):
        with pytest.raises(OptionsError):
            CaptureOptions.from_task({"disks": refused})
    with pytest.raises(OptionsError):
        DeployOptions.from_task(everything)


def test_a_size_may_be_a_number() -> None:
    options = DeployOptions.from_task(
        {"disks": [{"rule": "size", "value": 512110190592}, {"rule": "largest"}]}
    )
    assert options.disks == (DiskRule("size", "512110190592"), DiskRule("largest"))


@pytest.mark.parametrize(
    ("task", "key", "remedy"),
    [
        ({"partitions": []}, "capture.partitions", "leave it away for all"),
        ({"partitions": [0]}, "capture.partitions", "1 to 1024"),
        ({"partitions": [True]}, "capture.partitions", "1 to 1024"),
        ({"partitions": [2, 2]}, "capture.partitions", "each partition once"),
        ({"partitions": "1"}, "capture.partitions", "list the partitions"),
        ({"whole": ["ext4"]}, "capture.whole", "luks"),
        ({"whole": "luks"}, "capture.whole", "list kinds"),
        ({"exclude_windows_files": 1}, "capture.exclude_windows_files", "true or false"),
        ({"disks": []}, "capture.disks", "1 to 64"),
        ({"disks": [{"rule": "only"}] * 2}, "capture.disks", "each disk once"),
        ({"disks": [{"rule": "biggest"}]}, "capture.disks[0].rule", "smallest, largest"),
        ({"disks": [{"rule": "serial"}]}, "capture.disks[0].value", "which serial"),
        ({"disks": [{"rule": "only", "value": "x"}]}, "capture.disks[0]", "takes no value"),
        ({"disks": ["only"]}, "capture.disks[0]", "rule"),
        ({"partition": [1]}, "capture.partition", "does not know it"),
        ([], "capture", "object"),
    ],
)
def test_what_makes_no_sense_in_a_capture(task: Any, key: str, remedy: str) -> None:
    with pytest.raises(
        OptionsError, match=rf"^The option {key.replace('[', '.').replace(']', '.')} "
    ) as caught:
        CaptureOptions.from_task(task)
    assert caught.value.key == key
    assert remedy in caught.value.remedy
    assert remedy in str(caught.value)
    assert caught.value.code == "options-invalid"


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ({"grow": "first"}, "deploy.grow"),
        ({"grow": []}, "deploy.grow"),
        ({"grow": True}, "deploy.grow"),
        ({"identities": "new"}, "deploy.identities"),
        ({"shrink": None}, "deploy.shrink"),
        ({"partitions": [1], "grow": "last"}, "deploy.grow"),
        ({"partitions": [1], "shrink": True}, "deploy.shrink"),
        ({"exclude_windows_files": True}, "deploy.exclude_windows_files"),
    ],
)
def test_what_makes_no_sense_in_a_deploy(task: dict[str, Any], key: str) -> None:
    with pytest.raises(OptionsError) as caught:
        DeployOptions.from_task(task)
    assert caught.value.key == key


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(OptionsError) as caught:
        CaptureOptions.from_task({"whole": "x" * 5000})
    assert len(str(caught.value)) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*CaptureOptions.__slots__, *DeployOptions.__slots__]), json_values))
def test_whatever_comes_raises_only_options_error(task: dict[str, Any]) -> None:
    for kind in (CaptureOptions, DeployOptions):
        with contextlib.suppress(OptionsError):
            assert kind.from_task(kind.from_task(task).to_task()) == kind.from_task(task)
