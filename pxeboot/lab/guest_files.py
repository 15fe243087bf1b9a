"""What is in the reference guest: its packages, its own files and the boot configuration (pure)."""

from __future__ import annotations

from dataclasses import dataclass

HOSTNAME = "reference"

PACKAGES = (
    # boots
    "linux-image-cloud-amd64", "initramfs-tools", "zstd", "grub-pc-bin", "grub-common", "grub2-common",
    "grub-efi-amd64-signed", "shim-signed", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "procps",
    # weighs something, as a real installation does
    "python3", "perl", "locales-all", "vim", "less", "man-db", "manpages",
)  # fmt: skip

# Run in the new system when all is installed. Root has no password: this guest lives in the lab only.
CUSTOMISE = (
    "systemctl enable systemd-networkd.service pxeboot-guest.service serial-getty@ttyS0.service",
    "systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer man-db.timer "
    "e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service "
    "systemd-pstore.service grub-common.service systemd-binfmt.service "
    "systemd-journal-catalog-update.service systemd-journal-flush.service systemd-network-generator.service",
    "passwd -d root",
    "truncate -s 0 /etc/machine-id",
    # Nothing to bring up to date at first boot (systemd-update-done.service(8)): saves ldconfig and friends.
    "touch -d 2030-01-01 /etc/.updated /var/.updated",
)


@dataclass(frozen=True)
class Facts:
    """Identities of the file systems: ext4 and swap UUIDs, FAT serial number as udev writes it
    (``ABCD-1234``).
    """

    root: str
    swap: str
    esp: str


def early_cfg(facts: Facts) -> str:
    """GRUB's first configuration: find the root by UUID, wherever the disk is. ``normal`` then reads
    grub.cfg.
    """
    return f"search.fs_uuid {facts.root} root\nset prefix=($root)/boot/grub\n"


def esp_cfg(facts: Facts) -> str:
    """The configuration beside the signed GRUB on the ESP, which is in ``normal`` already and has to be
    sent on.
    """
    return early_cfg(facts) + "configfile $prefix/grub.cfg\n"


def grub_cfg(facts: Facts, kernel: str) -> str:
    """GRUB's menu: one entry, one second."""
    return f"""set default=0
set timeout=1
insmod part_gpt
insmod ext2
search --no-floppy --fs-uuid --set=root {facts.root}
menuentry "Debian GNU/Linux ({HOSTNAME} image)" {{
	linux /boot/vmlinuz-{kernel} root=UUID={facts.root} ro console=tty0 console=ttyS0,115200n8 quiet
	initrd /boot/initrd.img-{kernel}
}}
"""


def overlay(facts: Facts) -> dict[str, tuple[int, str]]:
    """Files of the guest by path (relative to its root): mode and content."""
    return {
        "etc/hostname": (0o644, f"{HOSTNAME}\n"),
        "etc/hosts": (0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n"),
        "etc/fstab": (
            0o644,
            f"UUID={facts.root} / ext4 errors=remount-ro 0 1\n"
            f"UUID={facts.esp} /boot/efi vfat umask=0077,noauto,nofail 0 0\n"
            f"UUID={facts.swap} none swap sw,nofail 0 0\n",
        ),
        "boot/efi/.keep": (0o644, ""),
        "boot/grub/.keep": (0o644, ""),
        "etc/systemd/network/80-dhcp.network": (
            0o644,
            "[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n\n"
            # The lease belongs to the card, as for the firmware and the boot environment before.
            "[DHCPv4]\nClientIdentifier=mac\n",
        ),
        "etc/systemd/system/pxeboot-guest.service": (
            0o644,
            "[Unit]\nDescription=Say on the console who we are\nDefaultDependencies=no\n"
            "Before=systemd-journald.service systemd-udevd.service systemd-remount-fs.service\n\n"
            "[Service]\nType=oneshot\nExecStart=/usr/local/sbin/pxeboot-guest\n\n[Install]\nWantedBy=sysinit.target\n",
        ),
        "usr/local/sbin/pxeboot-guest": (
            0o755,
            """#!/bin/sh
# One line that tells whoever watches the console which system came up, and how.
firmware=bios secureboot=none
if [ -d /sys/firmware/efi ]; then
    firmware=uefi secureboot=off
    variable=/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
    # four bytes of attributes, then the value
    [ "$(od -An -tu1 -j4 -N1 "$variable" 2>/dev/null | tr -d ' ')" = 1 ] && secureboot=on
fi
read -r hostname </proc/sys/kernel/hostname
printf '\\npxeboot-guest: hostname=%s firmware=%s secureboot=%s\\n' \\
    "$hostname" "$firmware" "$secureboot" >/dev/ttyS0
""",
        ),
        # A small initramfs: only what finds a root file system on the lab's disks.
        "etc/initramfs-tools/conf.d/lab": (0o644, "MODULES=list\nCOMPRESS=zstd\nRESUME=none\n"),
        "etc/initramfs-tools/hooks/lab": (
            0o755,
            '#!/bin/sh\n[ "$1" = prereqs ] && exit 0\n. /usr/share/initramfs-tools/hook-functions\n'
            "manual_add_modules virtio_pci virtio_blk nvme ahci sd_mod ext4 crc32c\n",
        ),
        "etc/systemd/journald.conf.d/lab.conf": (0o644, "[Journal]\nStorage=volatile\n"),
        # A watched boot: systemd's own status lines would only delay the serial line.
        "etc/systemd/system.conf.d/lab.conf": (
            0o644,
            "[Manager]\nShowStatus=no\nDefaultTimeoutStopSec=10s\n",
        ),
    }
