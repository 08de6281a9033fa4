"""Hosts of their own on this machine: a real sshd each, whose home is a scratch folder."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.serving import free_port, wait_for

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
BRIDGE, NETWORK = "lhs0", "198.51.100"
"""Of two hosts; a network that is set aside for examples."""
KEY = "ray_bootstrap_key.pem"


@dataclass(frozen=True)
class Host:
    """Where it is, and how it is entered."""

    home: Path
    address: str
    port: int
    key: Path

    @property
    def proxy(self) -> str:
        """An ssh ProxyCommand to its port: Ray knows no other than 22."""
        return f"{sys.executable} {Path(__file__).with_name('proxy.py')} {self.port}"


@contextmanager
def host(
    scratch: Path,
    *,
    address: str = "127.0.0.1",
    port: int | None = None,
    key: Path | None = None,
    inside: Sequence[str] = (),
) -> Iterator[Host]:
    """Start sshd; whoever comes in with the key finds `scratch/home` as their home.

    Parameters
    ----------
    scratch
        An empty folder for all that the host has.
    address, port
        Where sshd listens; a free port, if none is named.
    key
        The private key that opens it; one is made, if none is named.
    inside
        The command that another command is given to, to run on the host.
    """
    home = scratch / "home"
    home.mkdir()
    (home / ".bashrc").write_text("# of this test\n")
    make_key(scratch / "host")
    if key is None:
        key = make_key(scratch / "user")
    keys = scratch / "authorized_keys"
    keys.write_text(key.with_name(f"{key.name}.pub").read_text())
    keys.chmod(0o600)
    enter = scratch / "enter"
    enter.write_text(f'#!/bin/bash\nexport HOME={home}\ncd\nexec bash -c "$SSH_ORIGINAL_COMMAND"\n')
    enter.chmod(0o755)
    port = port or free_port()
    config = scratch / "sshd_config"
    config.write_text(
        f"ListenAddress {address}:{port}\nHostKey {scratch / 'host'}\n"
        f"AuthorizedKeysFile {keys}\nStrictModes no\nPasswordAuthentication no\n"
        f"PermitRootLogin prohibit-password\nUsePAM no\nPidFile none\nForceCommand {enter}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([*inside, SSHD, "-D", "-e", "-f", config])
    try:
        wait_for(process, port, address=address)
        yield Host(home, address, port, key)
    finally:
        process.terminate()
        process.wait()


def make_key(path: Path) -> Path:
    """Make an ssh key pair there."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@contextmanager
def two_hosts(scratch: Path) -> Iterator[list[Host]]:
    """Start two hosts with addresses of their own, in network namespaces joined by a bridge.

    Each has a `/tmp/ray` of its own too: no other Ray of this machine is seen there or sees them.
    What runs there ends with the block.
    """
    with ExitStack() as places:
        _ip("link", "add", BRIDGE, "type", "bridge")
        places.callback(_ip, "link", "delete", BRIDGE)
        _ip("address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        key = make_key(scratch / "user")
        found = []
        for number in (11, 12):
            name, address = f"lhs{number}", f"{NETWORK}.{number}"
            _ip("netns", "add", name)
            places.callback(_ip, "netns", "delete", name)
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            # Not with its namespace, which lives as long as the last process in it.
            places.callback(_ip, "link", "delete", name)
            _ip("link", "set", name, "master", BRIDGE, "up")
            for words in (
                ("address", "add", f"{address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
                # Ray takes the address by which it would leave the network.
                ("route", "add", "default", "via", f"{NETWORK}.1"),
            ):
                _ip("-netns", name, *words)
            folder = scratch / name
            for place in ("ray", "upper", "work"):
                (folder / place).mkdir(parents=True)
            Path("/tmp/ray").mkdir(exist_ok=True)
            # The head's Ray names its key by `~`, which ssh looks up where the user is registered.
            (folder / "upper" / KEY).symlink_to(folder / "home" / KEY)
            registered = pwd.getpwuid(os.geteuid()).pw_dir
            layers = f"lowerdir={registered},upperdir={folder}/upper,workdir={folder}/work"
            inside = [
                "ip", "netns", "exec", name, "unshare", "--mount", "sh", "-c",
                f"mount --bind {folder}/ray /tmp/ray && "
                f'mount -t overlay overlay -o {layers} {registered} && exec "$@"', "sh",
            ]  # fmt: skip
            places.callback(_end, name)
            one = host(folder, address=address, port=22, key=key, inside=inside)
            found.append(places.enter_context(one))
        yield found


def can_make_hosts() -> bool:
    """Whether this user may make network namespaces."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def _end(name: str) -> None:
    for pid in _ip("netns", "pids", name).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def user() -> str:
    """Who runs this, and so who can come in."""
    return getpass.getuser()


def lend_packages(home: Path) -> None:
    """Make `~/lhs-env` with this environment's packages, so that pip finds nothing to download."""
    environment = home / "lhs-env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    lib = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (lib / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # The environment's own would hide the one lent, and be too old for torch. With 0, pip builds
    # the project with what there is.
    pip = [environment / "bin" / "pip", "uninstall", "--quiet", "--yes", "setuptools"]
    subprocess.run(pip, check=True)
    (home / ".bashrc").write_text("export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0\n")
    ray = environment / "bin" / "ray"
    ray.write_text(f"#!{environment}/bin/python\nfrom ray.scripts.scripts import main\nmain()\n")
    ray.chmod(0o755)
