"""make mpy, the packages for mip and the ROMFS image: what is in them is what they are to do, and runs."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from mpremote import mip

from coaplet_tools import mpy
from coaplet_tools.deploy import boards, package, stage
from coaplet_tools.setup.places import ROOT, Unavailable
from coaplet_tools.setup.state import program

# A request and its answer in one process, over a socket: server, client, discovery
BOTH = """
import asyncio
from coaplet import Node
node = Node("coap://127.0.0.1:PORT")
@node.resource("a", rt="x")
def a(request, response):
    response.text("served")
async def main():
    async with node:
        remote = await node.connect("coap://127.0.0.1:PORT")
        print((await remote.get("a")).text(), (await remote.get(".well-known/core")).text())
asyncio.run(main())
"""
SERVER = """
import asyncio
from coaplet import Loop, Node
node = Node("coap://127.0.0.1:PORT")
node.resource("a")(lambda request, response: response.text("served"))
async def main():
    async with node:
        try:
            await node.connect("coap://127.0.0.1")
            print("a client")
        except ImportError:
            print("served alone")
asyncio.run(main())
"""
CLIENT = """
import asyncio
from coaplet import Loop, Node, Timeout
from coaplet.sync import connect
async def main():
    async with Node() as node:
        remote = await node.connect("coap://127.0.0.1:9")
        try:
            await remote.get("a", timeout_ms=100)
        except Timeout:
            print("asked")
        try:
            node.resource("a")(lambda request, response: None)
            print("a server")
        except ImportError:
            print("alone")
asyncio.run(main())
"""


def micropython(script: str, path: Path | str, name: str = "micropython-amd64", *more: str) -> str:
    """Run a script on the unix port with a folder on sys.path; give what it printed."""
    try:
        command = [program(name), "-X", "heapsize=1M", *more, "-c", script]
    except Unavailable as reason:
        pytest.skip(str(reason))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:  # MicroPython cannot ask for a free one
        free.bind(("127.0.0.1", 0))
        command[-1] = script.replace("PORT", str(free.getsockname()[1]))
    environment = {**os.environ, "MICROPYPATH": f"{path}:.frozen"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- make mpy ---


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make what is built go to a folder of the test's."""
    (tmp_path / "lib").symlink_to(ROOT / "lib")
    monkeypatch.setattr(mpy, "ROOT", tmp_path)
    return tmp_path / "build/mpy"


def test_each_architecture_has_a_folder_and_a_package(home, capsys):
    assert mpy.main([]) == 0
    assert sorted(path.name for path in home.iterdir()) == sorted(mpy.ARCHITECTURES)
    for arch in mpy.ARCHITECTURES:
        files = sorted(str(path.relative_to(home / arch)) for path in (home / arch / "coaplet").rglob("*.*"))
        assert "coaplet/dtls/aead.mpy" in files and not any("_host" in name for name in files)
        urls = json.loads((home / arch / "package.json").read_text())["urls"]
        assert urls == [[name, name] for name in files]
        assert f"build/mpy/{arch}/coaplet" in capsys.readouterr().out or arch != mpy.ARCHITECTURES[0]


def test_machine_code_is_in_all_of_them_but_bytecode(home):
    mpy.main([])
    for arch in mpy.ARCHITECTURES:
        # The header of an .mpy: M, version, architecture and sub-version, bits of an int
        module = "wire" if arch in mpy.MOST_NAMES else "node"
        head = (home / arch / f"coaplet/{module}.mpy").read_bytes()[:4]
        assert head[:2] == b"M\6"
        assert (head[2] >> 2 == 0) == (mpy.machine_code(arch) is None), arch


def test_one_architecture_leaves_the_others_alone_and_another_is_wrong_usage(home, capsys):
    assert mpy.main(["--arch", "armv6m"]) == 0
    assert [path.name for path in home.iterdir()] == ["armv6m"]
    with pytest.raises(SystemExit) as ended:
        mpy.main(["--arch", "z80"])
    assert ended.value.code == 2 and "armv6m" in capsys.readouterr().err


