"""What comes onto a board: packages for mip, ROMFS images, `make flash` and `make deploy`.

__main__.py              the command lines
deploy.py  flash.py      the two commands; each failure is a Refused, one line
images.py  drive.py      what an image file is made for; the boot ROM's drive of an RP2 chip
device.py                a board on a serial port, by mpremote; its first words after a restart, by pyserial
stage.py   package.py    the tree of files that a board gets, ROMFS; the lists of lib/package*.json
boards.py                what boards/BOARD/board.json says
"""
