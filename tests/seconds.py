"""How long something takes, so that two times can be compared on a busy machine."""

import gc
import time
from collections.abc import Callable


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call, the fewest of three, without the garbage collector, whose work grows with what other tests left behind."""
    found = []
    for _ in range(3):
        gc.disable()
        try:
            start = time.process_time()
            call()
            found.append(time.process_time() - start)
        finally:
            gc.enable()
    return min(found)
