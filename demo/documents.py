"""The demo's input: paragraphs of real text files, and a few that nobody can read.

A paragraph is kept as the bytes of its file. Only its consumer decodes it, so that a broken one is found where such
things are found in real life: in the middle of the work, next to good ones.
"""
import base64
import itertools
import json
import pathlib
import re
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent
LICENCES = pathlib.Path("/usr/share/common-licenses")  # Debian's base-files: on every Debian machine
PACKAGES = pathlib.Path("/usr/share/doc")  # minimal images keep at least the copyright files
DEFAULT_LIMIT = 20_000
LARGEST_FILE = 500_000  # a file without one blank line is one job, and a job's payload may have 1 MB
# Debian's copyright files write a blank line as " ."
BLANK_LINES = re.compile(rb"\n(?:[ \t]*\.?[ \t\r]*\n)+")
A_WORD = re.compile(rb"[0-9A-Za-z\x80-\xff]")  # a row of dashes is no paragraph

# Made up, because a machine may have no broken file. In each the second paragraph is not UTF-8, the others are.
DAMAGED = {
    "made by the demo/latin-1.txt": b"Caf\xc3\xa9 and cr\xc3\xa8me.\n\nCaf\xe9 and cr\xe8me, saved as Latin-1.\n",
    "made by the demo/cut-off.txt": b"The first part came through.\n\nThe disk was full after the first byte of \xe2",
    "made by the demo/garbled.txt": b"Before the bad block.\n\nIn the \xff\xfe\xff bad block.\n\nAfter the bad block.\n",
}


@dataclass(frozen=True)
class Paragraph:
    document: str
    number: int
    raw: bytes

    @property
    def key(self):
        return self.document, self.number

    def payload(self):
        """The job's `data` as JSON text. What is not text travels as base64: jsonb holds valid text only."""
        data = {"document": self.document, "paragraph": self.number}
        try:
            data["text"] = self.raw.decode()
        except UnicodeDecodeError:
            data["bytes"] = base64.b64encode(self.raw).decode()
        return json.dumps(data, ensure_ascii=False)

    def expected_reason(self):
        """With which reason it has to fail, or None if it can be read."""
        try:
            self.raw.decode()
        except UnicodeDecodeError as error:
            return unreadable(error)
        return None


def unreadable(error):
    """What a consumer says about a paragraph that it could not decode."""
    return f"not UTF-8: {error.reason} at byte {error.start}"


def split(document, raw):
    pieces = (piece.strip(b"\r\n") for piece in BLANK_LINES.split(raw))
    return [Paragraph(document, n, piece) for n, piece in enumerate(filter(A_WORD.search, pieces), 1)]


def read(file, name):
    """The paragraphs of one file; none when it is not a text file, is too large or closed to this user."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            return []
        raw = file.read_bytes()
    except OSError:
        return []
    return [] if b"\0" in raw else split(name, raw)


def files_below(folder):
    """Its regular files in a fixed order: the same folder gives the same paragraphs, for the check too."""
    return sorted(f for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


def default_files():
    """Yields (file, name): this repository's own documentation, the licences, the texts of the packages."""
    own = [*ROOT.glob("*.md"), ROOT / "LICENSE", *ROOT.glob("docs/*.md"), *ROOT.glob("demo/*.md")]
    for file in sorted(own):
        yield file, str(file.relative_to(ROOT))
    for folder in (LICENCES, PACKAGES):
        for file in files_below(folder):
            if folder == LICENCES or file.name == "copyright" or file.suffix in ("", ".txt", ".md"):
                yield file, str(file)


def collect(folder=None, limit=None):
    """All paragraphs of a folder, or of the default files as far as the limit allows; the damaged ones come first."""
    if folder is None:
        files, limit = default_files(), limit or DEFAULT_LIMIT
    else:
        files = ((f, str(f.relative_to(folder))) for f in files_below(folder))
    damaged = [p for name, raw in DAMAGED.items() for p in split(name, raw)]
    found = itertools.chain.from_iterable(read(file, name) for file, name in files)
    return damaged, list(itertools.islice(found, limit))
