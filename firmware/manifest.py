# The node and the library, for MicroPython's build (FROZEN_MANIFEST). A board's own manifest
# includes this one and adds its board.py.
package("coaplet", base_path="../lib")
package("node")
module("main.py")
