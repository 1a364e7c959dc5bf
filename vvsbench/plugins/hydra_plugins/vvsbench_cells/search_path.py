"""Where Hydra looks for settings besides conf/: the package's studies and the user's own."""

from __future__ import annotations

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class VvsbenchSearchPath(SearchPathPlugin):
    """Appends the folders that `vvsbench list` reads; other Hydra apps on the machine are left alone."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra when an app starts."""
        if "vvsbench.composition" not in sys.modules:
            return
        from vvsbench import catalog, config

        for folder, origin in catalog.folders():
            if folder != config.folder("conf"):
                search_path.append(origin, f"file://{folder}")
