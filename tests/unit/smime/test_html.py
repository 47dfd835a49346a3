"""HTML says the same as plain text: no dose, unit, value or stopped drug changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.smime import html
from tests.support.measured import processor_time

_TAGS = ("td", "tr", "table", "li", "ol", "p", "s", "sup")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("150 x 10<sup>9</sup>/L", "150 x 10⁹/L\n"),
        ("10<sup>-3</sup> H<sub>2</sub>O Ca<sup>2+</sup> HbA<sub>1c</sub>", "10⁻³ H₂O Ca²⁺ HbA_(1c)\n"),
        ("10<span style='vertical-align: super'>9</span>", "10⁹\n"),
        (
            "1<sup>1</sup>/<sub>2</sub> cp, 1&frac12; cp, <sup>1</sup>&frasl;<sub>4</sub>",
            "1 1/2 cp, 1½ cp, 1/4\n",
        ),
        ("<s>A 5 mg</s> <del>B</del> <ins>C</ins>", "[DEL: A 5 mg :DEL] [DEL: B :DEL] [INS: C :INS]\n"),
        ("<p style='text-decoration:line-through'>A<p>B", "[DEL: A :DEL]\nB\n"),
        ("<p><s>A</p><p>B</s></p>C", "[DEL: A\n\nB :DEL]\nC\n"),
        ("<table><tr><td><s>A<td>B</table>", "[DEL: A :DEL] | B\n"),
        ("<dl><dt>Na<dd>140<dt>K<dd>5,1</dl>", "Na\n  140\nK\n  5,1\n"),
        ("<section>Na 140</section><section>K 5</section><h5>C</h5>RAS", "Na 140\n\nK 5\n\nC\nRAS\n"),
        ("<ol start=3><li>a<li>b<li value=9>c</ol>", "3. a\n4. b\n9. c\n"),
        ("<ol reversed><li>a<li>b</ol><ol type=a><li>x<li>y</ol>", "2. a\n1. b\n\na. x\nb. y\n"),
        ("<ol><li>a<ul><li>b</ul><li>c</ol>", "1. a\n\n  • b\n\n2. c\n"),
        ("<table><tr><td>K<td><td>3-5</tr></table>", "K | | 3-5\n"),
        ("<table><tr><td><p>K</p></td><td><p>4</p></td></tr></table>", "K | 4\n"),
        ("<table><tr><td colspan=2>K<td>3</table>", "K | ← | 3\n"),
        ("<table><tr><td rowspan=2>K<td>4<tr><td>5</table>", "K | 4\n↑ | 5\n"),
        ("a<span style='display: none'>b</span><i hidden>c</i>", "a[HIDDEN: b :HIDDEN][HIDDEN: c :HIDDEN]\n"),
        (
            "<b style='color:transparent'>a</b><b style='color:rgba(0,0,0,0)'>b</b>",
            "[HIDDEN: a :HIDDEN][HIDDEN: b :HIDDEN]\n",
        ),
        ("<b style='color:rgb(0,0,0)'>a</b><b style='color:rgba(0,0,0,0.5)'>b</b>", "ab\n"),
        (
            "<b style='max-height:0;overflow:hidden'>a</b><b style='overflow:hidden'>b</b>",
            "[HIDDEN: a :HIDDEN]b\n",
        ),
        (
            "<b style='position:absolute;left:-9999px'>a</b><b style='left:-2px'>b</b>",
            "[HIDDEN: a :HIDDEN]b\n",
        ),
        ("<math><mn>1</mn><mo>/</mo><mn>2</mn></math>", "1/2\n"),
        ("<svg><title/><text>K 5.1</text></svg>after", "K 5.1\nafter\n"),
        ("<table><tr><td>a<table><tr><td>x<td>y</table><td>b</table>", "a\n\nx | y\n| b\n"),
        ("<select><option>A<option>B</select>mmol<textarea>T</textarea>", "☑ A ☐ B mmol\nT\n"),
        ("<pre>Na   140\nK    5,1</pre>a\nb", "Na   140\nK    5,1\na b\n"),
        ("<div style='white-space: pre-wrap'>Na 140\nK  5,1</div>a\nb", "Na 140\nK  5,1\na b\n"),
        ("<style>.r {white-space:pre-line}</style><p class=r>Na 140\nK 5,1<p>a\nb", "Na 140\nK 5,1\na b\n"),
        ("<table><tr><td style='white-space:pre'>a\nb<td>c\nd</table>", "a\nb | c d\n"),
        ("<textarea>Na 140\nK 5,1</textarea>", "Na 140\nK 5,1\n"),
        ("<span style='font-size:0.9em'>a</span><b style='font-size:0'>b</b>", "a[HIDDEN: b :HIDDEN]\n"),
        (
            "<style>.no{text-decoration:line-through} @media{i{display:none}}</style><b class=no>A</b>B",
            "[DEL: A :DEL]B\n",
        ),
        (
            "<style><!-- /* a */ sup.x, #h {DISPLAY : none}--></style><p id=h>A</p><b id=g>B</b>",
            "[HIDDEN: A :HIDDEN]\nB\n",
        ),
        (
            "<style>.o{text-decoration:line-through}</style><b class=o style='text-decoration:none'>A</b>",
            "A\n",
        ),
        ("<style>s{text-decoration:line-through}</style><s>A</s>", "[DEL: A :DEL]\n"),
        (
            "10<span style='vertical-align:4pt'>9</span>, CO<span style='vertical-align:-.3em'>2</span>",
            "10⁹, CO₂\n",
        ),
        ("<p title='Na > 140'>A</p><p title=l'x>l'B</p><p class=\"x>C</p>", "A\n\nl'B\n\nC\n"),
        (
            "<s><s>A</s>B</s>C<span><span style='display:none'>D</span>E</span>",
            "[DEL: [DEL: A :DEL]B :DEL]C[HIDDEN: D :HIDDEN]E\n",
        ),
        ("<ruby>8<rp>(</rp><rt>12</rt></ruby>", "8 (12)\n"),
        (
            "<table><tbody><tr><td rowspan=0>K<td>4<tr><td>5<tbody><tr><td>Na<td>6</table>",
            "K | 4\n↑ | 5\n\nNa | 6\n",
        ),
        ("a<blockquote>b<br>c</blockquote>d", "a\n> b\n> c\nd\n"),
        ("<input type=checkbox checked>A <input type=checkbox>B", "☑ A ☐ B\n"),
        ("<select><option>A<option selected>B</select>", "☐ A ☑ B\n"),
        ("<select><option>A<option>B</select>", "☑ A ☐ B\n"),
        ("<img alt='5 mg' src=x><img src=y> Na<5", "[5 mg] Na<5\n"),
    ],
)
def test_what_an_element_means_stands_in_the_text(written: str, text: str) -> None:
    assert html.to_text(written) == text


@given(
    st.lists(
        st.sampled_from(
            [
                f"<{end}{tag}>"
                for tag in (*_TAGS, "pre", "select", "option", "blockquote")
                for end in ("", "/")
            ]
            + ["<ol reversed>", "<td colspan=3 rowspan=9>", "<p hidden>", "w1 ", "w2 ", "\n"]
        ),
        max_size=40,
    ).map("".join)
)
def test_no_word_is_lost_whatever_the_tags(written: str) -> None:
    text = html.to_text(written)
    assert all(text.count(word) == written.count(word) for word in ("w1", "w2"))


@pytest.mark.parametrize(
    "piece",
    [
        "<s>",
        "<td><s>",
        "<table><tr><td>",
        "<ol><li>",
        "<sup>1",
        "</td>",
        "<p hidden>",
        "<td rowspan=1000 colspan=100>",
        "<a href='",
        "<a href=\"'= ",
        "<style>.a{display:none}",
        "<style>@media{",
    ],
)
def test_reading_takes_time_in_line_with_length(piece: str) -> None:
    def taken(times: int) -> float:
        return processor_time(lambda: html.to_text(piece * times))

    assert taken(8_000) < 6 * max(taken(2_000), 0.05)


def test_a_table_with_more_spans_than_are_filled_says_so() -> None:
    row = "<tr><td colspan=1000>A<td>B</tr>"
    assert "[SPANS CUT]" not in html.to_text(f"<table>{row * 9}</table>")
    assert html.to_text(f"<table>{row * 30}</table>").count("[SPANS CUT]") == 1
    assert "[SPANS CUT]" in html.to_text("<table><tr>" + "<td rowspan=2>A" * 1001 + "</table>")
