"""The boot environment (kernel, and initramfs with the agent) and the boot files, built from Debian 13."""

from pxeboot.bootenv.build import BootEnv, BootFile, build, load
from pxeboot.bootenv.debian import BootEnvError, Mirror

__all__ = ["BootEnv", "BootEnvError", "BootFile", "Mirror", "build", "load"]
