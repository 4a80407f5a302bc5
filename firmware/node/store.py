"""Small files that survive a power cut, and the boot counter kept in one of them.

Theory: a new text is written beside the old file as NAME.new, flushed to the medium, and renamed
over it. A power cut at any step leaves the old text or the new one, never a mixture. littlefs and
POSIX replace on rename; FAT refuses to, so there the old file is removed first, and `load` takes
NAME.new when NAME is missing. Everything stored is a JSON object without objects in it, because a
cut one shows: its last character is not a brace (the end of a bare number would not be missed).

Files are written when something changed, never periodically: flash wears out. Not for hot paths.
"""

import errno
import json
import os


class Damaged(ValueError):
    """A stored file is there but cannot be used. str() is one line that begins with its name."""


class Store:
    """The files of one folder.

    folder: a path, made if it is missing (its parent must exist). fs, opener: os and open, or a
    test's double. Raises OSError from `save` only; a folder that cannot be made fails there.
    """

    def __init__(self, folder, fs=os, opener=open):
        self._folder = folder.rstrip("/") + "/" if folder else ""
        self._fs = fs
        self._open = opener
        if folder:
            try:
                fs.mkdir(folder.rstrip("/") or "/")
            except OSError:
                pass  # most often it exists; if it could not be made, save says so

    def load(self, name):
        """Return the object stored as `name`, or None when there is none.

        Raises Damaged when the file is there but unreadable or no JSON object.
        """
        text = self._read(name)
        if text is None:
            # Between FAT's remove and rename only NAME.new exists. A torn one here is a first
            # write that never finished: nothing was promised yet, so there is nothing to report.
            try:
                return _parse(name, self._read(name + ".new"))
            except Damaged:
                return None
        return _parse(name, text)

    def save(self, name, text):
        """Replace the file `name` by `text` (a JSON object) so that a power cut leaves one of the two.

        Raises OSError: disk full, read-only, no such folder; the old file is then still there.
        """
        path = self._folder + name
        new = path + ".new"
        f = self._open(new, "w")
        try:
            f.write(text)
            f.flush()  # this is an fsync on MicroPython's unix port; littlefs does it in close
            fsync = getattr(self._fs, "fsync", None)
            if fsync:
                fsync(f.fileno())
        finally:
            f.close()
        try:
            self._fs.rename(new, path)
        except OSError as e:
            if e.errno != errno.EEXIST:
                raise
            self._fs.remove(path)
            self._fs.rename(new, path)

    def _read(self, name):
        try:
            f = self._open(self._folder + name, "r")
        except OSError as e:
            if e.errno == errno.ENOENT:
                return None
            raise Damaged("%s: cannot be read: %s" % (name, e))
        try:
            # One page is plenty for both files; a bound keeps a runaway file from eating the heap.
            return f.read(4096)
        except (OSError, ValueError) as e:  # ValueError: not UTF-8
            raise Damaged("%s: cannot be read: %s" % (name, e))
        finally:
            f.close()


def parse(text):
    """Return the object that `text` (str or bytes) says in JSON.

    Raises ValueError: no JSON, or cut. MicroPython's own parser takes an object that lacks its last
    brace, which is just what a cut file looks like.
    """
    if not isinstance(text, str):
        text = text.decode()
    text = text.strip()
    if text[:1] == "{" and text[-1:] != "}":
        raise ValueError("cut")
    try:
        return json.loads(text)
    except RuntimeError:  # nested too deep, on CPython
        raise ValueError("nested")


def _parse(name, text):
    if text is None:
        return None
    try:
        value = parse(text)
    except ValueError:
        raise Damaged(name + ": is not JSON")
    if not isinstance(value, dict):
        raise Damaged(name + ": is not a JSON object")
    return value


def count_boot(store, clock_ms, urandom):
    """Count this start in boot.json.

    clock_ms: ms since 1970 or None; urandom: function of n that returns n random bytes.
    Returns (boot, line): this boot's number, 1 at the very first; and None or one line of trouble.

    The collector tells records apart by (node, boot, seq), so a number must not come twice. When
    the count is lost, the next one jumps far ahead of any count reached: to the clock's minutes
    since 1970, or, without a clock, to a random number of 24 bits.
    """
    line = None
    try:
        stored = store.load("boot.json")
        boot = 0 if stored is None else stored.get("boot")
        # The bound keeps the number a small int on 32-bit boards, with room to count on.
        if not isinstance(boot, int) or boot is True or not 0 <= boot < 0x3FFF0000:
            raise Damaged("boot.json: boot: must be a whole number")
        boot += 1
    except Damaged as e:
        if clock_ms is None:
            a = urandom(3)
            boot = 0x10000 + (a[0] << 16 | a[1] << 8 | a[2])
        else:
            boot = clock_ms // 60000
        line = "%s; counting on from boot %d" % (e, boot)
    try:
        store.save("boot.json", '{"boot": %d}\n' % boot)
    except OSError as e:
        line = "boot.json: cannot be written: %s; boot %d will come again" % (e, boot)
    return boot, line
