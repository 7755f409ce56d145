"""The one step of building that pyproject.toml cannot say: app.py goes into a wheel, and not into an editable one."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class AppHook(BuildHookInterface):
    """Beside pages/ and .streamlit/, which tool.hatch.build.targets.wheel.sources brings there; it takes folders alone.

    An editable installation is the checkout itself and needs no copy.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["app.py"] = "linkage_core/_shipped/app.py"
