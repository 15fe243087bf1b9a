#!/bin/busybox sh
# Called by busybox' udhcpc with what the DHCP server said in the environment; puts it on the interface.
# shellcheck disable=SC2154,SC2086

PATH=/usr/sbin:/usr/bin

case $1 in
deconfig)
    ip -4 address flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    ip address replace "$ip/${mask:-24}" ${broadcast:+broadcast "$broadcast"} dev "$interface" \
        valid_lft "${lease:-forever}" preferred_lft "${lease:-forever}"
    # An interface MTU of less than 576 (RFC 2132 §5.1: at least 68) is somebody's mistake.
    [ "${mtu:-0}" -ge 576 ] && ip link set "$interface" mtu "$mtu"
    if [ -n "$staticroutes" ]; then
        # RFC 3442: with classless routes the router option is ignored.
        set -- $staticroutes
        while [ $# -ge 2 ]; do
            if [ "$2" = 0.0.0.0 ]; then
                ip route replace "$1" dev "$interface"
            else
                ip route replace "$1" via "$2" dev "$interface" onlink
            fi
            shift 2
        done
    else
        # onlink: a router outside the subnet is legal (RFC 3442 mentions it, providers do it).
        for address in $router; do
            ip route replace default via "$address" dev "$interface" onlink
            break
        done
    fi
    # Multicast must leave by this card, also on a network without a router (and again after a lost lease).
    ip route replace 224.0.0.0/4 dev "$interface"
    {
        for address in $dns; do echo "nameserver $address"; done
        [ -n "$domain" ] && echo "search $domain"
    } > /run/resolv.conf
    # Values come from the network: digits and dots only, for a shell reads this file.
    {
        echo "PXEBOOT_ADDRESS=$(echo "$ip" | tr -cd 0-9.)"
        echo "PXEBOOT_DHCP_SERVER=$(echo "$serverid" | tr -cd 0-9.)"
    } > /run/pxeboot/lease.new && mv /run/pxeboot/lease.new /run/pxeboot/lease
    ;;
esac
exit 0
