# SPDX-License-Identifier: Apache-2.0
"""Hardware that is not there, as real things: no patches, only files, a shared library and a small program.

nvml.py         FakeNvml: a libnvidia-ml.so.1 built from nvml/*.c, scripted by a file, counting its calls
amdsmi.py       FakeAmdSmi: a libamd_smi.so, scripted by a file, with every fault known of one
programs.py     runs unmodified programs that load that library under its usual name
powercap.py     PowercapTree: RAPL zones whose counters stand, move (powercap_mover.c) or fail
hwmon.py        HwmonTree: the chips of AMD and Intel GPUs, EPYC, Jetson, Grace, Ampere, plain power meters
power_zones.py  powercap zones with a power: Arm's firmware, the kernel's model
power_supply.py a laptop's battery
cpus.py         which CPUs share a package, a die, a core
proc.py         ProcRoot: /proc/stat and /proc/cpuinfo
events.py       the kernel's event sources as a folder, a group of counters as a file or a stream
permissions.py  file modes that bind although the tests run as root
wave.py         power over time, its exact integral, the moments of updates; wave.h is the same in C
build.py        compiles the C parts once per content
"""
