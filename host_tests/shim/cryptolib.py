"""cryptolib for CPython: with this folder on sys.path, coaplet.dtls runs what it runs on a board."""

import importlib.util
import sys
from pathlib import Path

# ecb.py asks for cryptolib first, which is this file: it is loaded as if there were none
_spec = importlib.util.spec_from_file_location("ecb_of_cryptography", Path(__file__).parent.parent / "device/ecb.py")
assert _spec and _spec.loader
_module = importlib.util.module_from_spec(_spec)
_self = sys.modules.pop(__name__, None)
sys.modules[__name__] = None  # pyright: ignore[reportArgumentType]
try:
    _spec.loader.exec_module(_module)
finally:
    del sys.modules[__name__]
    if _self is not None:
        sys.modules[__name__] = _self

aes = _module.aes
