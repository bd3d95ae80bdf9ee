"""Reading of YAML from recordings. Few bytes of YAML can stand for more values than a machine has memory for."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import Node
from ruamel.yaml.scanner import Scanner

#: Maximum depth of lists and mappings within each other. Metadata of recordings have seven.
DEPTH_MAX = 20


class _Scanner(Scanner):
    """A scanner that ends at a list that is nested too deeply, whose beginnings it would search again and again."""

    def fetch_flow_collection_start(self, *arguments: Any, **options: Any) -> None:
        if self.flow_level >= DEPTH_MAX:
            raise YAMLError("it is nested too deeply")
        super().fetch_flow_collection_start(*arguments, **options)


class _Composer(Composer):
    """A composer of texts without aliases, which are nested a little."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Node | None:
        if self.parser.check_event(AliasEvent):
            raise YAMLError("it has aliases (*name), which no recorder writes")
        if self.depth >= DEPTH_MAX:
            raise YAMLError("it is nested too deeply")
        self.depth += 1
        try:
            node: Node | None = super().compose_node(parent, index)
        finally:
            self.depth -= 1
        return node


def read_yaml(text: str) -> Any:
    """Return the plain values of a text.

    Raises:
        ValueError: The text is no YAML, has aliases or directives, or is nested too deeply.
    """
    if re.search(r"^\ufeff?%", text, re.MULTILINE):
        # With %YAML 1.1, a number like 1:59:59 takes a time that grows with the square of its length.
        raise ValueError("it has directives (%YAML), which no recorder writes")
    reader = YAML(typ="safe", pure=True)
    reader.Scanner, reader.Composer = _Scanner, _Composer
    try:
        return reader.load(text)
    except Exception as error:  # texts that are no YAML raise all kinds
        raise ValueError(" ".join(str(error).split())) from error
