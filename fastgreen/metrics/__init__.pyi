from fastgreen.metrics.closest import Closest as Closest
from fastgreen.metrics.closest import closest_apc as closest_apc
from fastgreen.metrics.closest import closest_apec as closest_apec
from fastgreen.metrics.closest import time_to_closest_apc as time_to_closest_apc
from fastgreen.metrics.closest import time_to_closest_apec as time_to_closest_apec
from fastgreen.metrics.closest import ttcapc as ttcapc
from fastgreen.metrics.closest import ttcapec as ttcapec
from fastgreen.metrics.neighbours import accuracy_per_joule as accuracy_per_joule
from fastgreen.metrics.neighbours import carbon as carbon
from fastgreen.metrics.neighbours import ed2p as ed2p
from fastgreen.metrics.neighbours import edp as edp
from fastgreen.metrics.neighbours import embodied_carbon as embodied_carbon
from fastgreen.metrics.neighbours import energy_to_accuracy as energy_to_accuracy
from fastgreen.metrics.neighbours import netscore as netscore
from fastgreen.metrics.neighbours import sci as sci
from fastgreen.metrics.neighbours import time_to_accuracy as time_to_accuracy
from fastgreen.metrics.neighbours import zeus_cost as zeus_cost
from fastgreen.metrics.scores import apc as apc
from fastgreen.metrics.scores import apec as apec
from fastgreen.metrics.scores import weighted_consumption as weighted_consumption

__all__: list[str]
