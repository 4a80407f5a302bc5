"""Debian packages without root: a private apt whose every file is in build/apt, unpacked with dpkg-deb.

One instance an architecture, and one for source packages. Its package database is empty, so apt itself names
everything a program needs, down to the C library. Mirror, proxy and signing keys are the machine's own; signatures are
checked as usual.
"""

import platform
import subprocess
from pathlib import Path

from coaplet_tools.setup.places import BUILD, Unavailable, run, say

SUITE = "trixie"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Read by `apt -c`, so after the machine's own configuration.
_CONFIG = """\
APT::Architecture "{arch}";
#clear APT::Architectures;
APT::Architectures {{ "{arch}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::GzipIndexes "true";
Acquire::Retries "3";
Dir::State "{home}";
Dir::State::Lists "{home}/lists";
Dir::State::status "{home}/status";
Dir::Cache "{home}";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Cache::archives "{home}/archives";
Dir::Etc::SourceList "{home}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
"""


def debian_architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class Apt:
    def __init__(self, arch: str, *, sources: bool = False) -> None:
        self._arch = arch
        self._kind = "deb-src" if sources else "deb"
        self._home = BUILD / "apt" / ("source" if sources else arch)
        self._outcome: Unavailable | bool = False  # of the one update a run: not yet, done, or the reason why not

    def unpack(
        self,
        packages: tuple[str, ...],
        folder: Path,
        only: str = "",
        *,
        without: tuple[str, ...] = (),
        keep: bool = True,
    ) -> None:
        """Unpack packages and all they depend on.

        only: that one file of them. without: tar's patterns of what is left out; its `*` matches a `/`, too.
        keep: leave what was downloaded where it is, for the next time.
        """
        self._update()
        archives = self._home / "archives"
        install = self._command("install", "--yes", *packages)
        # Asked against an empty cache, as apt names only what is still to be downloaded: 'uri' file size hash
        answer = run([*install, "--print-uris", "-o", f"Dir::Cache::archives={self._home}/none"])
        sizes = {words[1]: int(words[2]) for words in map(str.split, answer.splitlines()) if words[0][0] == "'"}
        to_get = sum(size for name, size in sizes.items() if not (archives / name).exists())
        say(f"{packages[0]}:{self._arch}: {len(sizes)} packages of Debian {SUITE}, {to_get / 1e6:.1f} MB to download")
        run([*install, "--download-only"])
        for name in sizes:
            _unpack_one(archives / name, folder, only, without)
        if not keep:
            for name in sizes:
                (archives / name).unlink()

    def download_sources(self, packages: tuple[str, ...], folder: Path) -> None:
        """Download source packages as they are, archives and all, into a folder."""
        self._update()
        for package in packages:
            say(f"source of {package}, Debian {SUITE}")
            run(self._command("source", "--download-only", package), cwd=folder)

    def _command(self, *words: str) -> list[str]:
        return ["apt-get", "-c", str(self._home / "apt.conf"), "--quiet", *words]

    def _update(self) -> None:
        if isinstance(self._outcome, Unavailable):
            raise self._outcome
        if self._outcome:
            return
        try:
            self._try_mirrors()
            self._outcome = True
        except Unavailable as reason:
            self._outcome = reason
            raise

    def _try_mirrors(self) -> None:
        for folder in ("lists/partial", "archives/partial"):
            (self._home / folder).mkdir(parents=True, exist_ok=True)
        (self._home / "status").touch()
        (self._home / "apt.conf").write_text(_CONFIG.format(arch=self._arch, home=self._home))
        signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        reason = Unavailable("apt-get indextargets names no Debian mirror: is there one in the apt sources?")
        for mirror in _mirrors():
            (self._home / "sources.list").write_text(f"{self._kind} {signed}{mirror} {SUITE} main\n")
            what = self._arch if self._kind == "deb" else "sources"
            say(f"package index of Debian {SUITE} for {what}")
            try:
                run(self._command("update", "--error-on=any"))
                return
            except Unavailable as error:
                reason = error
        if "NO_PUBKEY" in str(reason) or "not signed" in str(reason):
            hint = "update the package debian-archive-keyring"
            raise Unavailable(f"this machine's keyring has no key of Debian {SUITE}: {hint} ({reason})")
        raise reason


def _unpack_one(package: Path, folder: Path, only: str, without: tuple[str, ...]) -> None:
    if not only and not without:
        run(["dpkg-deb", "--extract", package, folder])
        return
    words = [f"./{only}"] if only else [f"--exclude={pattern}" for pattern in without]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as contents:
        done = subprocess.run(
            ["tar", "-x", "-C", folder, *words], stdin=contents.stdout, check=False, capture_output=True, text=True
        )
    if not only and (done.returncode or contents.returncode):  # with `only`, most packages do not have that file
        why = done.stderr.strip().splitlines() or ["dpkg-deb failed"]
        raise Unavailable(f"{package.name} cannot be unpacked: {why[-1]}")


def _mirrors() -> list[str]:
    """List the machine's own Debian mirrors, those of security and updates left out."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    if system.get("ID") != "debian":
        raise Unavailable(f"{system.get('NAME', platform.system())} has no Debian packages")
    form = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)"
    targets = run(["apt-get", "indextargets", "--no-release-info", "--format", form])  # without: only after an update
    uris: dict[str, None] = {}
    for target in targets.splitlines():
        kind, component, release, uri = target.split(" ", 3)
        if kind == "Packages" and component == "main" and not set("-/") & set(release) and uri[:6] != "cdrom:":
            uris[uri] = None
    return list(uris)
