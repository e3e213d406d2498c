"""The links of the PDF, in the page that is printed: they lead to what they mean, and to no file."""

import re

from meirl_book import pdf

PAGE = """<link href="search.html"/><main id="main-content"><section id="first">
<span class="bibtex-citation" id="id1">[<a href="#id2">Clark</a>]</span> <a href="02-two.html">two</a>
<a href="book/02-two.html#part">part</a> <a class="download" href="_downloads/0a/runs.csv">runs</a></section>
<span id="document-book/02-two"></span><section id="part"><span id="id1"></span>
<span class="bibtex-citation" id="id2">[<a href="#id1">x</a>]
</span> <a href="#document-book/01-one">first page</a> <a href="https://example.org/a.html">elsewhere</a></section>
<div class="citation" id="id1">Other</div><div class="citation" id="id2">Clark</div></main>"""


def test_links_of_the_pdf_lead_to_what_they_mean():
    text = pdf.linked(PAGE, "book/01-one")
    places = re.findall(r' id="([^"]+)"', text)
    assert len(places) == len(set(places)), "a link leads to the first place of its name"
    assert re.findall(r'<a [^>]*href="#([^"]+)"', text) == [
        "id2", "document-book/02-two", "part", "id1", "document-book/01-one",
    ]  # fmt: skip
    assert {"id1", "id2", "part", "document-book/01-one", "document-book/02-two"} <= set(places)
    assert '<div class="citation" id="id2">Clark' in text
    assert re.findall(r'<a [^>]*href="([^#"][^"]*)"', text) == ["https://example.org/a.html"]
