"""Windows on a GPU's own timeline, for PyTorch and CuPy, without waiting for the GPU at their edges."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fastgreen.errors import FastgreenError
from fastgreen.guards.printable import encodable
from fastgreen.measuring.gpu_timeline import Edge, Events, Timeline

if TYPE_CHECKING:
    from fastgreen.measuring.window_handles import WindowHandles


class HasWindows(Protocol):
    """What GPU windows are added to: a `Monitor`."""

    window_handles: WindowHandles


__all__ = ["CupyEvents", "GpuWindow", "GpuWindows", "TorchEvents"]


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise FastgreenError(f"GPU windows of {name} need {name}: pip install 'fastgreen[{extra}]'") from error


class TorchEvents:
    """CUDA events of PyTorch, on the stream current at each edge. `torch` is the module, if not the installed one."""

    def __init__(self, device: int = 0, torch: Any = None) -> None:
        self._cuda = (torch or _library("torch", "torch")).cuda
        if not self._cuda.is_available():
            raise FastgreenError("GPU windows need a CUDA device, and torch.cuda.is_available() is False")
        if not 0 <= device < self._cuda.device_count():
            raise ValueError(f"device must be one of the {self._cuda.device_count()} that PyTorch sees, not {device!r}")
        self._device = device

    def create(self) -> Any:
        return self._cuda.Event(enable_timing=True)

    def record(self, event: Any) -> None:
        event.record(self._cuda.current_stream(self._device))

    def query(self, event: Any) -> bool:
        return event.query()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end)

    def synchronize(self) -> None:
        self._cuda.synchronize(self._device)


class CupyEvents:
    """CUDA events of CuPy, on the stream current at each edge. `cupy` is the module, if not the installed one."""

    def __init__(self, device: int = 0, cupy: Any = None) -> None:
        self._cuda = (cupy or _library("cupy", "cupy")).cuda
        if not self._cuda.is_available():
            raise FastgreenError("GPU windows need a CUDA device, and cupy.cuda.is_available() is False")
        count = self._cuda.runtime.getDeviceCount()
        if not 0 <= device < count:
            raise ValueError(f"device must be one of the {count} that CuPy sees, not {device!r}")
        self._device = self._cuda.Device(device)

    def create(self) -> Any:
        with self._device:
            return self._cuda.Event()

    def record(self, event: Any) -> None:
        with self._device:
            event.record()

    def query(self, event: Any) -> bool:
        return event.done

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return self._cuda.get_elapsed_time(start, end)

    def synchronize(self) -> None:
        self._device.synchronize()


_METHODS = ("create", "record", "query", "elapsed_ms", "synchronize")
_BACKENDS: dict[str, Callable[[int], Events]] = {"torch": TorchEvents, "cupy": CupyEvents}


class GpuWindow:
    """A named stretch of GPU time; made by `GpuWindows.window`, used by one thread, as often as wanted."""

    def __init__(self, name: str, owner: GpuWindows) -> None:
        self.name = name
        self._owner = owner
        self._begun: Edge | None = None

    def __repr__(self) -> str:
        return f"<fastgreen GPU window {self.name!r}>"

    @property
    def is_open(self) -> bool:
        return self._begun is not None

    def begin(self) -> None:
        """Record an event before the work. RuntimeError when it has begun already or the monitor is not running."""
        if self._begun is not None:
            raise RuntimeError(
                f"GPU window {self.name!r} was begun twice; for nested windows, ask the monitor for another handle"
            )
        self._begun = self._owner._begin(self)

    def end(self) -> None:
        """Record an event after the work. RuntimeError when it has not begun."""
        begun, self._begun = self._begun, None
        self._owner._end(self, begun)

    def __enter__(self) -> GpuWindow:
        self.begin()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()


class GpuWindows:
    """Windows with CUDA events in the current stream as edges, instead of moments of the CPU.

    CUDA runs behind the program that launches it, so a window of the CPU's time measures launches, and one that
    synchronises at its edges stalls the pipeline that it measures. These windows record an event at each edge and go
    on; where the events lay on CLOCK_MONOTONIC is worked out afterwards. In the result they are windows like any other.

    Making one waits for the GPU once, to take its time on both clocks, and so does the end of the measurement.

    Parameters
    ----------
    monitor : Monitor
        A running one.
    backend : str or Events
        ``"torch"``, ``"cupy"``, or an object with the methods of `fastgreen.measuring.gpu_timeline.Events`.
    device : int
        CUDA's index, as the library counts; NVML's can differ.

    Raises
    ------
    FastgreenError
        Where the library is not installed or sees no GPU.
    ValueError
        For an unknown backend or device.
    RuntimeError
        When the monitor is not running.
    """

    def __init__(self, monitor: HasWindows, backend: str | Events = "torch", device: int = 0) -> None:
        if isinstance(backend, str) and backend not in _BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(_BACKENDS)}, not {backend!r}")
        if not isinstance(backend, str) and not all(hasattr(backend, name) for name in _METHODS):
            raise TypeError(f"backend must have the methods {', '.join(_METHODS)}, not be {backend!r}")
        self._owner = monitor.window_handles
        self._handles: dict[tuple[int, str], GpuWindow] = {}
        self._open: set[GpuWindow] = set()
        self._finished = False
        self.notes: list[str] = []
        self._owner.check_running()
        self.backend, self.device = backend, device
        events = _BACKENDS[backend](device) if isinstance(backend, str) else backend
        self._timeline = Timeline(events, self._owner.add_lane)
        self._timeline.anchor()
        self._owner.deferred.append(self)

    def window(self, name: str) -> GpuWindow:
        """A handle for windows of this name. A thread gets the same handle again, unless it is open."""
        if not isinstance(name, str):
            raise TypeError(f"a window's name must be a string, not {name!r}")
        name = encodable(name)
        key = (threading.get_ident(), name)
        handle = self._handles.get(key)
        if handle is None or handle.is_open:
            handle = self._handles[key] = GpuWindow(name, self)
        return handle

    def anchor(self) -> None:
        """Wait for the GPU and compare the clocks again. Call it at a pause of a long run, such as after an epoch.

        Windows between two anchors become final at the second: a recording holds them from then on, and the drift of
        the clocks is taken out piece by piece.
        """
        with self._owner.lock:
            if not self._finished:
                self._timeline.anchor()

    def _begin(self, handle: GpuWindow) -> Edge | None:
        if self._finished:
            if self._owner.state == "inert":
                return None
            raise RuntimeError(f"GPU window {handle.name!r} was begun while its monitor was not running")
        edge = self._timeline.record()
        self._open.add(handle)
        return edge

    def _end(self, handle: GpuWindow, begun: Edge | None) -> None:
        self._open.discard(handle)
        if self._finished:
            return
        if begun is None:
            raise RuntimeError(f"GPU window {handle.name!r} was ended before it was begun")
        self._timeline.close(handle.name, begun)

    def become_inert(self) -> None:
        """Stop measuring in a forked child; CUDA does not work there either."""
        self._finished = True

    def finish(self) -> None:
        """End open windows, compare the clocks a last time, and place all windows in time; `notes` reports problems.

        This may run in another thread than the one of the work, whose current stream is another: so an open window ends
        when the GPU has done everything that it was given.
        """
        if self._finished:
            return
        try:
            if self._open:
                self._timeline.wait()
            for handle in sorted(self._open, key=lambda h: h.name):
                handle.end()
                self.notes.append(f"GPU window {handle.name!r} was still open at the end, and was ended there")
            self._finished = True
            self._timeline.anchor()
        except RuntimeError as error:  # what PyTorch and CuPy raise for every error of CUDA
            self._finished = True
            lost = self._timeline.give_up()
            self.notes.append(f"the GPU failed at the end, so its last windows ({lost}) are lost: {error}")
