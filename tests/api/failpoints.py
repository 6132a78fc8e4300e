"""Failpoints of the daemons (base/failpoint.h) as a test uses them: a list of those that a program has, which of them
were reached, and an order to die or to stand still at one."""
import os
import struct

from pool import Daemon, program, until


def listed(name):
    """Places in a built program: what its section corral_failpoints holds."""
    with open(program(name), "rb") as file:
        head = file.read(64)
        sections, = struct.unpack_from("<Q", head, 0x28)
        size, count, names = struct.unpack_from("<HHH", head, 0x3A)
        file.seek(sections)
        table = [struct.unpack_from("<IIQQQQ", file.read(size)) for _ in range(count)]

        def read(entry):
            file.seek(entry[4])
            return file.read(entry[5])
        texts = read(table[names])
        for entry in table:
            if texts[entry[0]:].startswith(b"corral_failpoints\0"):
                return sorted({text.decode() for text in read(entry).split(b"\0") if text})
    raise AssertionError(f"{name} has no failpoints")


def covers(listed_place, reached):
    """Is what was reached the one in the list? NAME:* is any NAME:DETAIL."""
    return reached == listed_place or listed_place.endswith(":*") and reached.startswith(listed_place[:-1])


class Points:
    """One daemon's failpoints, in a folder that it looks into while it runs."""

    def __init__(self, folder):
        self.folder = folder
        os.mkdir(folder)

    def start(self, daemon: Daemon, port_file):
        return daemon.start(port_file, points=self.folder)

    def _path(self, name):
        return os.path.join(self.folder, name)

    def forget(self):
        for name in ("reached", "armed"):
            if os.path.exists(self._path(name)):
                os.unlink(self._path(name))

    def reached(self):
        """In the order in which they were first reached."""
        try:
            with open(self._path("reached"), encoding="ascii") as file:
                return list(dict.fromkeys(file.read().split("\n")[:-1]))
        except FileNotFoundError:
            return []

    def arm(self, order, place):
        """`order`: kill, stop; hold: that thread alone, until release."""
        with open(self._path("new"), "w", encoding="ascii") as file:
            file.write(f"{order} {place}")
        os.rename(self._path("new"), self._path("armed"))

    def disarm(self):
        """True: it had not been reached."""
        try:
            os.unlink(self._path("armed"))
        except FileNotFoundError:
            return False
        return True

    @property
    def held(self):
        return os.path.exists(self._path("held"))

    def release(self):
        os.unlink(self._path("held"))

    @property
    def hit(self):
        return not os.path.exists(self._path("armed"))


def wait_stopped(process):
    """Until every thread of it stands still."""
    def stopped():
        tasks = f"/proc/{process.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/stat", encoding="ascii", errors="replace") as file:
                if file.read().rpartition(")")[2].split()[0] != "T":
                    return False
        return True
    until(f"{process.name} stands still", stopped, 60)
