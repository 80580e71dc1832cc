# SPDX-License-Identifier: Apache-2.0
"""The rule by which energy is shared, in a sentence that stands beside every table of shares."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["EQUAL", "ledger_rule", "rule"]

EQUAL = "each weight is 1"


def rule(weights: str = EQUAL) -> str:
    """The rule, with a clause on where the weights come from."""
    return f"each span pays for its weight over the weights of all spans that are open; {weights}"


def ledger_rule(definition: Mapping[str, Any], equal: bool) -> str:
    """The rule of a ledger.

    Parameters
    ----------
    definition : mapping
        ``weights`` as of `Monitor.ledger`, and ``rule`` where a fitted cost gave the weights.
    equal : bool
        Whether each weight was 1.
    """
    if definition.get("rule"):
        return rule(f"in a step, {definition['rule']}")
    if definition.get("weights") == "at close":
        return rule("each stretch has the weight that it ended with")
    return rule() if equal else rule("the weights are those that the program gave")
