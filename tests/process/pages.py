"""The commands of pages in docs/ that tests here run: blocks of Markdown whose fence names them."""
import re

from conftest import TESTS


def blocks(page, fence):
    """The bodies of the blocks of a page that begin with ```fence; there is at least one."""
    text = (TESTS.parent / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{re.escape(fence)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no block {fence}"
    return found
