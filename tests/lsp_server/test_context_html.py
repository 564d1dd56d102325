import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from lsp_server.context_html import html
from lsp_server.context_report import ContextReport
from tests.lsp_server.context_reports import EXAMPLE, HOSTILE, report, span

VOID = {"meta"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "dl", "div"),
    *("dt", "dd", "nav", "ol", "li", "a", "bdi", "svg", "rect", "small", "main", "section"),
    *("details", "summary", "pre"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "role", "id", "href", "title"),
    *("aria-label", "aria-hidden", "dir", "viewbox", "preserveaspectratio"),
    *("x", "y", "width", "height"),
}


class Element:
    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Element] = []
        self.own_text = ""

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def text(self) -> str:
        return self.own_text + "".join(child.text for child in self.children)

    def all(self, tag: str, class_: str | None = None) -> "list[Element]":
        below = [found for child in self.children for found in child.all(tag, class_)]
        is_one = self.tag == tag and (class_ is None or class_ in self.classes)
        return [self, *below] if is_one else below


class Page(HTMLParser):
    """Builds the tree and refuses what is not balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert self._open == [self.root], "elements were left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attrs))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].own_text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def page_of(of: ContextReport, title: str = "Context") -> Element:
    root = Page(html(of, title)).root
    check_is_safe(root)
    return root


def check_is_safe(element: Element) -> None:
    """Only the elements and attributes the page is made of, and no address but its own parts."""
    for child in element.children:
        assert child.tag in TAGS and set(child.attributes) <= ATTRIBUTES
        assert re.fullmatch(r"#file-\d+", child.attributes.get("href") or "#file-0")
        check_is_safe(child)


def one(root: Element, tag: str, class_: str | None = None) -> Element:
    [found] = root.all(tag, class_)
    return found


def test_kept_code_is_open_and_dropped_code_is_folded() -> None:
    root = page_of(EXAMPLE)
    config, notes = root.all("section")
    first, second = config.all("div", "kept")
    assert one(first, "pre", "text").text == "\ndef parse_config(path):\n    return {}"
    assert one(first, "pre", "lines").text == "\n5\n6"
    assert one(first, "p", "why").text == "lines 5–6 · 1.00 · 10 tokens · defines parse_config"
    assert ("h10" in first.classes, "h6" in second.classes) == (True, True)
    dropped = one(config, "details")
    assert "OLD = 1" in dropped.text and "open" not in dropped.attributes
    assert one(dropped, "summary").text == "left out: lines 21–21 · 0.20 · 10 tokens · budget"
    assert not notes.all("div", "kept")
    assert [gap.text for gap in config.all("p", "gap")] == [
        "… 4 lines not scored …",
        "… 14 lines not scored …",
        "… 9 lines not scored …",
    ]


def test_files_are_listed_with_a_heat_bar_over_their_lines() -> None:
    root = page_of(EXAMPLE)
    config, notes = one(root, "nav").all("a")
    bar = one(config, "svg")
    assert bar.attributes["viewbox"] == "0 0 31 14"
    places = [
        (r.attributes["x"], r.attributes["width"], r.attributes["class"]) for r in bar.all("rect")
    ]
    assert places == [
        ("4", "2", "h10"),
        ("4", "2", "shown"),
        ("20", "1", "h2"),
        ("30", "1", "h6"),
        ("30", "1", "shown"),
    ]
    assert one(config, "small").text == "kept 20 of 30 tokens (67 %)"
    assert one(notes, "small").text == "kept 0 of 10 tokens (0 %)"
    targets = {section.attributes["id"] for section in root.all("section")}
    assert {(a.attributes["href"] or "")[1:] for a in (config, notes)} == targets


def test_totals_and_timings_are_on_top() -> None:
    header = one(page_of(EXAMPLE, "Context at a.py:3:1"), "header")
    assert one(header, "h1").text == "Context at a.py:3:1"
    figures = {div.all("dt")[0].text: div.all("dd")[0].text for div in header.all("div")}
    assert figures == {
        "kept": "20 of 40 tokens (50 %)",
        "budget": "2,048 tokens",
        "mode": "auto",
        "scorer": "incremental",
        "segments scored": "40",
        "keys kept from before": "38",
        "index": "3.0 ms",
        "score": "41.4 ms",
    }
    assert not header.all("p", "verdict")


def test_the_policy_forbids_everything_but_the_page_s_own_style() -> None:
    root = page_of(EXAMPLE)
    head = one(root, "head")
    charset, policy, *_ = head.children
    assert charset.attributes["charset"] == "utf-8"
    assert policy.attributes["http-equiv"] == "Content-Security-Policy"
    digest = base64.b64encode(hashlib.sha256(one(root, "style").text.encode()).digest()).decode()
    assert policy.attributes["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_the_style_needs_no_network_and_knows_dark_and_narrow_screens() -> None:
    style = one(page_of(EXAMPLE), "style").text
    assert "url(" not in style and "@import" not in style and "<" not in style
    assert "prefers-color-scheme: dark" in style and "max-width: 720px" in style
    assert style.count("{") == style.count("}")


@pytest.mark.parametrize("score", [0.0, 0.04, 0.5, 0.96, 1.0])
def test_every_heat_has_its_rule(score: float) -> None:
    root = page_of(report(span(score=score)))
    [level] = set(one(root, "div", "kept").classes) - {"kept"}
    assert one(root, "rect", level).attributes["y"] == "0"
    assert f"\n.{level} {{ --heat:" in one(root, "style").text


@pytest.mark.parametrize("foreign", HOSTILE)
def test_foreign_text_is_shown_and_never_markup(foreign: str) -> None:
    kept = span(text=foreign, path=foreign, uri=f"javascript:{foreign}", reason=foreign)
    dropped = span(9, text=foreign, path=foreign, is_kept=False, reason=foreign)
    root = page_of(
        report(
            *(kept, dropped),
            abstained=foreign,
            mode=foreign,
            scorer=foreign,
            milliseconds={foreign: 1.0},
        ),
        title=foreign,
    )
    assert [pre.text for pre in root.all("pre", "text")] == ["\n" + foreign] * 2
    assert one(root, "title").text == foreign
    assert [h2.text for h2 in root.all("h2")] == [foreign] * 2
    assert one(root, "summary").text.endswith(foreign)
    assert foreign in one(root, "p", "verdict").text


def test_marks_that_reverse_the_reading_order_are_written_out() -> None:
    trojan = "if admin:\u202e \u2066# check\u2069 \u2066"
    page = html(report(span(text=trojan, path="a\u202eyp.b", reason="\u200f")), "t\u202e")
    assert not set(page) & set("\u202e\u2066\u2069\u200f")
    assert page.count("‹U+202E›") == 5  # the code, the path twice, the title twice
    one(page_of(report(span(text="\ud83d")), "\udcff"), "h1")
    html(report(span(text="\ud83d", path="\udcff")), "t").encode("utf-8")


def test_text_of_any_script_stays_as_it_is() -> None:
    text = "größe = '名前'\n\n# שלום 👩\u200d💻\n"
    root = page_of(report(span(text=text, path="ünï/名前.py")))
    assert one(root, "pre", "text").text == "\n" + text.removesuffix("\n")
    assert one(root, "h2").text == "ünï/名前.py"


def test_an_empty_line_at_the_start_is_kept() -> None:
    root = page_of(report(span(7, text="\nx\n")))
    assert one(root, "pre", "text").text == "\n\nx"
    assert one(root, "pre", "lines").text == "\n8\n9"


def test_a_span_without_text_has_no_code() -> None:
    root = page_of(report(span(text="", n_lines=12, is_kept=False)))
    assert not root.all("pre")
    assert "lines 1–12" in one(root, "summary").text


def test_an_empty_report_is_a_page_that_says_so() -> None:
    root = page_of(report(milliseconds={}))
    assert "nothing to choose from" in one(root, "p", "verdict").text
    assert not root.all("section") and not one(root, "nav").all("a")


def test_an_abstained_report_gives_its_reason_and_what_was_dropped() -> None:
    root = page_of(report(span(is_kept=False), abstained="best score 0.02 is below 0.10"))
    assert one(root, "p", "verdict").text.endswith("best score 0.02 is below 0.10")
    assert len(root.all("details")) == 1 and not root.all("div", "kept")


def test_five_hundred_spans_stay_under_two_megabytes() -> None:
    text = "    if value < limit and name != 'x':  # why & when\n" * 40
    spans = [
        span(
            *(i % 10 * 50, text),
            path=f"pkg/module_{i // 10}.py",
            uri=f"file:///w/pkg/module_{i // 10}.py",
            is_kept=i % 3 == 0,
        )
        for i in range(500)
    ]
    page = html(report(*spans), "Context")
    assert len(page.encode()) < 2 * 2**20
    assert len(Page(page).root.all("pre", "text")) == 500
