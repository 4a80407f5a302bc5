"""The boards that can be emulated, and what differs between them: image, flash, radio, first configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coaplet_tools.deploy import boards, images
from coaplet_tools.deploy.boards import Refused, WrongUsage
from coaplet_tools.deploy.stage import stage
from coaplet_tools.emulate import flash
from coaplet_tools.setup.places import BUILD, ROOT

__all__ = ("COLLECTOR_PORT", "MODELS", "PICO", "PICO_W", "Model")

COLLECTOR_PORT = 5685  # of the gateway: where a node on Wi-Fi finds the collector, wherever on this machine it is
_UF2_BLOCK, _UF2_HEAD, _UF2_DATA = 512, 32, 256


@dataclass(frozen=True)
class Model:
    board: str  # a folder of boards/
    known_as: str  # to rp2040py
    wifi: bool
    flash_size: int  # of its file system: MICROPY_HW_FLASH_STORAGE_BYTES of the image
    named: bytes  # what of its name is in its images, and in those of no other board; b"" is not looked for
    config: Mapping[str, object]

    def image(self, given: Path | None) -> Path:
        """Return the image to boot. Raises Refused."""
        if not self.wifi:
            return given or BUILD / "firmware" / self.board / "firmware.uf2"
        board = boards.get(self.board)
        if given is None:
            raise WrongUsage(f"which image? {images.advice(board)}")
        images.check(board, given)
        data = given.read_bytes()
        blocks = (data[at + _UF2_HEAD :][:_UF2_DATA] for at in range(0, len(data), _UF2_BLOCK))
        if self.named not in b"".join(blocks):
            raise Refused(f"{given.name} is no image for {self.board}: {images.advice(board)}")
        return given

    def files(self, folder: Path) -> dict[str, bytes]:
        """Return what is to be on its flash, by absolute paths. folder: for what is compiled. Raises Refused."""
        if not self.wifi:  # library and node are frozen in
            return {"/main.py": (ROOT / "firmware/main.py").read_bytes()}
        board = boards.get(self.board)
        return {f"/{path}": (folder / path).read_bytes() for path in stage(board, board.arch, folder)}


PICO = Model(
    board="RPI_PICO",
    known_as="pico",
    wifi=False,
    flash_size=flash.SIZE,
    named=b"",
    config={"name": "pico", "interval_s": 10, "collector": "coap://serial.dev.alt"},
)
PICO_W = Model(
    board="RPI_PICO_W",
    known_as="pico_w",
    wifi=True,
    flash_size=848 * 1024,
    named=b"Raspberry Pi Pico W",
    config={
        "name": "pico-w",
        "interval_s": 10,
        "collector": f"coap://10.0.0.1:{COLLECTOR_PORT}",
        "wifi_name": "RP2040PY-GUEST",
        "wifi_password": "emulated",  # any of 8 characters is taken
    },
)
MODELS = {model.board: model for model in (PICO, PICO_W)}
