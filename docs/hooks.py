"""What mkdocs builds besides this folder: the documents at the root of the repository."""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
# Page -> file; links between them work in the repository and on the site.
PAGES = {
    name + ".md": ROOT / (name + ".md")
    for name in ("BUILD", "MODEL_CARD", "CONTRIBUTING", "CHANGELOG")
}
PAGES["BENCHMARKS.md"] = ROOT / "benchmarks" / "README.md"


def on_files(files, config):
    """Adds the documents."""
    for name, path in PAGES.items():
        text = path.read_text("utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown, page, **_):
    """Links as the repository has them -> as the site has them."""
    for name, path in PAGES.items():
        where = path.relative_to(ROOT).as_posix()
        for prefix in ("../", ""):
            markdown = markdown.replace(f"]({prefix}{where}", f"]({name}")
    if page.file.src_uri in PAGES:
        for prefix in ("../", ""):
            markdown = markdown.replace(f"]({prefix}docs/", "](")
    return markdown
