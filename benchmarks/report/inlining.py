"""SVG files as parts of a page: without XML namespaces, and with unique ids."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from benchmarks.report.plots import Plot


def inlined(plot: Plot) -> str:
    """A plot as an element of a page.

    Elements refer to each other by ids, which have to be unique in the page: the plot's
    name is their prefix. Namespaces, metadata and the style sheet are removed: HTML parsers know
    SVG.
    """
    root = ElementTree.fromstring(plot.svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _named(value, plot.name, _local(key))
            for key, value in element.attrib.items()
        }
    root.attrib.pop("version", None)
    # The page gives the width; the height follows from the view box.
    width = root.attrib.pop("width", "")
    root.attrib.pop("height", None)
    root.attrib["style"] = f"max-width:{width}"
    root.attrib["role"] = "img"
    root.attrib["aria-label"] = plot.title
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _named(value: str, name: str, key: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    return re.sub(r"url\(#", f"url(#{name}-", value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
