"""Facts about the chips below hwmon: the meaning of their labels, and the voltage of each current.

Facts are of the kernel's documentation of each driver (Documentation/hwmon), of vendors' documents where a row says so.
"""

from __future__ import annotations

from fastgreen._light_dataclass import dataclass

__all__ = ["CHIPS", "PAIRS", "Meaning", "meaning"]


@dataclass(frozen=True)
class Meaning:
    """What sensors of a chip show.

    Attributes
    ----------
    pattern : str
        Fits the whole label, or the beginning of the attribute's name ("power1"), which no language changes.
    role : str
        The word of `settlement` for such a sensor; "" for one that never counts.
    one : str
        Of what there can be one: "chip", "label" (each label of a chip), "socket" (each number that ends a name, on the
        whole machine) or "machine". A further one repeats the first.
    note : str or None
    kind : str
        "energy" for a counter of uJ where the name of the file says power; "" as the file's name says.
    refused : str
        Why the sensor is not read; "" where it is.
    """

    pattern: str
    role: str
    one: str = "chip"
    note: str | None = None
    kind: str = ""
    refused: str = ""


_IN_SOCKET = Meaning(r"Ecore\d+", "", "label", "inside its socket")
# AGX Orin has no VDD_IN: its three rails make up the module (NVIDIA, Jetson Linux Developer Guide). Of Orin Nano and NX
# VDD_IN holds the other two, of Thor VIN, which an INA238 measures.
_JETSON = (
    Meaning(r"VDD_IN|VIN|POM_5V_IN", "jetson-module", "machine", "the whole module, CPU and GPU included"),
    Meaning(
        r"VDD_CPU_CV|VDD_CPU_GPU_CV|VDD_CPU_SOC_MSS|POM_5V_CPU", "jetson-cpu-rail", "label", "a rail of the module"
    ),
    Meaning(r"VDD_GPU_SOC|VDD_GPU|VDD_SOC|VIN_SYS_5V0|POM_5V_GPU", "jetson-rail", "label", "a rail of the module"),
)

CHIPS: dict[str, tuple[Meaning, ...]] = {
    "amdgpu": (Meaning(r"PPT|slowPPT|power1", "amdgpu"),),
    "i915": (Meaning(r"energy1", "gpu"),),
    "xe": (Meaning(r"card|energy1", "gpu"), Meaning(r"pkg|energy2", "", "label", "inside the card")),
    "amd_energy": (Meaning(r"Esocket\d+", "amd-energy", "label"), _IN_SOCKET),
    "amd_hsmp_hwmon": (Meaning(r"power1", "amd-hsmp", "chip", "the whole socket"),),
    "altra_hwmon": (Meaning(r"Core Energy \d+", "altra-core", "label", "one core: the cores together are the CPU"),),
    "apm_xgene": (
        Meaning(r"CPU power|power1", "xgene-cpu"),
        Meaning(r"IO power|power2", "xgene-io", "chip", "the part of the chip for I/O, apart from its CPU"),
    ),
    "ina3221": _JETSON,
    "ina238": _JETSON,
}

# current -> voltage of the same rail. Of the INA219 and its kin in0 is the shunt; of the INA3221 in4 to in7 are.
_ONE_RAIL = {1: 1}
_ONE_RAIL_CHIPS = (
    "ina209 ina219 ina220 ina226 ina228 ina230 ina231 ina233 ina234 ina237 ina238 ina260 ina700 ina780 sq52206 sy24655"
)
PAIRS: dict[str, dict[int, int]] = {
    **dict.fromkeys(_ONE_RAIL_CHIPS.split(), _ONE_RAIL),
    "ina3221": {1: 1, 2: 2, 3: 3},
    "ltc2992": {1: 0, 2: 2},
    "max20730": {1: 2},
}


def meaning(driver: str, label: str, stem: str) -> Meaning | None:
    """What a sensor shows, by its label or by its attribute (`stem`: "power1"); None where that is not known."""
    import re

    for known in CHIPS.get(driver, ()):
        if re.fullmatch(known.pattern, label) or re.fullmatch(known.pattern, stem):
            return known
    return None
