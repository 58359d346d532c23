"""A step's worth of memory, freed and asked for again, in a thread as XLA's are; prints how many pages were cleared.

With the argument `kept`, after `keep_freed_memory`.
"""

import ctypes
import resource
import sys
import threading

from electra_jax import allocator

SIZE = 2**26


def main():
    if sys.argv[1] == "kept":
        allocator.keep_freed_memory()
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    faults = []

    def work():
        for _ in range(6):
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
            block = library.malloc(SIZE)
            ctypes.memset(block, 1, SIZE)
            library.free(block)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults[1])  # The first step's are new pages.


if __name__ == "__main__":
    main()
