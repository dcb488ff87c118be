"""One self-contained HTML page about a study."""

from jaxopt_lab.report.page import build

__all__ = ["build"]
