from fastgreen import errors as errors
from fastgreen import estimate as estimate
from fastgreen import experiment as experiment
from fastgreen import metrics as metrics
from fastgreen import plot as plot
from fastgreen import ufuncs as ufuncs
from fastgreen.calibration import calibrate as calibrate
from fastgreen.catalog import channels as channels
from fastgreen.channel import Channel as Channel
from fastgreen.closest import Closest as Closest
from fastgreen.closest import closest_apc as closest_apc
from fastgreen.closest import closest_apec as closest_apec
from fastgreen.closest import time_to_closest_apc as time_to_closest_apc
from fastgreen.closest import time_to_closest_apec as time_to_closest_apec
from fastgreen.closest import ttcapc as ttcapc
from fastgreen.closest import ttcapec as ttcapec
from fastgreen.gpu_windows import GpuWindows as GpuWindows
from fastgreen.measurement import measure as measure
from fastgreen.monitor import Monitor as Monitor
from fastgreen.result import Result as Result
from fastgreen.result import load as load
from fastgreen.scores import apc as apc
from fastgreen.scores import apec as apec
from fastgreen.scores import weighted_consumption as weighted_consumption
from fastgreen.sweep import Sweep as Sweep
from fastgreen.sweep_file import open_sweep as open_sweep

__version__: str
__all__: list[str]
_HOME: dict[str, str | None]
