"""kill -9 of the daemon, its sender and the agents at random moments of capture, deploy and prune.

Everything is real but firmware and disks. `PXEBOOT_KILLS` says how many kills there are (12; `make fuzz`
has 50), `PXEBOOT_SEED` where they strike.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator

import pytest

from pxeboot.lab.classroom import ApiProblem, Seat
from tests.e2e.killing import KillRoom, Moment, children, tear

KILLS = int(os.environ.get("PXEBOOT_KILLS", "12"))
SEED = int(os.environ.get("PXEBOOT_SEED", "4"))

pytestmark = [pytest.mark.net, pytest.mark.timeout(600 + 60 * KILLS)]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillRoom]:
    with KillRoom(tmp_path_factory.mktemp("kills"), SEED) as room:
        yield room


class Killer:
    """Draws moments over the work that the same thing took when nobody was killed, or last time."""

    def __init__(self, room: KillRoom) -> None:
        self.room = room
        self.work: dict[str, int] = {}
        self.drawn: list[tuple[str, Moment]] = []

    def moment(self, what: str, find: Callable[[], int | None], act: Callable[[int], None]) -> Moment:
        """Somewhere in ``what``; the first time nowhere."""
        whole = self.work.get(what)
        moment = Moment(find, 1 << 62 if whole is None else self.room.dice.randrange(whole), act)
        self.drawn.append((what, moment))
        return moment

    def agent(self, what: str, seat: Seat) -> Moment:
        """Kill an agent."""
        return self.moment(f"agent {what}", lambda: seat.sim().agent_pid, tear)

    def server(self, what: str, seat: Seat | None = None) -> Moment:
        """Kill the daemon, when it has done so much itself, or an agent has."""
        server = self.room.classroom.server
        pid = server.pid

        def find() -> int | None:
            return seat.sim().agent_pid if seat else pid

        return self.moment(f"{'agent' if seat else 'server'} {what}", find, lambda _: server.kill())

    def sender(self, what: str, seat: Seat) -> Moment:
        """Kill the multicast sender."""
        server = self.room.classroom.server

        def act(_: int) -> None:
            for pid in children(server.pid):
                tear(pid)

        return self.moment(f"agent {what}", lambda: seat.sim().agent_pid, act)

    def learn(self) -> None:
        """How much work things were when they were not cut short."""
        for what, moment in self.drawn:
            if not moment.end() and moment.worked:
                self.work[what] = moment.worked
        self.drawn.clear()

    # --- what is cut short ---

    def calibrate(self) -> None:
        """Everything once, without a kill."""
        room = self.room
        for _ in range(3):
            room.renew(0.7)
            moments = self.server("capture"), self.agent("capture", room.source)
            room.finish(room.start("capture", [room.source]), [room.source], *moments)
        for transport in ("http", "multicast"):
            for seat in room.seats:
                room.spoil(seat)
            moments = self.server(transport), self.agent(transport, room.seats[0])
            room.finish(room.start("deploy", room.seats, transport=transport), room.seats, *moments)
        self.forget(1)
        assert room.job("/store:prune", self.server("prune"))["state"] == "done"
        self.learn()
        assert room.kills == 0
        assert min(self.work.values()) > 1 << 20, self.work

    def capture(self, *victims: str) -> None:
        """Something new is captured; every victim is killed once on the way, if its moment comes."""
        room, source = self.room, self.room.source
        room.renew(0.7)
        moments = [getattr(self, f"kill_{victim}")("capture", source) for victim in victims]
        before = len(room.versions())
        done = room.finish(room.start("capture", [source], max_attempts=6), [source], *moments)
        assert done["state"] == "done", done["tasks"]
        assert len(room.versions()) > before

    def deploy(self, transport: str, *victims: str) -> None:
        """Both seats are deployed to; the second one's agent is never killed, nor loses an attempt."""
        room, seats = self.room, self.room.seats
        for seat in seats:
            room.spoil(seat)
        moments = [getattr(self, f"kill_{victim}")(transport, seats[0]) for victim in victims]
        version = room.dice.choice(room.versions())["name"]
        identifier = room.start("deploy", seats, image=version, transport=transport, max_attempts=6)
        done = room.finish(identifier, seats, *moments)
        assert done["state"] == "done", done["tasks"]
        if "server" not in str(victims):
            bystander = next(task for task in done["tasks"] if task["host"] == seats[1].host)
            assert bystander["attempt"] == 1

    def prune(self) -> None:
        """The server dies over a prune; the next one finishes it."""
        room = self.room
        self.forget()
        job = room.job("/store:prune", self.server("prune"))
        if job.get("finished_at") is None and job:
            with pytest.raises(ApiProblem, match="Jobs are forgotten when the server starts again"):
                room.classroom.get(f"/jobs/{job['id']}")
        assert room.job("/store:prune")["state"] == "done"

    def capture_beside_prune(self) -> None:
        """A capture, and a prune that begins beside it: server and agent die."""
        room, source = self.room, self.room.source
        self.forget()
        room.renew(0.7)
        moments = [self.kill_agent("capture", source), self.kill_server("capture", source)]
        identifier = room.start("capture", [source], max_attempts=6)
        room.ask(lambda: room.classroom.call("POST", "/store:prune"))
        assert room.finish(identifier, [source], *moments)["state"] == "done"

    def forget(self, left: int = 2) -> None:
        """Delete old versions until so many are left; those in use stay."""
        for version in sorted(self.room.versions(), key=lambda version: int(version["number"]))[:-left]:
            try:
                self.room.classroom.call("DELETE", f"/images/debian/versions/{version['number']}")
            except ApiProblem as refused:
                if refused.status != 409 or not str(refused.problem["detail"]).endswith("."):
                    raise

    # --- victims ---

    def kill_agent(self, what: str, seat: Seat) -> Moment:
        return self.agent(what, seat)

    def kill_server(self, what: str, seat: Seat) -> Moment:
        return self.server(what)

    def kill_server_with_agent(self, what: str, seat: Seat) -> Moment:
        return self.server(what, seat)

    def kill_sender(self, what: str, seat: Seat) -> Moment:
        return self.sender(what, seat)


