"""Every registered machine in memory, for answers that may not wait for the database.

By MAC, else by SMBIOS UUID: name and state for the boot choice, reservation and options for DHCP.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlmodel import select

from dhcp.catalog import OptionError, parse_option
from dhcp.subnets import ClientSettings, Reservation
from pxeboot.boot.decide import HostFacts
from pxeboot.db.engine import Database
from pxeboot.db.models import Group, Host, HostMac, HostState
from pxeboot.events import Change, Journal
from pxeboot.services.lookup import uuid_readings

log = logging.getLogger(__name__)

RELOAD_SECONDS = 0.5  # let a burst of changed hosts become one reload
RETRY_SECONDS = 5.0
_FOLLOWED: Final = frozenset({"host", "group", "boot_entry"})


class KnownHosts:
    """`dhcp.subnets.HostSettings`, and who is who; follows the journal's changes.

    Tables are replaced as a whole, so any thread may ask while another reloads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_mac: dict[str, HostFacts] = {}
        self._by_uuid: dict[str, HostFacts] = {}
        self._settings_by_mac: dict[str, ClientSettings] = {}
        self._settings_by_uuid: dict[str, ClientSettings] = {}
        self._reserved: dict[str, str] = {}
        self.load()

    def load(self) -> None:
        """Read all of it (20,000 hosts: some 100 ms, in a thread)."""
        with self._database.read() as session:
            groups = {
                id: _encoded(options, f"group {name}")
                for id, name, options in session.exec(select(Group.id, Group.name, Group.dhcp_options)).all()
            }
            rows = session.exec(select(Host.id, Host.name, Host.state, Host.uuid)).all()
            said = session.exec(
                select(Host.id, Host.group_id, Host.reserved_address, Host.dhcp_options)
            ).all()
            macs = session.exec(select(HostMac.mac, HostMac.host_id).order_by(HostMac.mac)).all()
        facts = {id: HostFacts(name, HostState(state).value) for id, name, state, _uuid in rows}
        settings: dict[int | None, ClientSettings] = {}
        reserved: dict[int | None, str] = {}
        for id, group_id, address, options in said:
            inherited = groups.get(group_id) or {}
            name = facts[id].name
            merged = {**inherited, **_encoded(options, f"host {name}")} if options else inherited
            if address:
                reserved[id] = address
            if address or merged:
                own = Reservation(address, name) if address else None
                settings[id] = ClientSettings(reservation=own, options=merged)
        # A board's UUID may be shared by a whole batch: then it names nobody.
        readings = [(reading, id) for id, _n, _s, uuid in rows if uuid for reading in uuid_readings(uuid)]
        uses = Counter(reading for reading, _id in readings)
        uuids = [(reading, id) for reading, id in readings if uses[reading] == 1]
        self._by_mac = {mac: facts[id] for mac, id in macs if id in facts}
        self._by_uuid = {uuid: facts[id] for uuid, id in uuids}
        self._settings_by_mac = {mac: settings[id] for mac, id in macs if id in settings}
        self._settings_by_uuid = {uuid: settings[id] for uuid, id in uuids if id in settings}
        self._reserved = {reserved[id]: mac for mac, id in reversed(macs) if id in reserved}

    def find(self, mac: str, uuid: str) -> HostFacts | None:
        """The host of this MAC, else of this UUID (in either reading)."""
        return self._by_mac.get(mac) or (self._by_uuid.get(uuid) if uuid else None)

    def settings_of(self, mac: str, uuid: bytes | None) -> ClientSettings | None:
        """See `dhcp.subnets.HostSettings`. A host that is known by its MAC is not looked for by its UUID."""
        if uuid is None or mac in self._by_mac or not self._settings_by_uuid:
            return self._settings_by_mac.get(mac)
        return self._settings_by_uuid.get(str(UUID(bytes_le=uuid)))

    def reserved_to(self, address: str) -> str | None:
        """See `dhcp.subnets.HostSettings`."""
        return self._reserved.get(address)

    async def follow(self, journal: Journal) -> None:
        """Reload whenever a host or group has changed; ends when the journal stops."""
        with journal.subscribe(
            lambda message: isinstance(message, Change) and message.what in _FOLLOWED
        ) as live:
            while not live.closed:
                if await live.get(60.0) is not None:
                    await asyncio.sleep(RELOAD_SECONDS)
                    while not await asyncio.to_thread(self._loaded) and not live.closed:
                        await asyncio.sleep(RETRY_SECONDS)

    def _loaded(self) -> bool:
        """Load; False: the database fails for now. The machines we know are served meanwhile."""
        try:
            self.load()
        except Exception as error:
            log.error("hosts cannot be read again now, DHCP goes by what it knew: %s", error)
            return False
        return True


def _encoded(options: Mapping[str, Any], whose: str) -> dict[int, bytes]:
    """Options as bytes. What cannot be encoded is left out: the machine must still get an address."""
    found = {}
    for name, value in options.items():
        try:
            code, data = parse_option(name, value)
        except OptionError as error:
            log.warning("DHCP option of %s left out: %s", whose, error)
        else:
            found[code] = data
    return found
