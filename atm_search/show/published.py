"""The frontier that others have published for a model, as the study files have it."""

from functools import cache
from pathlib import Path

from atm_search.models.zoo import ALIASES
from atm_search.search.study_file import PublishedSection, StudyFile

STUDIES = Path(__file__).resolve().parents[1] / "studies"
"""The study files; in a checkout a link to those at its root, in a wheel a copy."""


@cache
def published(model: str) -> PublishedSection | None:
    """What was published of a model; None if no study file says.

    Args:
        model: its alias, or its timm name with or without a tag.
    """
    for path in sorted(STUDIES.glob("*.yaml")):
        file = StudyFile.read(path)
        if file.published is not None and file.model is not None:
            known = ALIASES.get(file.model, file.model)
            if model in (file.model, known, known.partition(".")[0]):
                return file.published
    return None
