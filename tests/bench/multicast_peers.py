"""The image that all multicast measurements send, and the peers that send it: Debian's udpcast and uftp."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, Runs
from imaging.store import ChunkStore
from tests.bench.lan import Lan, run, wait_until

PATIENCE = 150.0  # s
DROP_AFTER = "50"  # udpcast's --retries-until-drop


@dataclass
class Image:
    """The same random bytes as a chunk store for ours and as a plain file for udpcast."""

    manifest: Manifest
    store: Path
    plain: Path
    size: int
    sizes: list[int] = field(default_factory=list)  # of the frames

    @property
    def cut(self) -> int:
        """Bytes of the datagrams that one perfect turn takes."""
        return sum(-(-length // 1450) * 1472 for length in self.sizes)


def make_image(folder: Path, megabytes: int) -> Image:
    plain, names, sizes = folder / "image", [], []
    with ChunkStore(folder / "store", reserve=0) as store, open(plain, "wb") as file:
        for _ in range(megabytes):
            chunk = os.urandom(CHUNK_SIZE)
            file.write(chunk)
            names.append(hash_chunk(chunk))
            frame = compress(chunk)
            sizes.append(len(frame))
            store.add_frame(names[-1], frame)
        size = megabytes * CHUNK_SIZE
        manifest = Manifest([DiskImage(size, 512, None, (), Runs([(0, size)]), b"".join(names))])
        store.put_manifest(manifest.to_bytes(), bytes(64))
    return Image(manifest, folder / "store", plain, size, sizes)


def blank(folder: Path, host: int, size: int) -> Path:
    path = folder / f"target{host}"
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def udp_receiver(net: Lan, folder: Path, host: int, *more: str) -> subprocess.Popen[str]:
    where = more or ("--file", str(blank(folder, host, 0)))
    command = ("udp-receiver", *where, "--interface", "eth0", "--nokbd", "--no-progress")
    return net.start(net.hosts[host], *command, "--exit-wait", "50", stdout=-3, stderr=-3)


def udp_sender(
    net: Lan, image: Image, receivers: int, *more: str
) -> tuple[subprocess.Popen[str], Callable[[], float]]:
    """The sender, and a function that waits until it begins to send and says when that was."""
    command = ("udp-sender", "--file", str(image.plain), "--interface", "eth0", "--full-duplex")
    waits = ("--nokbd", "--no-progress", "--min-receivers", str(receivers), *more)
    process = net.start(net.server, *command, *waits, stdout=-3, stderr=-1)

    def began() -> float:
        for line in process.stderr:
            if line.startswith("Starting transfer"):
                return time.monotonic()
        raise RuntimeError("udp-sender ended before it began")

    return process, began


def finished(image: Image, folder: Path, hosts: Sequence[int], patience: float = PATIENCE) -> float:
    """When the last of these hosts' files was complete. Raises TimeoutError.

    The program may end later, or never, when the sender's good-bye is lost: nobody waits for that.
    """
    for host in hosts:
        target = folder / f"target{host}"
        wait_until(f"udpcast at receiver {host}", lambda at=target: at.stat().st_size >= image.size, patience)
    return time.monotonic()


def same(image: Image, folder: Path, hosts: Sequence[int]) -> None:
    for host in hosts:
        run("cmp", str(image.plain), str(folder / f"target{host}"))


def half_written(target: Path, size: int) -> None:
    wait_until(f"half of {target.name}", lambda: target.stat().st_size >= size / 2, PATIENCE)


def udpcast(net: Lan, image: Image, folder: Path, hosts: int) -> float:
    """Seconds until all hosts have the image. Raises TimeoutError after 40 s."""
    for host in range(hosts):
        udp_receiver(net, folder, host)
    time.sleep(0.3)  # who is not there yet is only found at the next of the sender's hellos
    _, start = udp_sender(net, image, hosts)
    began = start()
    seconds = finished(image, folder, range(hosts), 40) - began
    same(image, folder, range(hosts))
    return seconds


def uftp(net: Lan, image: Image, folder: Path, hosts: int, mbit: float) -> float:
    """Seconds that uftp says it took to give all hosts the image at this rate.

    Raises FileNotFoundError where it is not installed, RuntimeError or TimeoutError when a host did not
    get the image.
    """
    if shutil.which("uftp") is None or shutil.which("uftpd") is None:
        raise FileNotFoundError("not installed")
    places = [folder / f"uftp{host}" for host in range(hosts)]
    for host, place in enumerate(places):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        command = (
            "uftpd",
            "-d",
            "-I",
            "eth0",
            "-B",
            str(8 << 20),
            "-D",
            str(place),
            "-F",
            str(place / "status"),
        )
        net.start(net.hosts[host], *command, stdout=-3, stderr=-3)
    time.sleep(0.5)
    command = ("uftp", "-I", "eth0", "-R", str(int(mbit * 1000)), "-B", str(8 << 20), str(image.plain))
    done = net.run(net.server, *command, check=False)
    said = done.stdout + done.stderr
    found = re.search(r"Total elapsed time: +([0-9.]+)", said)
    if found is None:
        raise RuntimeError("it did not say that it was done")
    for place in places:
        target = place / image.plain.name
        # It puts the file in its place a moment after it has said so.
        wait_until(
            f"the image at {place.name}", lambda at=target: at.exists() and at.stat().st_size == image.size, 5
        )
        run("cmp", str(image.plain), str(target))
        shutil.rmtree(place)
    return float(found[1])
