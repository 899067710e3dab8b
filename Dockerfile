# An image in which `imagebuild build` works.
#
#   docker build -t imagebuild .
#   docker run --rm --cap-add SYS_ADMIN --security-opt apparmor=unconfined \
#       -v imagebuild-cache:/cache -v ~/images:/images imagebuild build debian bookworm
#
# What a build needs beyond the rights that Docker gives every container, and why:
#   --cap-add SYS_ADMIN                   mount and pid namespaces of the privileged worker, its
#                                         mounts of /proc, /dev, tmpfs and overlays; for containers
#                                         that are preloaded, net, ipc, uts and cgroup namespaces
#                                         and a cgroup2 mount. Docker's seccomp profile then
#                                         permits these calls by itself.
#   --security-opt apparmor=unconfined    on hosts with AppArmor (Ubuntu), whose docker-default
#                                         profile denies every mount
#   a volume as /cache                    what is compiled is compiled in an overlay, and overlayfs
#                                         does not stack on the container's own. Without -v it is
#                                         an anonymous volume.
# With --cap-drop ALL these suffice beside SYS_ADMIN, all of them Docker's defaults (the tests
# build with them alone; engines that give less need them added):
#   CHOWN DAC_OVERRIDE FOWNER FSETID SETFCAP SETGID SETUID SYS_CHROOT (files and scripts of
#   packages), MKNOD (device nodes of the tree and of the worker's /dev).
# No devices, no --privileged, no host network, no docker socket.
#
# Mirroring from registry to registry, exports and Trove's configuration need no right at all.
# What mirrors know of their tags (lock files of lists that come with the tool) is in /cache, too.
# There is no registry (`mirror serve`), docker or buildah (`backup-image build`) in it.
#
# Building it needs BuildKit, for the secrets: the default since Docker 23, and to be had with
# DOCKER_BUILDKIT=1 before. Where packages come from is the builder's business and stays out of
# the image: proxies are Docker's predefined build arguments (--build-arg http_proxy=…, which no
# layer and no history keeps), apt's sources are those of the base, and
#   --secret id=pip.conf,src=FILE    pip's configuration: index, logins
#   --secret id=ca.pem,src=FILE      all CAs that apt and pip are to trust
# are mounted for single steps. An ARG for the index would be in `docker history`.
#
# BASE_IMAGE: Debian 12 is what the tests use. Images of Ubuntu need its keyring, which Debian 12
# does not have: an Ubuntu as the base, or --keyring with a file that is mounted.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS host
# The packages of any other host: scripts/setup.sh has the list. Without versions: the release of
# the base says which, and its security updates must get in.
# Mounts only on directories that exist: older BuildKits leave the mount points in the layer.
RUN --mount=type=bind,source=scripts,target=/mnt --mount=type=secret,id=ca.pem \
    bash -eu -o pipefail -c ' \
        if [ -e /run/secrets/ca.pem ]; then \
            echo "Acquire::https::CAInfo \"/run/secrets/ca.pem\";" > /tmp/apt.conf; \
            export APT_CONFIG=/tmp/apt.conf; \
        fi; \
        . /mnt/setup.sh; \
        apt-get update -q; \
        mapfile -t keyrings < <(keyring_packages); \
        need_packages "${build_packages[@]}" "${keyrings[@]}"; \
        apt-get clean; \
        rm -rf /tmp/apt.conf /var/lib/apt/lists/* /var/cache/debconf/*-old; \
        find /var/log -type f -delete'

FROM host AS build
WORKDIR /src
# The dependencies first, with an empty package: a change of the code does not install them anew.
COPY pyproject.toml ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    set -eu; \
    mkdir imagebuild elements profiles; \
    touch README.md; \
    echo '__version__ = "0"' > imagebuild/__init__.py; \
    if [ -e /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi; \
    if [ -e /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi; \
    python3 -m venv /opt/imagebuild; \
    /opt/imagebuild/bin/pip install -q --no-cache-dir --disable-pip-version-check .
COPY . .
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    set -eu; \
    if [ -e /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi; \
    if [ -e /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi; \
    /opt/imagebuild/bin/pip install -q --no-cache-dir --disable-pip-version-check \
        --no-deps --force-reinstall .

FROM host
LABEL org.opencontainers.image.title="imagebuild" \
      org.opencontainers.image.description="Builds guest images of OpenStack Trove" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/imagebuild /opt/imagebuild
ENV PATH=/opt/imagebuild/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    IMAGEBUILD_CACHE_DIR=/cache \
    IMAGEBUILD_IMAGES_DIR=/images \
    XDG_STATE_HOME=/cache/state
VOLUME ["/cache", "/images"]
# root: sudo would be one thing more to allow. The images belong to root on the host, too.
ENTRYPOINT ["imagebuild"]
CMD ["--help"]
