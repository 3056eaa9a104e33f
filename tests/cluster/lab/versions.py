"""What the lab is made of: versions, package lists, and where built things are kept."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from tests.servers import ceph

ROOT = Path(__file__).resolve().parents[3]
CLUSTER_DIR = ROOT / "tests" / "cluster"

KUBERNETES = "v1.36.4"
HELM = "v3.22.0"
SUITE = "bookworm"

DEBIAN_PACKAGES = {
    # package -> a program or file that shows that it is there
    "containerd": "/usr/bin/containerd",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "buildah": "/usr/bin/buildah",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    **ceph.PACKAGES,
    "xfsprogs": "/usr/sbin/mkfs.xfs",
    "e2fsprogs": "/usr/sbin/mkfs.ext4",
    "nftables": "/usr/sbin/nft",
    "iproute2": "/usr/sbin/ip",
    "gpg": "/usr/bin/gpg",
}

CSI_DRIVER = "test.csi.blockvault.dev"


def cache_dir() -> Path:
    """Directory outside the tree for binaries and images; survives the lab, shared by all of them."""
    chosen = os.environ.get("BLOCKVAULT_CACHE")
    path = Path(chosen) if chosen else Path.home() / ".cache" / "blockvault"
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(texts: Iterable[str], paths: Iterable[Path] = ()) -> str:
    """Short hash over texts and over the names and bytes of files (directories: every source file below)."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode() + b"\0")
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" in file.parts or file.suffix == ".pyc":
                continue
            found.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]
