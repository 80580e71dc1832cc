# SPDX-License-Identifier: Apache-2.0
"""First on a child's path: pandas is not installed there. PyArrow imports it for its first array, which takes 0.3 s."""

import sys


class WithoutPandas:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not installed here", name=name)


sys.meta_path.insert(0, WithoutPandas)
