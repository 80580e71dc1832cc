from fastgreen import distributed as distributed
from fastgreen import errors as errors
from fastgreen import estimate as estimate
from fastgreen import experiment as experiment
from fastgreen import export as export
from fastgreen import metrics as metrics
from fastgreen import plot as plot
from fastgreen import ufuncs as ufuncs
from fastgreen.measuring.calibration import calibrate as calibrate
from fastgreen.measuring.gpu_windows import GpuWindows as GpuWindows
from fastgreen.measuring.ledger import current_span as current_span
from fastgreen.measuring.measure import measure as measure
from fastgreen.measuring.monitor import Monitor as Monitor
from fastgreen.metrics.closest import Closest as Closest
from fastgreen.metrics.closest import closest_apc as closest_apc
from fastgreen.metrics.closest import closest_apec as closest_apec
from fastgreen.metrics.closest import time_to_closest_apc as time_to_closest_apc
from fastgreen.metrics.closest import time_to_closest_apec as time_to_closest_apec
from fastgreen.metrics.closest import ttcapc as ttcapc
from fastgreen.metrics.closest import ttcapec as ttcapec
from fastgreen.metrics.scores import apc as apc
from fastgreen.metrics.scores import apec as apec
from fastgreen.metrics.scores import weighted_consumption as weighted_consumption
from fastgreen.metrics.stored_sweep import open_sweep as open_sweep
from fastgreen.metrics.sweep import Sweep as Sweep
from fastgreen.reports.compare import compare as compare
from fastgreen.reports.page import to_html as to_html
from fastgreen.results.loading import load as load
from fastgreen.results.loading import merge as merge
from fastgreen.results.result import Result as Result
from fastgreen.results.step_weights import fit_weights as fit_weights
from fastgreen.sensors.catalog import channels as channels
from fastgreen.sensors.channel import Channel as Channel

__version__: str
__all__: list[str]
_HOME: dict[str, str | None]