def test_whatever_is_killed_nothing_false_is_kept_or_called_done(room: KillRoom) -> None:
    killer = Killer(room)
    killer.calibrate()
    turns: tuple[Callable[[], None], ...] = (
        lambda: killer.capture("server", "agent"),
        lambda: killer.deploy("multicast", "server_with_agent", "agent"),
        killer.prune,
        lambda: killer.deploy("http", "agent"),
        lambda: killer.capture("server_with_agent"),
        lambda: killer.deploy("multicast", "agent", "sender"),
        killer.capture_beside_prune,
        lambda: killer.deploy("http", "server"),
        killer.prune,
        lambda: killer.deploy("multicast", "server"),
    )
    for number, turn in enumerate(itertools.cycle(turns)):
        if room.kills >= KILLS:
            break
        assert number < KILLS * 2, "the moments do not come"
        began = time.monotonic()
        turn()
        killer.learn()
        room.check_logs()
        print(f"turn {number % len(turns)}: {room.kills} kills, {time.monotonic() - began:.1f} s")
    # Nothing is left of it all: what the kills left behind is given back, and the whole store is sound.
    assert room.job("/store:prune")["state"] == "done"
    assert room.job("/store:verify")["result"]["damaged"] == 0


def test_a_host_whose_agent_is_always_killed_fails_with_a_sentence(room: KillRoom) -> None:
    """Half written, it is not said to hold anything, and it boots its own disk."""
    seat = room.seats[0]
    if not room.versions():
        room.finish(room.start("capture", [room.source]), [room.source])
    room.spoil(seat)
    identifier = room.start("deploy", [seat], max_attempts=2, force_full=True)
    moment = Moment(lambda: seat.sim().agent_pid, 40 << 20, tear, times=2)
    [task] = room.finish(identifier, [seat], moment)["tasks"]
    assert (task["state"], task["code"]) == ("failed", "agent-lost")
    assert "All 2 attempts are used up." in task["reason"]
    assert room.classroom.get(f"/hosts/{seat.host}")["held_manifest"] == ""
    assert seat.sim().boots[-1].kind == "local"
