"""One self-contained HTML page about a study or a diagnosis."""

from jaxopt_lab.report.page import build, build_diagnosis

__all__ = ["build", "build_diagnosis"]
