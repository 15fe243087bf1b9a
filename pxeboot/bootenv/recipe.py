"""What goes into the boot environment: packages, programs, kernel modules, as plain data.

Changing anything here (or in the builder's other modules) changes the inputs hash of the base layer, so the
next build makes a new one. The agent, `init` and the other files that we write ourselves are a second, small
layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

SUITE = "trixie"
ARCHITECTURE = "amd64"
PYTHON = "python3.13"
MULTIARCH = "x86_64-linux-gnu"

# Our own code's place in the boot environment: PYTHONPATH of the agent.
AGENT_ROOT = "usr/lib/pxeboot"
# Files of this package that travel in the agent layer: name here -> (path in the boot environment, mode).
OWN_FILES: dict[str, tuple[str, int]] = {
    "init": ("init", 0o755),
    "hotplug.sh": (f"{AGENT_ROOT}/hotplug.sh", 0o755),
    "udhcpc.sh": (f"{AGENT_ROOT}/udhcpc.sh", 0o755),
    "selftest.py": (f"{AGENT_ROOT}/selftest.py", 0o644),
}

# Installed with their dependencies; of these only what is named below ends up in the boot environment.
PACKAGES: tuple[str, ...] = (
    "base-files",
    "btrfs-progs",
    "busybox",
    "console-data",
    "dmidecode",
    "dosfstools",
    "dropbear-bin",
    "e2fsprogs",
    "efibootmgr",
    "ethtool",
    "f2fs-tools",
    "fdisk",
    "gdisk",
    "grub-common",
    "grub-efi-amd64-signed",
    "grub-pc-bin",
    "hdparm",
    "iproute2",
    "ipxe",
    "kbd",
    "kmod",
    "libhivex0",
    "libisal2",
    "linux-image-amd64",
    "memtest86+",
    "memtester",
    "mount",
    "ncurses-base",
    "netbase",
    "ntfs-3g",
    "nvme-cli",
    "openssh-client",
    "openssh-sftp-server",
    "partclone",
    "python3",
    "python3-zstandard",
    "shim-signed",
    "smartmontools",
    "util-linux",
    "xfsprogs",
    "zstd",
)
# In Debian's component non-free-firmware: taken when the mirror has it, noted in bootenv.json when not.
FIRMWARE_PACKAGES: tuple[str, ...] = (
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-intel-misc",
    "firmware-misc-nonfree",
    "firmware-realtek",
)

# Name in the boot directory -> path in the packages.
BOOT_FILES: dict[str, str] = {
    "shimx64.efi": "usr/lib/shim/shimx64.efi.signed",
    # "net" is the build whose prefix is the directory it was loaded from, over TFTP or HTTP.
    "grubx64.efi": "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
    "undionly.kpxe": "usr/lib/ipxe/undionly.kpxe",
    "ipxe.efi": "usr/lib/ipxe/ipxe-amd64.efi",
    # iPXE in the form of a Linux kernel: for sites whose machines start with PXELINUX already.
    "ipxe.lkrn": "usr/lib/ipxe/ipxe.lkrn",
    "memtest.bin": "boot/memtest86+x64.bin",
    "memtest.efi": "boot/memtest86+x64.efi",
}
# GRUB for BIOS machines, which iPXE starts to boot one of several systems on the disk. Nobody signs it, so we
# put it together from Debian's modules; everything it may need is inside, for it loads no more.
GRUB_PC = "grub.0"
GRUB_PC_FORMAT = "i386-pc-pxe"
GRUB_PC_PREFIX = "(pxe)/grub"
GRUB_PC_MODULES: tuple[str, ...] = (
    "biosdisk",
    "part_msdos",
    "part_gpt",
    "ext2",
    "xfs",
    "btrfs",
    "fat",
    "exfat",
    "ntfs",
    "lvm",
    "mdraid1x",
    "iso9660",
    "loopback",
    "pxe",
    "net",
    "tftp",
    "http",
    "chain",
    "ntldr",
    "multiboot",
    "linux",
    "linux16",
    "drivemap",
    "parttool",
    "normal",
    "configfile",
    "minicmd",
    "echo",
    "test",
    "true",
    "regexp",
    "sleep",
    "ls",
    "cat",
    "probe",
    "search",
    "search_fs_file",
    "search_fs_uuid",
    "search_label",
    "loadenv",
    "gzio",
    "xzio",
    "zstd",
    "all_video",
    "vbe",
    "vga",
    "gfxterm",
    "font",
    "password_pbkdf2",
    "reboot",
    "halt",
)
# Its first words: iPXE says in "root path" (option 17) which configuration to read; else
# GRUB reads the one below its prefix. No `if` here: that is known from `normal` on.
GRUB_PC_START = "normal $net_pxe_rootpath\n"

# Names below usr/bin or usr/sbin. What is not here and busybox has, becomes a link to busybox.
PROGRAMS: tuple[str, ...] = tuple(
    f"""
    busybox kmod modprobe depmod insmod lsmod rmmod modinfo ip bridge
    blockdev blkid blkdiscard fdisk sfdisk sgdisk lsblk losetup partx wipefs nvme
    hdparm smartctl memtester dropbear dropbearkey
    unshare setpriv ssh-keygen
    mount umount findmnt mkswap swaplabel mke2fs mkfs.ext2 mkfs.ext3 mkfs.ext4 e2fsck fsck.ext4 resize2fs
    tune2fs dumpe2fs e2label debugfs e2image mkfs.fat mkfs.vfat fsck.fat fatlabel mkntfs mkfs.ntfs ntfs-3g
    mount.ntfs mount.ntfs-3g ntfsfix ntfsresize ntfsinfo ntfscat ntfscp ntfslabel ntfsls mkfs.xfs xfs_repair
    xfs_growfs xfs_db mkfs.btrfs btrfs btrfstune mkfs.f2fs fsck.f2fs resize.f2fs
    partclone.btrfs partclone.dd partclone.exfat partclone.ext2 partclone.ext3 partclone.ext4 partclone.extfs
    partclone.f2fs partclone.fat partclone.fat12 partclone.fat16 partclone.fat32 partclone.vfat partclone.hfsp
    partclone.hfsplus partclone.hfs+ partclone.ntfs partclone.ntfsfixboot partclone.ntfsreloc
    partclone.restore partclone.info partclone.chkimg partclone.imager partclone.xfs
    zstd unzstd zstdcat efibootmgr dmidecode ethtool lscpu {PYTHON} python3
    """.split()
)

# Loaded by dlopen, so no ELF header names them: glibc wants the first for pthread_cancel.
LIBRARIES: tuple[str, ...] = (
    f"usr/lib/{MULTIARCH}/libgcc_s.so.1",
    f"usr/lib/{MULTIARCH}/libhivex.so.0",  # the registry of a deployed Windows, by ctypes
    f"usr/lib/{MULTIARCH}/libisal.so.2",  # parity of multicast frames, by ctypes
    # What libhivex has iconv load to read the names of keys; without them keys have none.
    f"usr/lib/{MULTIARCH}/gconv/ISO8859-1.so",
    f"usr/lib/{MULTIARCH}/gconv/UTF-16.so",
)

# Plain files and directories taken as they are.
FILES: tuple[str, ...] = (
    "etc/mke2fs.conf",
    "etc/protocols",
    "etc/services",
    "usr/lib/os-release",
    "usr/lib/sftp-server",
    "usr/share/smartmontools/drivedb.h",
    f"usr/lib/{MULTIARCH}/gconv/gconv-modules",
    f"usr/lib/{MULTIARCH}/gconv/gconv-modules.cache",
    "usr/share/terminfo/d/dumb",
    "usr/share/terminfo/l/linux",
    "usr/share/terminfo/v/vt100",
    "usr/share/terminfo/v/vt220",
)

# Keyboard layouts for whoever types at the console: pxeboot.keymap= (else pxeboot.lang=) -> console-data's
# table.
KEYMAPS: dict[str, str] = {
    "be": "azerty/be-latin1",
    "ch": "qwertz/fr_CH-latin1",
    "de": "qwertz/de-latin1-nodeadkeys",
    "es": "qwerty/es",
    "fr": "azerty/fr-latin9",
    "it": "qwerty/it",
    "pt": "qwerty/pt-latin1",
    "uk": "qwerty/uk",
}

# Python's own library minus these (shell patterns on the path below the library's directory).
PYTHON_DROP: tuple[str, ...] = (
    "EXTERNALLY-MANAGED",
    "LICENSE.txt",
    "__phello__",
    "_a*_support.py",
    "_ios_support.py",
    "_osx_support.py",
    "_pyrepl",
    "_sysconfigdata_*",
    "antigravity.py",
    "cProfile.py",
    "config-*",
    "dbm",
    "doctest.py",
    "encodings/[b-hj-km-z]*[0-9]*.py",
    "encodings/mac_*.py",
    "ensurepip",
    "idlelib",
    "imaplib.py",
    "lib-dynload/_codecs_*",
    "lib-dynload/_ctypes_test*",
    "lib-dynload/_dbm*",
    "lib-dynload/_gdbm*",
    "lib-dynload/_multibytecodec*",
    "lib-dynload/_sqlite3*",
    "lib-dynload/_test*",
    "lib-dynload/_tkinter*",
    "lib-dynload/_xxtest*",
    "lib-dynload/xx*",
    "mailbox.py",
    "pdb.py",
    "poplib.py",
    "pydoc.py",
    "pydoc_data",
    "sitecustomize.py",
    "smtplib.py",
    "sqlite3",
    "test",
    "this.py",
    "tkinter",
    "turtle.py",
    "turtledemo",
    "unittest",
    "venv",
    "wsgiref",
    "xmlrpc",
)
# ... except these, which the pattern for encodings above would take away.
PYTHON_KEEP: tuple[str, ...] = (
    "encodings/cp437.py",
    "encodings/cp850.py",
    "encodings/cp1252.py",
    "encodings/utf_*.py",
)
PYTHON_PACKAGES: tuple[str, ...] = ("zstandard",)  # from Debian, below /usr/lib/python3/dist-packages

# Kernel modules, as patterns on the path below /lib/modules/RELEASE/kernel without ".ko*"; their dependencies
# come along.
MODULES: tuple[str, ...] = (
    # network: every wired card, USB adapters, hypervisors
    "drivers/net/ethernet/**",
    "drivers/net/hyperv/*",
    "drivers/net/mdio/**",
    "drivers/net/mii",
    "drivers/net/net_failover",
    "drivers/net/pcs/*",
    "drivers/net/phy/**",
    "drivers/net/usb/*",
    "drivers/net/virtio_net",
    "drivers/net/vmxnet3/*",
    "drivers/net/xen-netfront",
    "drivers/thunderbolt/**",
    "drivers/net/thunderbolt/**",
    "net/core/failover",
    "net/packet/af_packet",
    # storage
    "drivers/ata/**",
    "drivers/block/loop",
    "drivers/block/virtio_blk",
    "drivers/block/xen-blkfront",
    "drivers/cdrom/cdrom",
    "drivers/md/dm-mod",  # a smaller disk and its spill as one device (imaging.resize.mapper)
    "drivers/message/fusion/*",
    "drivers/mmc/**",
    "drivers/nvme/host/nvme",
    "drivers/nvme/host/nvme-core",
    "drivers/pci/controller/**",
    "drivers/scsi/**",
    "drivers/ufs/**",
    "drivers/usb/storage/**",
    # buses
    "drivers/hv/*",
    "drivers/platform/surface/**",
    "drivers/usb/common/**",
    "drivers/usb/core/**",
    "drivers/usb/host/**",
    "drivers/virtio/*",
    "drivers/char/hw_random/virtio-rng",
    # keyboards, also the ones of laptops behind I2C
    "drivers/acpi/button",
    "drivers/hid/**",
    "drivers/i2c/busses/i2c-designware*",
    "drivers/input/keyboard/**",
    "drivers/input/serio/**",
    "drivers/input/evdev",
    "drivers/mfd/intel-lpss*",
    "drivers/pinctrl/**",
    # file systems
    "fs/btrfs/*",
    "fs/efivarfs/*",
    "fs/exfat/*",
    "fs/ext4/*",
    "fs/f2fs/*",
    "fs/fat/*",
    "fs/fuse/fuse",
    "fs/nls/nls_ascii",
    "fs/nls/nls_cp437",
    "fs/nls/nls_cp850",
    "fs/nls/nls_iso8859-1",
    "fs/nls/nls_iso8859-15",
    "fs/nls/nls_ucs2_utils",
    "fs/nls/nls_utf8",
    "fs/ntfs3/*",
    "fs/xfs/*",
    # checksums that file systems ask for by name at run time
    "arch/x86/crypto/crc32*",
    "crypto/crc32*",
    "lib/libcrc32c",
)
MODULES_DROP: tuple[str, ...] = (
    # switches, smart cards and data-centre fabrics: not in a room's machines, and large
    "drivers/net/ethernet/chelsio/**",
    "drivers/net/ethernet/fungible/**",
    "drivers/net/ethernet/huawei/**",
    "drivers/net/ethernet/intel/ice/**",
    "drivers/net/ethernet/mellanox/mlxsw/**",
    "drivers/net/ethernet/netronome/**",
    "drivers/net/ethernet/pensando/**",
    "drivers/net/ethernet/qlogic/qed*/**",
    "drivers/net/ethernet/sfc/**",
    "drivers/net/ethernet/amazon/**",
    "drivers/net/ethernet/brocade/**",
    "drivers/net/ethernet/cavium/**",
    "drivers/net/ethernet/cisco/**",
    "drivers/net/ethernet/emulex/**",
    "drivers/net/ethernet/google/**",
    "drivers/net/ethernet/microsoft/**",
    "drivers/net/ethernet/qlogic/netxen/**",
    "drivers/net/ethernet/qlogic/qlcnic/**",
    # keyboards with displays and synthesizers, which bring in DRM and ALSA
    "drivers/hid/hid-appletb*",
    "drivers/hid/hid-picolcd*",
    "drivers/hid/hid-prodikeys",
    # Fibre Channel, iSCSI offload, targets
    "drivers/scsi/aic94xx/**",
    "drivers/scsi/be2iscsi/**",
    "drivers/scsi/bfa/**",
    "drivers/scsi/bnx2*/**",
    "drivers/scsi/csiostor/**",
    "drivers/scsi/cxgbi/**",
    "drivers/scsi/elx/**",
    "drivers/scsi/fcoe/**",
    "drivers/scsi/fnic/**",
    "drivers/scsi/libfc/**",
    "drivers/scsi/lpfc/**",
    "drivers/scsi/qedf/**",
    "drivers/scsi/qedi/**",
    "drivers/scsi/qla*/**",
    "drivers/scsi/qla*",
    "drivers/scsi/scsi_debug",
    "drivers/scsi/st",
    "drivers/scsi/osst",
    # phones and modems
    "drivers/net/usb/hso",
    "drivers/usb/gadget/**",
)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the shell patterns fits: `*` stays in a directory, a trailing `/**` is all below."""
    parts = path.split("/")
    return any(_fits(parts, pattern.split("/")) for pattern in patterns)


def _fits(parts: list[str], pattern: list[str]) -> bool:
    if pattern[-1] == "**":
        pattern = pattern[:-1]
        if len(parts) <= len(pattern):
            return False
        parts = parts[: len(pattern)]
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))
