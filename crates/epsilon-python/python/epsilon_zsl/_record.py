"""Reports as Python has them."""

import json
from typing import Any


class Record(dict[str, Any]):
    """What the library reports: a dictionary, as the JSON files of the ``epsilon`` command have it, whose entries are attributes, too.

    >>> figures = Record({"zsl": Record({"map": 0.5}), "backbone-classes": None})
    >>> figures.zsl.map, figures["zsl"]["map"], figures.backbone_classes
    (0.5, 0.5, None)
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        for key in (name, name.replace("_", "-")):
            if key in self:
                return self[key]
        raise AttributeError(f"{name!r} is none of {', '.join(self)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key.replace("-", "_") for key in self)]


def loads(text: str) -> Any:
    """Records of JSON."""
    return json.loads(text, object_hook=Record)
