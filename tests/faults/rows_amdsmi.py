# SPDX-License-Identifier: Apache-2.0
"""Faults of AMD's library and of the energy counters that it shows. Each row names the tests that play it."""

from __future__ import annotations

from .model import Fault, Proof

NORMAL, HOSTILE = "tests/sensors/test_amdsmi.py", "tests/sensors/test_hostile_amdsmi.py"


def row(name: str, seen: str, *proofs: tuple[str, str, str]) -> Fault:
    """Of each proof: the answer, the file and the name of the test."""
    return Fault(name, seen, (), tuple(Proof(words, f"{file}::test_{test}") for words, file, test in proofs))


ROWS = [
    row(
        "AMD's library crashes while it is initialised",
        "bad input",
        (
            "the source reports the signal; other sources measure",
            HOSTILE,
            "a_library_that_crashes_is_reported_and_the_others_measure",
        ),
    ),
    row(
        "AMD's library never answers",
        "hung drivers",
        (
            "while boards are listed: the source reports it and is not asked again",
            HOSTILE,
            "a_library_that_blocks_is_left_behind_and_not_asked_again_until_it_answers",
        ),
        ("at the start: the start fails in time", HOSTILE, "a_library_that_blocks_at_the_start_is_left_behind"),
        (
            "in a reading: the program ends, with the samples so far",
            HOSTILE,
            "a_library_that_hangs_for_good_keeps_no_program_from_its_end",
        ),
    ),
    row(
        "AMD's library has an unknown interface version, or lacks a function",
        "amdsmi.h changes with ROCm",
        ("refused with the version", NORMAL, "an_unknown_version_is_refused_in_a_sentence"),
        ("refused with the name of the function", NORMAL, "a_library_without_a_required_function_is_too_old"),
        (
            "without an optional function it measures",
            NORMAL,
            "a_library_without_an_optional_function_measures",
        ),
    ),
    row(
        "AMD's library gives texts without an end, or 4 billion boards",
        "bad input",
        (
            "texts end inside their buffer and are printable",
            HOSTILE,
            "texts_without_an_end_or_of_bytes_are_cut_to_their_room",
        ),
        ("the count is refused", HOSTILE, "a_count_that_no_driver_has_is_refused"),
    ),
    row(
        "AMD's counter does not change under load",
        "MI100 with ROCm 6.0",
        (
            "1 standstill reported, with the power of the board as the reason; the high bound is open",
            NORMAL,
            "a_counter_that_stands_still_while_the_drivers_power_shows_load_is_a_fault",
        ),
        (
            "a counter at 0 is not measured; hwmon counts the board",
            NORMAL,
            "a_counter_that_shows_0_is_not_measured_and_the_drivers_power_counts",
        ),
    ),
    row(
        "AMD's counter goes back, restarts or wraps",
        "reports of users; driver reload; counters of 32 bits",
        (
            "back for a moment: the true energy is within the bounds",
            NORMAL,
            "a_counter_that_is_wrong_for_moments_loses_and_invents_nothing",
        ),
        ("a restart is counted", NORMAL, "a_driver_loaded_again_is_a_restart"),
        ("a wrap is exact", NORMAL, "a_wrap_is_exact"),
    ),
    row(
        "AMD's library is used by several threads, or shut down by another user",
        "thread-safe from ROCm 7.2 on",
        ("no calls side by side", NORMAL, "calls_are_never_side_by_side"),
        ("initialised again, no reading fails", NORMAL, "a_shutdown_by_another_user_is_recovered_from"),
        ("fastgreen never shuts it down", NORMAL, "the_library_stays_initialised_for_its_other_users"),
    ),
    row(
        "an AMD board is gone in mid-run",
        "PCIe errors",
        ("its channel ends with the reason; the others go on", NORMAL, "a_board_that_vanishes_ends_its_own_channel"),
    ),
]
