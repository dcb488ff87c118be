"""One self-contained HTML page about a study or a diagnosis."""

from jaxopt_lab.report.page import (
    build,
    build_diagnosis,
    curves_page_of,
    diagnosis_page_of,
    page_of,
)

__all__ = ["build", "build_diagnosis", "curves_page_of", "diagnosis_page_of", "page_of"]
