"""YAML files that people write: checked against classes, refused with the line of what is wrong.

A leaf, open to all: files that carry a configuration to production (`deploy`) and files that
describe a search (`search`) are read alike, and neither of these wings may know the other.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from atm_search.errors import AtmSearchError, ConfigurationError


class Section(BaseModel):
    """A mapping of a file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Shape = TypeVar("Shape", bound=Section)


@dataclass(frozen=True)
class Document:
    """A YAML file as read: its content, and what is needed to say where in it something is."""

    path: Path
    text: str
    content: Any

    @classmethod
    def read(cls, path: Path) -> "Document":
        """The file's content, whatever it is.

        Raises:
            ConfigurationError: the file is missing, unreadable or no YAML.
        """
        try:
            text = path.read_text(encoding="utf-8")
            return cls(path, text, yaml.safe_load(text))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}.") from error
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"{path} is no YAML: {reason}.") from error

    def checked(self, shape: type[Shape]) -> Shape:
        """The content as that class.

        Raises:
            ConfigurationError: keys are unknown or missing, or values do not fit; with the line.
        """
        try:
            return shape.model_validate(self.content)
        except ValidationError as error:
            raise ConfigurationError(self._explain(error, shape)) from error
        except AtmSearchError as error:  # of a value that a class of ours refuses
            raise ConfigurationError(f"{self.path}: {error}") from error

    def line(self, location: Sequence[Any]) -> int:
        """Line of the deepest part of a location (keys and indices) that the file has."""
        node = yaml.compose(self.text, Loader=yaml.SafeLoader)
        line: int = node.start_mark.line if node is not None else 0
        for part in location:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line + 1

    def _explain(self, error: ValidationError, shape: type[Section]) -> str:
        """The first thing that is wrong, with its line, and how many more there are."""
        # A misspelt key is both unknown and missing; the first says more.
        first, *others = sorted(error.errors(), key=lambda problem: problem["type"] == "missing")
        location = [part for part in first["loc"] if not str(part).startswith("function-")]
        name = ".".join(map(str, location))
        if first["type"] == "extra_forbidden":
            key = str(location[-1])
            what = f"unknown key '{key}'.{nearest(key, _fields(shape, location[:-1]))}"
        elif first["type"] == "missing":
            what = f"'{name}' is missing."
        elif first["type"] == "value_error":
            what = str(first["ctx"]["error"])
        else:
            what = f"{name}={first['input']!r}: {first['msg']}." if name else f"{first['msg']}."
        more = f" ({len(others)} more problems.)" if others else ""
        return f"{self.path}, line {self.line(location)}: {what}{more}"


def nearest(key: str, known: Iterable[Any]) -> str:
    """A hint at the known name that comes nearest, with a blank before it; empty if none does."""
    match = difflib.get_close_matches(str(key), [str(name) for name in known], n=1)
    return f" Did you mean '{match[0]}'?" if match else ""


def _child(node: Any, part: Any) -> tuple[int, Any] | None:
    """Line and node of one part of a mapping or a list; None if it has no such part."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None


def _fields(shape: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Names of the keys that may stand at a location, as far as the classes say."""
    found: Any = shape
    for part in location:
        field = found.model_fields.get(str(part)) if _is_section(found) else None
        found = field.annotation if field is not None else found
        found = next((inner for inner in _alternatives(found) if _is_section(inner)), found)
    return list(found.model_fields) if _is_section(found) else []


def _alternatives(annotation: Any) -> list[Any]:
    """The types inside `X | None` and `list[X]`, and the type itself."""
    return [annotation, *(getattr(annotation, "__args__", ()))]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
