"""The closed choices of a profile: each prints as the word itself."""

from __future__ import annotations

import enum


class Word(str, enum.Enum):
    """A closed choice of words; prints as the word itself."""

    def __str__(self) -> str:
        return str(self.value)


class Os(Word):
    """Distributions."""

    UBUNTU = "ubuntu"
    DEBIAN = "debian"


class Arch(Word):
    """Architectures, by Debian's names."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class DockerSource(Word):
    """Who packages docker: Docker Inc. or the distribution."""

    DOCKER_CE = "docker-ce"
    DOCKER_IO = "docker.io"


class Format(Word):
    """Image formats."""

    QCOW2 = "qcow2"
    RAW = "raw"
    VMDK = "vmdk"
    VHD = "vhd"


class Compression(Word):
    """Compression inside a qcow2 image."""

    ZSTD = "zstd"
    ZLIB = "zlib"
    NONE = "none"


class AgentMode(Word):
    """Where the guest takes the agent's code from."""

    INJECT = "inject"
    DEV = "dev"


class Series(Word):
    """Supported OpenStack series."""

    S2025_1 = "2025.1"
    S2025_2 = "2025.2"
    S2026_1 = "2026.1"
    S2026_2 = "2026.2"


class Datasource(Word):
    """Names that cloud-init's `datasource_list` knows (cloud-init, doc/rtd datasources)."""

    AKAMAI = "Akamai"
    ALIYUN = "AliYun"
    ALTCLOUD = "AltCloud"
    AZURE = "Azure"
    BIGSTEP = "Bigstep"
    CLOUDSIGMA = "CloudSigma"
    CLOUDSTACK = "CloudStack"
    CONFIGDRIVE = "ConfigDrive"
    DIGITALOCEAN = "DigitalOcean"
    EC2 = "Ec2"
    EXOSCALE = "Exoscale"
    GCE = "GCE"
    HETZNER = "Hetzner"
    IBMCLOUD = "IBMCloud"
    LXD = "LXD"
    MAAS = "MAAS"
    NOCLOUD = "NoCloud"
    NONE = "None"
    NWCS = "NWCS"
    OPENNEBULA = "OpenNebula"
    OPENSTACK = "OpenStack"
    ORACLE = "Oracle"
    OVF = "OVF"
    RBXCLOUD = "RbxCloud"
    SCALEWAY = "Scaleway"
    SMARTOS = "SmartOS"
    UPCLOUD = "UpCloud"
    VMWARE = "VMware"
    VULTR = "Vultr"
    WSL = "WSL"
