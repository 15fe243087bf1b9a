#!/bin/busybox sh
# Called by busybox' uevent for each announcement of the kernel, whose words are in the environment (lib/kobject_uevent.c):
# a device that came after the start gets its driver.

[ "$ACTION" = add ] && [ -n "$MODALIAS" ] && exec /usr/sbin/modprobe -b -q -- "$MODALIAS"
exit 0
