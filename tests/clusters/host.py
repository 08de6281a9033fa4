"""A host of its own on this machine: a real sshd on loopback, whose home is a scratch folder."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.serving import free_port, wait_for

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass(frozen=True)
class Host:
    """Where it is, and how it is entered."""

    home: Path
    port: int
    key: Path

    @property
    def proxy(self) -> str:
        """An ssh ProxyCommand to its port: Ray knows no other than 22."""
        return f"{sys.executable} {Path(__file__).with_name('proxy.py')} {self.port}"


@contextmanager
def host(scratch: Path) -> Iterator[Host]:
    """Start sshd; whoever comes in with the key finds `scratch/home` as their home."""
    home = scratch / "home"
    home.mkdir()
    (home / ".bashrc").write_text("# of this test\n")
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", scratch / name], check=True
        )
    keys = scratch / "authorized_keys"
    keys.write_text((scratch / "user.pub").read_text())
    keys.chmod(0o600)
    enter = scratch / "enter"
    enter.write_text(f'#!/bin/bash\nexport HOME={home}\ncd\nexec bash -c "$SSH_ORIGINAL_COMMAND"\n')
    enter.chmod(0o755)
    port = free_port()
    config = scratch / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {scratch / 'host'}\n"
        f"AuthorizedKeysFile {keys}\nStrictModes no\nPasswordAuthentication no\n"
        f"PermitRootLogin prohibit-password\nUsePAM no\nPidFile none\nForceCommand {enter}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", config])
    try:
        wait_for(process, port)
        yield Host(home, port, scratch / "user")
    finally:
        process.terminate()
        process.wait()


def user() -> str:
    """Who runs this, and so who can come in."""
    return getpass.getuser()


def lend_packages(home: Path) -> None:
    """Make `~/lhs-env` with this environment's packages, so that pip finds nothing to download."""
    environment = home / "lhs-env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    lib = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (lib / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ray = environment / "bin" / "ray"
    ray.write_text(f"#!{environment}/bin/python\nfrom ray.scripts.scripts import main\nmain()\n")
    ray.chmod(0o755)
