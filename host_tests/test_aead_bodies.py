"""What boards run of coaplet.dtls, on CPython with a cryptolib of its own (shim/), against the package cryptography."""

import ast
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_LIB = _HERE.parent / "lib"
_SHIM = _HERE / "shim"
_RECORDS = 2500

_FUZZ = """
import random
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from coaplet.dtls import aead, gcm
assert aead.Ccm.__module__ == "coaplet.dtls.aead" and aead.aes.__module__ == "ecb_of_cryptography"
chance = random.Random(SEED)
work = aead.Work(1152)
sessions = []
for i in range(12):
    key = chance.randbytes(16)
    tag = (8, 16)[i & 1]
    if i < 9:
        sessions.append((aead.Ccm(key, tag), aead.Ccm(key, tag), AESCCM(key, tag), tag, 62))
    else:
        sessions.append((gcm.Gcm(key), gcm.Gcm(key), AESGCM(key), 16, 62))
for turn in range(RECORDS):
    tx, rx, judge, tag, most = chance.choice(sessions)
    if tag == 16 and turn % 4 and type(tx) is gcm.Gcm:
        continue  # GHASH by bytecode is slow
    n = chance.choice((chance.randrange(80), chance.randrange(400), chance.randrange(1400)))
    pos, aad_len = chance.randrange(30), chance.randrange(1, most + 1)
    nonce, aad, plain = bytearray(chance.randbytes(12)), bytearray(chance.randbytes(70)), chance.randbytes(n)
    sealed = judge.encrypt(bytes(nonce), plain, bytes(aad[:aad_len]))
    buf = bytearray(pos) + plain + bytes(tag + 3)
    tx.seal(work, nonce, aad, aad_len, buf, pos, n)
    assert buf == bytes(pos) + sealed + bytes(3), (turn, n, pos, aad_len)
    out = bytearray(n)
    forged = bytearray(buf)
    forged[pos + chance.randrange(n + tag)] ^= 1 << chance.randrange(8)
    assert rx.open(work, nonce, aad, aad_len, bytes(forged), pos, n, out) is False and out == bytes(n), turn
    assert rx.open(work, nonce, aad, aad_len, bytes(buf), pos, n, out) is True and out == plain, turn
print("END")
"""


def run(arguments: list[str], *folders: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=110, cwd=_HERE
    )


def test_thousands_of_records_are_those_of_cryptography():
    seed = random.randrange(1 << 30)
    done = run(["-c", _FUZZ.replace("SEED", str(seed)).replace("RECORDS", str(_RECORDS))], _SHIM, _LIB)
    assert done.stdout == "END\n", f"seed {seed}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("module", ["test_aead", "test_aead_code", "test_kdf"])
def test_what_boards_run_passes_the_device_tests_on_cpython(module: str):
    tree = ast.parse((_HERE / f"device/{module}.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    done = run([str(_HERE / "device/run.py"), f"{_SHIM}:{_HERE / 'device'}:{_LIB}", module, *names])
    assert [line for line in done.stdout.splitlines() if line[:5] in ("PASS ", "FAIL ", "SKIP ")] == [
        f"PASS {name}" for name in names
    ], done.stdout + done.stderr


def test_without_cryptography_coaplet_imports_and_coaps_says_in_one_line_what_is_missing(tmp_path: Path):
    (tmp_path / "cryptography.py").write_text("raise ImportError('no module named cryptography')\n")
    script = (
        "import coaplet, coaplet.dtls.aead as aead, coaplet.dtls.gcm as gcm, coaplet.dtls.kdf\n"
        "for make in (lambda: aead.Ccm(bytes(16), 8), lambda: gcm.Gcm(bytes(16))):\n"
        "    try:\n"
        "        make()\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    done = run(["-c", script], tmp_path, _LIB)
    line = "coaps needs the package cryptography: pip install cryptography\n"
    assert done.stdout == line * 2, done.stdout + done.stderr
