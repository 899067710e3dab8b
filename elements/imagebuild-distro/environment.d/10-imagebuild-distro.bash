# DIB's debootstrap and dpkg elements read these; the plan sets the first three.
export DISTRO_NAME DIB_RELEASE DIB_DISTRIBUTION_MIRROR
export DIB_INIT_SYSTEM=systemd
# Interfaces are cloud-init's business: a static "auto eth0" fails on machines
# whose interface has another name.
export DIB_APT_MINIMAL_CREATE_INTERFACES=0
# The bootstrap itself, on the host: from all suites, so that nothing is installed twice
# (mmdebstrap takes a file of sources where it takes a URL), and with what DIB's own hooks
# need: systemd as init, sudo, python3. zstd: mkinitramfs picks its compressor when the
# kernel arrives. A build that is cut off is not used, so dpkg need not wait for the disk.
if [ -e "${IMAGEBUILD_APT_DIR:-}/bootstrap.list" ]; then
    DIB_DISTRIBUTION_MIRROR=$IMAGEBUILD_APT_DIR/bootstrap.list
    case $DIB_MMDEBSTRAP_EXTRA_ARGS in
        *force-unsafe-io*) ;;
        *)
            DIB_MMDEBSTRAP_EXTRA_ARGS+=" --dpkgopt=force-unsafe-io"
            DIB_MMDEBSTRAP_EXTRA_ARGS+=" --include=systemd-sysv,sudo,python3,zstd"
            ;;
    esac
    export DIB_MMDEBSTRAP_EXTRA_ARGS
fi
