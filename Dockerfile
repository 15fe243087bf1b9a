# The appliance in a container: needs the host's network (DHCP is broadcast, multicast does not cross Docker's bridge).
#   docker build -t pxeboot .
#   docker run --network host --cap-drop ALL --cap-add NET_BIND_SERVICE --cap-add NET_RAW --cap-add NET_ADMIN \
#       -v /etc/pxeboot:/etc/pxeboot:ro -v /var/lib/pxeboot:/var/lib/pxeboot pxeboot
FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
        python3 python3-venv ca-certificates iproute2 nftables iptables mmdebstrap debian-archive-keyring cpio zstd xz-utils \
        kmod partclone fdisk qemu-utils libisal2 procps \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/pxeboot
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python3 -m venv .venv && .venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pxeboot pxeboot
COPY dhcp dhcp
COPY tftp tftp
COPY imaging imaging
COPY api api
COPY webui webui
COPY scripts scripts
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e . && .venv/bin/python scripts/compile_translations.py
VOLUME /var/lib/pxeboot
# The boot environment is built into the volume once, with no more rights than above: docker run … bootenv build
ENTRYPOINT ["/opt/pxeboot/.venv/bin/pxeboot"]
CMD ["serve"]
