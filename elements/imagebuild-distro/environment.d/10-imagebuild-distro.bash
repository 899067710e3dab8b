# DIB's debootstrap and dpkg elements read these; the plan sets the first three.
export DISTRO_NAME DIB_RELEASE DIB_DISTRIBUTION_MIRROR
export DIB_INIT_SYSTEM=systemd
# Interfaces are cloud-init's business: a static "auto eth0" fails on machines
# whose interface has another name.
export DIB_APT_MINIMAL_CREATE_INTERFACES=0
