import re
from html.parser import HTMLParser

from espnet_ensemble.recipes.compare.comparison import compare
from espnet_ensemble.recipes.compare.page import render_page
from espnet_ensemble.recipes.compare.systems import read_systems

OPEN = {"meta", "link", "img", "br", "input"}


class Checker(HTMLParser):
    """Whether every tag that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.path, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in OPEN:
            self.path.append(tag)

    def handle_endtag(self, tag):
        assert self.path.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def make_page(make_decoding):
    said = {"<i>-1": "a <b> & c", "x-2": "d"}
    decodings = [
        make_decoding("asr_<a>", {"<i>-1": "a <script>alert(1)</script> c e"}, said),
        make_decoding("asr_b", {"x-2": ""}, said, token='"><i>'),
    ]
    comparison = compare("te<st", read_systems(decodings, "test"), draws=50)
    return render_page([comparison, comparison])


def test_the_page_is_well_formed_and_has_everything(make_decoding):
    checker = Checker()
    checker.feed(make_page(make_decoding))
    assert checker.path == []
    for text in ("asr_<a>", "<script>alert(1)</script>", "<b>", '"><i>'):
        assert checker.texts.count(text) >= 2
    assert any(text.startswith("<i>-1 (errors: ") for text in checker.texts)


def test_what_comes_from_outside_is_escaped(make_decoding):
    page = make_page(make_decoding)
    assert "<script" not in page and "<b>" not in page and "te<st" not in page
    assert "<i>-1" not in page


def test_the_page_stands_alone(make_decoding):
    page = make_page(make_decoding)
    assert not re.search(r"\b(src|href|url|import)\b", page)


def test_errors_are_marked(make_decoding):
    page = make_page(make_decoding)
    assert '<td class="D"></td>' in page
    assert '<td class="I">e</td>' in page
    assert '<td class="S">&lt;script&gt;' in page
