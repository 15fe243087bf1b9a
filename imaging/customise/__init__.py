"""What is done to a freshly deployed disk before it starts: names, keys, drivers, files, scripts.

``order`` reads what the server wants; ``run`` does it step by step; ``systems`` finds the systems on a disk,
``mounts`` mounts them unseen, ``tree`` touches their files without trusting them; ``linux``, ``windows``
(``hive``, ``unattend``) and ``scripts`` are the steps. docs/customising.md is the page for people.
"""

from imaging.customise.linux import rename_in_hosts
from imaging.customise.order import Order, from_task
from imaging.customise.run import Customiser, Source, set_hostname

__all__ = ["Customiser", "Order", "Source", "from_task", "rename_in_hosts", "set_hostname"]
