"""`make firmware`: the image of a board, with the library and the node frozen in.

    image.py      the order: what is there already, the build, the image, what is checked of it
    toolchain.py  the compilers, out of Debian's packages, in build/firmware/toolchain
    source.py     MicroPython's source and what it is built with, out of Debian's packages, in build/firmware/source
    freeze.py     what stands between MicroPython's build and a board's manifest.py
    alignment.py  the check of what was frozen as machine code

and of the machines that QEMU emulates for device tests, which are MicroPython alone:

    machines.py   which there are
    qemu.py       the build
    bare.py       a script on one of them, with all that it imports

An image depends on its sources and on Debian's compiler alone, not on the machine, the folder or the day: the same
bytes each time, so figures that are measured on it can be compared.
"""
