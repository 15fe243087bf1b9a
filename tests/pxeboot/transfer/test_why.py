"""Why a room was slow, read from records as the daemon keeps them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from pxeboot.transfer.log import MAX_EVENTS, MAX_POINTS, MAX_SAMPLES, HostPoint, LogEvent, Sample, StreamLog
from pxeboot.transfer.why import explain

PARIS = ZoneInfo("Europe/Paris")
TEN = datetime(2026, 11, 23, 9, 0, tzinfo=UTC).timestamp()  # 10:00 in Paris


def record(
    minutes: int, *, rate: float = 900, granted: float = 950, bound: str = "interface",
    way: str = "multicast", begin: float = TEN, hosts: dict[str, list[HostPoint]] | None = None,
    limit: str = "", carried: float = 0,
) -> StreamLog:  # fmt: skip
    """A sample each 30 s."""
    log = StreamLog(way, "eth1")
    for n in range(minutes * 2 + 1):
        points = {host: line[n] for host, line in (hosts or {}).items() if n < len(line)}
        log.add(Sample(begin + n * 30, rate, granted, bound, carried or rate, 950, points, limit))
    return log


def sentences(*logs: StreamLog) -> list[str]:
    return [reason.say() for reason in explain(logs, PARIS)]


def test_a_fast_room() -> None:
    points = [HostPoint(n * 100_000, 0, 5, 0, n * 10**9) for n in range(25)]
    assert sentences(record(12, hosts={"PC-01": points, "PC-02": points})) == [
        "By multicast from 10:00 to 10:12: 900 Mbit/s on average, machines that took part: 2.",
        "The link eth1 carried 95 % of the 950 Mbit/s it may, from 10:00 to 10:12.",
        "Nothing held it back that we could see.",
    ]


def test_a_machine_that_lost_datagrams_and_left() -> None:
    healthy = [HostPoint(n * 10_000, 0, 5) for n in range(25)]
    lossy = [HostPoint(n * 10_000, 0, 9) for n in range(5)]
    lossy += [HostPoint(40_000 + n * 8_800, n * 1_200, 9) for n in range(1, 7)]
    http = record(2, rate=50, granted=475, bound="demand", way="http", begin=TEN + 330,
                  hosts={"PC-07": [HostPoint(taken=n) for n in range(5)]})  # fmt: skip
    told = sentences(record(12, hosts={"PC-01": healthy, "PC-07": lossy}), http)
    assert "PC-07 lost 12 % of the datagrams from 10:02 to 10:05 and left for HTTP." in told
    assert not any("PC-01" in sentence for sentence in told)


def test_manifests_beside_a_session_are_not_worth_a_sentence_but_drivers_are() -> None:
    points = [HostPoint(n * 100_000, 0, 5, 0, n * 10**9) for n in range(25)]
    session = record(12, hosts={"PC-01": points})
    assert sentences(session, record(1, rate=40, way="http")) == sentences(session)
    drivers = record(11, rate=99, granted=100, bound="time", way="http", limit="08:00-18:00")
    assert sentences(session, drivers)[2:] == [
        "The limit of the hours 08:00-18:00 held from 10:00 to 10:11: 100 Mbit/s were left."
    ]


def test_a_capture_under_a_limit() -> None:
    taken = [HostPoint(taken=n * 10**9) for n in range(25)]
    log = record(12, rate=99, granted=100, bound="time", way="upload", limit="08:00-18:00",
                 hosts={"PC-01": taken})  # fmt: skip
    assert sentences(log) == [
        "Uploads from 10:00 to 10:12: 99 Mbit/s on average, machines that took part: 1.",
        "The limit of the hours 08:00-18:00 held from 10:00 to 10:12: 100 Mbit/s were left.",
    ]


def test_the_slowest_disk_is_named_first() -> None:
    def full(speed: int) -> list[HostPoint]:
        return [HostPoint(n * 1000, 0, 9, 950, n * 30 * speed) for n in range(25)]

    told = sentences(record(12, hosts={"PC-03": full(20_000_000), "PC-11": full(9_000_000)}))
    assert told[2:4] == [
        "The disk of PC-11 wrote 9.0 MB/s, the slowest: its buffers were full.",
        "The disk of PC-03 wrote 20 MB/s: its buffers were full.",
    ]


def test_a_slow_disk_is_named_although_its_buffers_were_only_half_full() -> None:
    points = [HostPoint(n * 1000, 0, 9, 600, n * 30 * 3_000_000) for n in range(25)]
    log = record(12, hosts={"PC-11": points})
    assert not any("PC-11" in sentence for sentence in sentences(log))
    for at in (300, 500):
        log.note(LogEvent(TEN + at, "class", "PC-11", {"class": "slow"}))
    assert [sentence for sentence in sentences(log) if "PC-11" in sentence] == [
        "The disk of PC-11 wrote 3.0 MB/s, the slowest: its buffers were full.",
    ]


def test_who_did_without_multicast_and_why() -> None:
    deaf, filtered = "IGMP snooping without a querier.", "A packet filter on it drops them."
    lossy = [HostPoint(n * 8_800, n * 1_200, 9) for n in range(13)]
    silent = [HostPoint(0, 0, 9)] * 2
    log = record(12, hosts={"PC-04": lossy, "PC-07": silent, "PC-10": silent, "PC-11": silent})
    for at, host, way, reason in (
        (10, "PC-07", "peers", deaf),
        (20, "PC-10", "http", filtered),
        (30, "PC-07", "multicast", ""),
        (40, "PC-07", "peers", deaf),  # once is enough
        (180, "PC-04", "peers", "Too much is lost."),
    ):
        log.note(LogEvent(TEN + at, "way", host, {"way": way, "reason": reason}))
    log.note(LogEvent(TEN + 170, "class", "PC-04", {"class": "slow"}))
    assert sentences(log)[0].endswith("machines that took part: 1."), "who heard nothing took no part"
    assert sentences(log)[2:] == [
        "PC-04 lost 12 % of the datagrams from 10:00 to 10:06 and went on by its neighbours.",
        "PC-07 took its chunks from its neighbours from 10:00 on: IGMP snooping without a querier.",
        "PC-10 took its chunks from the server over HTTP from 10:00 on: A packet filter on it drops them.",
    ]


def test_a_whole_room_without_multicast_is_not_a_hundred_lines() -> None:
    log = record(12)
    for number in range(30):
        log.note(LogEvent(TEN, "way", f"PC-{number:02}", {"way": "peers", "reason": "A filter."}))
    told = sentences(log)
    assert sum("A filter." in sentence for sentence in told) == 8
    assert told[-1] == "And 22 more machines like these."


def test_a_moment_without_a_limit_does_not_end_its_time() -> None:
    log = record(12, rate=99, granted=100, bound="operation")
    log.samples[12] = Sample(log.samples[12].at, 0, 100, "operation", 0, 950)
    assert sentences(log)[1:] == ["The limit of this operation, 100 Mbit/s, held from 10:00 to 10:12."]


def test_a_limit_by_time_of_day() -> None:
    told = sentences(record(12, rate=99, granted=100, bound="time", limit="08:00-18:00"))
    assert told[1] == "The limit of the hours 08:00-18:00 held from 10:00 to 10:12: 100 Mbit/s were left."


def test_a_limit_that_somebody_set_and_lifted() -> None:
    log = record(12, rate=49, granted=50, bound="operation")
    log.note(LogEvent(TEN, "limit", "", {"who": "ada", "mbit": "50"}))
    log.note(LogEvent(TEN + 720, "limit", "", {"who": "ada", "mbit": ""}))
    assert sentences(log)[1:] == [
        "The limit of this operation, 50 Mbit/s, held from 10:00 to 10:12.",
        "At 10:00 ada set the limit to 50 Mbit/s.",
        "At 10:12 ada lifted the limit.",
    ]


def test_a_link_that_was_shared_and_receivers_that_took_no_more() -> None:
    log = record(6, rate=470, granted=475, carried=945)
    later = record(6, rate=200, granted=900, begin=TEN + 400, hosts={"PC-1": [HostPoint(0, 0, 9)] * 13})
    log.samples += later.samples
    assert sentences(log)[1:3] == [
        "It shared eth1 with other transfers from 10:00 to 10:06: 475 of 950 Mbit/s were its part.",
        "From 10:06 to 10:12 it sent 200 Mbit/s although 900 were free: receivers or network took no more.",
    ]


def test_latecomers_the_silent_and_a_sender_that_died() -> None:
    log = record(12, rate=800, hosts={"PC-05": [HostPoint(100, 0, 7)] * 10})
    for at, kind, host, facts in (
        (0, "joined", "PC-01", {}),
        (20, "joined", "PC-05", {}),
        (280, "left", "PC-05", {"reason": "silent"}),
        (300, "joined", "PC-03", {}),
        (320, "class", "PC-03", {"class": "slow"}),
        (400, "restarted", "", {}),
        (500, "joined", "PC-01", {}),  # again, after the restart: not late
    ):
        log.note(LogEvent(TEN + at, kind, host, facts))
    told = sentences(log)
    for sentence in (
        "PC-05 fell silent at 10:04 before it had everything.",
        "PC-03 joined at 10:05, 5 min after the first.",
        "PC-03 was too slow for the others and was set apart at 10:05.",
        "The sender ended by itself at 10:06 and was started again.",
    ):
        assert sentence in told
    assert not any("PC-01 joined" in sentence for sentence in told)


def test_nothing_was_sent() -> None:
    assert explain([], PARIS) == []
    assert explain([StreamLog()], PARIS) == []


def test_a_record_is_bounded_and_keeps_its_shape() -> None:
    log = StreamLog("multicast", "eth1")
    at, hosts = TEN, {f"PC-{n}": HostPoint(n, 0, 1) for n in range(300)}
    for _ in range(6 * 3600):
        at += 1
        if log.due(at):
            log.add(Sample(at, 900, 950, "interface", 900, 950, hosts))
    for n in range(2 * MAX_EVENTS):
        log.note(LogEvent(TEN, "joined", str(n)))
    assert len(log.samples) <= MAX_SAMPLES
    assert sum(len(sample.hosts) for sample in log.samples) <= MAX_POINTS
    assert log.samples[0].at <= TEN + 3
    assert log.samples[-1].at >= at - 2 * log.every
    assert (len(log.events), log.dropped) == (MAX_EVENTS, MAX_EVENTS)
    assert len(json.dumps(log.to_json())) < 1_000_000


def test_a_record_comes_back_from_the_database() -> None:
    log = record(2, hosts={"PC-1": [HostPoint(1, 2, 3, 4, 5)] * 5}, limit="08:00-18:00")
    log.note(LogEvent(TEN, "class", "PC-1", {"class": "slow"}))
    again = StreamLog.from_json(json.loads(json.dumps(log.to_json())))
    assert (again.samples, again.events, again.way, again.interface) == (
        log.samples,
        log.events,
        "multicast",
        "eth1",
    )
