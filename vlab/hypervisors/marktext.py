"""A mark as the XML text that libvirt keeps and hands out. Pure; lxml is imported when first needed."""

from __future__ import annotations

from vlab.hypervisors.mark import Mark


def lab_of(text: str) -> str:
    """Whose mark it is, whichever version of vlab wrote it."""
    from lxml import etree

    return etree.fromstring(text).get("lab", "")


def image_of(text: str) -> str:
    """What the node is made of, whichever version of vlab wrote the mark; empty where it does not tell."""
    from lxml import etree

    node = etree.fromstring(text).find("{*}node")
    return "" if node is None else node.get("image", "")


def read(text: str) -> Mark | str:
    """The mark, or what is wrong with it where another version of vlab wrote it."""
    from lxml import etree

    from vlab.hypervisors.xml import read_mark

    try:
        return read_mark(etree.fromstring(text))
    except (ValueError, TypeError, KeyError) as error:
        return str(error)


def written(mark: Mark) -> str:
    """The mark without its XML namespace: libvirt declares that itself, and refuses a text that does."""
    from lxml import etree

    from vlab.hypervisors.xml import mark_element, text

    element = mark_element(mark)
    for part in element.iter("*"):
        part.tag = etree.QName(part).localname
    etree.cleanup_namespaces(element)
    return text(element)