@pytest.mark.parametrize(("arch", "name"), [("x64", "amd64"), ("x86", "i386"), ("bytecode", "i386")])
def test_a_bundle_serves_and_asks(home, arch, name):
    mpy.main(["--arch", arch])
    assert micropython(BOTH, home / arch, f"micropython-{name}").startswith('served </a>;rt="x"')


@pytest.mark.parametrize("arch", mpy.MOST_NAMES)
def test_machine_code_is_not_written_where_it_does_not_find_its_names(arch, tmp_path):
    """mpy-cross 1.25 says nothing: on an RP2040 the bundle raised NameError, of a name that was none, and hung."""
    with pytest.raises(mpy.TooManyNamesError, match=rf"^node.mpy has \d+ names: machine code for {arch} finds "):
        mpy.compile_bundle(ROOT / "lib/coaplet", tmp_path, arch)
    assert not (tmp_path / "node.mpy").exists()
    mpy.compile_bundle(ROOT / "lib/coaplet", tmp_path, mpy.BYTECODE)


def test_the_most_names_that_machine_code_finds_are_taken_and_one_more_is_not(tmp_path):
    def write(count: int) -> Path:
        # in the table there are the file's name, the function's and the decorator's, too
        lines = "".join(f"    n{i}()\n" for i in range(count))
        (tmp_path / "m.py").write_text(f"import micropython\n\n\n@micropython.native\ndef f():\n{lines}")
        return tmp_path / "m.py"

    mpy.compile_file(write(1), tmp_path / "a", "armv6m")
    more = mpy._count_names((tmp_path / "a/m.mpy").read_bytes()) - 1
    most = mpy.MOST_NAMES["armv6m"]
    mpy.compile_file(write(most - more), tmp_path / "a", "armv6m")
    assert mpy._count_names((tmp_path / "a/m.mpy").read_bytes()) == most
    with pytest.raises(mpy.TooManyNamesError, match=f"has {most + 1} names"):
        mpy.compile_file(write(most - more + 1), tmp_path / "a", "armv6m")
    mpy.compile_file(write(most - more + 1), tmp_path / "a", mpy.BYTECODE)


# --- packages for mip ---


@pytest.mark.parametrize("file", package.PARTS)
def test_the_list_of_a_package_is_what_its_modules_import(file):
    assert (ROOT / "lib" / file).read_text() == package.text(file), "run: python -m coaplet_tools.deploy.package"


def test_every_module_of_the_library_is_in_the_whole_package():
    urls = json.loads((ROOT / "lib/package.json").read_text())["urls"]
    files = sorted(str(path.relative_to(ROOT / "lib")) for path in (ROOT / "lib/coaplet").rglob("*.py"))
    assert sorted(source for _, source in urls) == [name for name in files if not name.endswith("_host.py")]
    assert all(target == source for target, source in urls)


def test_imports_inside_functions_and_of_other_packages_do_not_count(tmp_path):
    (tmp_path / "a.py").write_text("import os\nfrom .b import x\ntry:\n    from . import c\nexcept ImportError: pass\n")
    (tmp_path / "b.py").write_text("def f():\n    from .d import y\nclass X:\n    from .e import z\n")
    for name in "cde":
        (tmp_path / f"{name}.py").touch()
    assert package.modules(("a",), tmp_path) == ["a", "b", "c", "e"]


@pytest.mark.parametrize(
    ("file", "script", "printed"),
    [
        ("package.json", BOTH, 'served </a>;rt="x"\n'),
        ("package-server.json", SERVER, "served alone\n"),
        ("package-client.json", CLIENT, "asked\nalone\n"),
    ],
)
def test_a_package_does_what_its_name_says(file, script, printed, tmp_path):
    for target, source in json.loads((ROOT / "lib" / file).read_text())["urls"]:
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / target).write_bytes((ROOT / "lib" / source).read_bytes())
    assert micropython(script, tmp_path) == printed


