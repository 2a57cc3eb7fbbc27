"""Run one shell line and tell, on a descriptor, its exit code, seconds, processor seconds and peak memory.

``python -I -S launcher.py DESCRIPTOR LINE``. A process of its own, and a small one, since a child's peak begins with
that of whoever starts it: the benchmark's own 35 MB would hide what tar takes.
"""

import os
import sys
import time

descriptor, line = int(sys.argv[1]), sys.argv[2]
os.set_inheritable(descriptor, False)
started = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn("/bin/sh", ["sh", "-c", line], os.environ), 0)
seconds = time.perf_counter() - started
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
processor = usage.ru_utime + usage.ru_stime
os.write(descriptor, f"{os.waitstatus_to_exitcode(status)} {seconds} {processor} {peak}".encode())