class Files:
    """A board's file system, as mpremote's mip asks for it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders = {"/lib"}

    def fs_exists(self, path: str) -> bool:
        return path in self.files or path in self.folders

    def fs_mkdir(self, path: str) -> None:
        self.folders.add(path)

    def fs_writefile(self, path: str, data: bytes, progress_callback: object = None) -> None:
        assert path.rpartition("/")[0] in self.folders
        self.files[path] = data


@pytest.mark.parametrize("file", package.PARTS)
def test_mpremote_installs_a_package_from_its_path(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    board = Files()
    mip._install_package(board, f"lib/{file}", "", "/lib", None, True)
    assert board.files == {
        f"/lib/coaplet/{module}.py": (ROOT / f"lib/coaplet/{module}.py").read_bytes()
        for module in package.modules(package.PARTS[file])
    }


def test_mpremote_installs_what_make_mpy_has_made(home, monkeypatch):
    mpy.main(["--arch", "armv6m"])
    board = Files()
    mip._install_package(board, str(home / "armv6m/package.json"), "", "/lib", None, True)
    wanted = sorted(f"/lib/{path.relative_to(home / 'armv6m')}" for path in (home / "armv6m/coaplet").rglob("*.*"))
    assert sorted(board.files) == wanted and "/lib/coaplet/wire.mpy" in wanted


# --- ROMFS ---

MOUNT = """
import os, sys, vfs
with open(%r, "rb") as f:
    image = f.read()
vfs.mount(vfs.VfsRom(image), "/rom")
print(sorted(os.listdir("/rom")), sorted(os.listdir("/rom/lib")))
sys.path.insert(0, "/rom/lib")
%s
"""


@pytest.mark.parametrize("board", [name for name in boards.names() if name != "UNIX"])
def test_a_romfs_image_has_library_node_and_board(board, tmp_path):
    about = boards.get(board)
    image = stage.romfs(about, about.arch, tmp_path)
    listed = (
        'names = os.listdir("/rom/lib/coaplet") + os.listdir("/rom/lib/coaplet/dtls")\n'
        'print(all(name.endswith(".mpy") or name == "dtls" for name in names), os.listdir("/rom/lib/node"))'
    )
    printed = micropython(MOUNT % (str(image), listed), "")
    assert printed.startswith("['lib'] ['board.mpy', 'coaplet', 'node']\nTrue [")
    for module in ("app.mpy", "wifi.mpy"):
        assert module in printed


def test_the_library_and_the_node_run_from_a_romfs_image(tmp_path):
    image = stage.romfs(boards.get("UNIX"), "x64", tmp_path)
    script = BOTH + "import board, node.app\nprint(board.name, node.app.__file__, Node.__init__ is not None)"
    printed = micropython(MOUNT % (str(image), script), "").splitlines()
    assert printed[1].startswith('served </a>;rt="x"')
    assert printed[2] == "UNIX /rom/lib/node/app.mpy True"


def test_too_many_names_are_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(mpy.MOST_NAMES, "armv6m", 9)
    with pytest.raises(boards.Refused, match=r"^it does not compile for armv6m: \w+.mpy has \d+ names"):
        stage.stage(boards.get("RPI_PICO"), "armv6m", tmp_path / "tree")


def test_what_does_not_compile_is_told_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "BAD").mkdir()
    (tmp_path / "BAD/board.py").write_text("def f(:\n")
    monkeypatch.setattr(boards, "BOARDS", tmp_path)
    with pytest.raises(boards.Refused, match=r"^it does not compile for armv6m: .*SyntaxError"):
        stage.stage(boards.Board("BAD", "rp2", "rp2040", "armv6m", ()), "armv6m", tmp_path / "tree")
