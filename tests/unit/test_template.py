"""Templates: what they see, what fails them, and that nothing in them can run away."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core import html, limit
from backstory.core.template import Rendering, TemplateError, check, render

CONTEXT: dict[str, object] = {
    "customer": {
        "first_name": "Ada",
        "current city": "Rome",
        "tags": ["new", "vip"],
        "address": {"city": "Turin"},
        "plan": None,
        "long": "x" * 100_000,
        "many": list(range(20_000)),
    },
    "event": {"price": 9.5, "items": [{"sku": "a"}, {"sku": "b"}], "n": 3},
    "event_name": "purchased",
    "event_timestamp": 1_400_000_000,
}
NOW_US = 1_714_557_600_000_000  # 2024-05-01T10:00:00Z


def reason(text: str) -> str:
    """Why a template cannot be rendered."""
    with pytest.raises(TemplateError) as caught:
        render(text, CONTEXT, now_us=NOW_US)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello {{ customer.first_name }}", "Hello Ada"),
        ('{{ customer["current city"] }}', "Rome"),
        ("{{ customer.address.city }}", "Turin"),
        ("{{ customer.tags[1] }} {{ customer.tags.first }} {{ customer.tags.size }}", "vip new 2"),
        ("{{ customer.plan }}", ""),
        ("{{ event.price }}", "9.5"),
        ("{% for item in event.items %}{{ item.sku }}{% unless forloop.last %}, {% endunless %}{% endfor %}", "a, b"),
        ("{{ event.items | map: 'sku' | join: '+' }}", "a+b"),
        ("{{ event_name }} at {{ event_timestamp }}", "purchased at 1400000000"),
        ("{{ event_timestamp | date: '%-d %B %Y, %H:%M' }}", "13 May 2014, 16:53"),
        ("{{ '2024-02-03' | date: '%a %e %b %y' }}", "Sat  3 Feb 24"),
        ("{{ '2024-02-03T10:00:00+02:00' | date: '%FT%TZ %s %L' }}", "2024-02-03T08:00:00Z 1706947200 000"),
        ("{{ 'now' | date: '%Y-%m-%d' }}", "2024-05-01"),
        ("{{ 'soon' | date: '%Y' }}", "soon"),
        ("{{ event | json }}", '{"items":[{"sku":"a"},{"sku":"b"}],"n":3,"price":9.5}'),
        ("{{ '<b>x</b> &amp; <!-- y -->z' | strip_html }}", "x &amp; z"),
        ("{% assign x = 2 %}{{ x | times: 21 }}", "42"),
        ("{% capture x %}a{% endcapture %}{{ x | upcase }}", "A"),
        ("{% raw %}{{ left as it is {% endraw %}", "{{ left as it is "),
        ("{% comment %}{{ nothing }}{% endcomment %}", ""),
        ("{% if (1..3) contains 2 %}yes{% endif %}", "yes"),
        ("no liquid { at } all", "no liquid { at } all"),
    ],
)
def test_renders(text: str, expected: str) -> None:
    """A template says what Liquid says it says."""
    assert render(text, CONTEXT, now_us=NOW_US) == expected


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("{{ customer.last_name }}", "customer.last_name"),
        ('{{ customer["no such"] }}', 'customer["no such"]'),
        ("{{ customer.tags[7] }}", "customer.tags[7]"),
        ("{{ customer.last_name | upcase }}", "customer.last_name"),
        ("{{ customer.last_name | plus: 1 }}", "customer.last_name"),
        ("{{ 1 | plus: customer.last_name }}", "customer.last_name"),
        ("{{ customer.last_name | date: '%Y' }}", "customer.last_name"),
        ("{{ customer.x | default: customer.y }}", "customer.y"),
        ("{% for x in customer.orders %}{% endfor %}", "customer.orders"),
        ("{% for x in (1..event.count) %}{% endfor %}", "event.count"),
        ("{% assign x = customer.last_name %}{{ x }}", "customer.last_name"),
        ("{{ trigger.price }}", "trigger.price"),
        ("{{ unsubscribe_url }}", "unsubscribe_url"),
        ("{{ now }}", "now"),
        ("{{ customer.first_name.__class__ }}", "customer.first_name.__class__"),
        ("{{ customer.__class__.__mro__ }}", "customer.__class__.__mro__"),
        ("{{ customer.items }}", "customer.items"),
    ],
)
def test_a_missing_variable_fails_and_is_named(text: str, variable: str) -> None:
    """What is not there fails the message, says its name and how to give it a default; Python is not there."""
    message = reason(text)
    assert f"the variable {variable} is missing" in message
    assert "default" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ customer.last_name | default: 'you' }}", "you"),
        ("{{ customer.last_name | default: customer.first_name }}", "Ada"),
        ("{{ customer.last_name.first.size | default: 'deep' }}", "deep"),
        ("{{ customer.plan | default: 'free' }}", "free"),
        ("{% if customer.last_name %}a{% else %}b{% endif %}", "b"),
        ("{% unless customer.last_name %}a{% endunless %}", "a"),
        ("{% if customer.last_name == blank %}a{% endif %}", "a"),
        ("{% if blank == customer.plan %}a{% endif %}", "a"),
        ("{% if customer.last_name != blank %}a{% else %}b{% endif %}", "b"),
        ("{% if customer.last_name == nil and customer.first_name != nil %}a{% endif %}", "a"),
        ("{% if customer.last_name == customer.first_name or customer.last_name == '' %}a{% else %}b{% endif %}", "b"),
        ("{% if customer.age > 18 %}a{% else %}b{% endif %}", "b"),
        ("{% if customer.last_name contains 'x' %}a{% else %}b{% endif %}", "b"),
        ("{% case customer.last_name %}{% when 'x' %}a{% else %}b{% endcase %}", "b"),
    ],
)
def test_defaults_and_conditions_ask_after_missing_variables(text: str, expected: str) -> None:
    """A default and a condition are the two ways to deal with what may not be there."""
    assert render(text, CONTEXT) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\nb {% iff x %}", "line 2, column 6: unexpected tag 'iff'"),
        ("{% include 'x' %}", "line 1, column 4: unexpected tag 'include'"),
        ("{% render 'x' %}", "line 1, column 4: unexpected tag 'render'"),
        ("Hi {{ customer.first_name", "line 1, column 4: '{{' is not closed by '}}'"),
        ("{% if x %}", "at the end of the text: expected tag endif"),
        ("{{ y }}\n {{ x | }}{% if y %}{{ z }}", "line 2, column 2: expected word"),
        ("{% if x %}{{}}{% endif %}", "line 1, column 11: expected a primitive expression"),
        ("{% for x %}{% endfor %}", "line 1, column 1: expected in"),
        ("{{ a b }}", "line 1, column"),
        ("{{ \ud800 }}", "not valid Unicode"),
        ("{{ x }}" * (limit.TEMPLATE_TAGS.value + 1), "more than 2000 tags"),
        ("{{ " + "x" * limit.TEMPLATE_TAG_CHARACTERS.value + " }}", "not closed by '}}' within 4000 characters"),
        ("{% if " + " and ".join(["1"] * 100) + " %}{% endif %}", "more than 100 terms"),
        ("x" * (limit.MESSAGE_BODY_BYTES.value + 1), "longer than 200000 bytes"),
        ("{{" + "(" * 3000 + "}}", "line 1, column 3"),
        ("{{ a" + "[" * 1900 + " }}", "nested too deeply"),
    ],
)
def test_a_template_that_cannot_be_read_is_refused_with_the_position(text: str, said: str) -> None:
    """A mistake is found when the campaign is made, and says where."""
    with pytest.raises(TemplateError) as caught:
        check(text, path="$.campaign.steps[0].body")
    assert said in caught.value.message
    assert caught.value.path == "$.campaign.steps[0].body"


def test_an_unknown_filter_is_found_when_the_campaign_is_made() -> None:
    """A misspelt filter does not wait for the first message."""
    with pytest.raises(TemplateError, match="line 1, column 25: unknown filter 'upcse'; did you mean upcase"):
        check("{{ customer.first_name| upcse }}")


LOOP = "{% for i in (1..9999) %}"
WILD = [
    "{% for i in (1..1000000000) %}{% endfor %}",
    "{% for i in (1..1000000000) reversed %}{% endfor %}",
    "{% for i in (1..1000000000) offset: 999999990 %}{% endfor %}",
    "{% tablerow i in (1..1000000000) %}{% endtablerow %}",
    "{{ (1..1000000000) | join }}",
    "{{ (1..1000000000) | reverse | first }}",
    f"{LOOP}{LOOP}{{% if 1 %}}{{% endif %}}{{% endfor %}}{{% endfor %}}",
    f"{LOOP}{{% endfor %}}" * 200,
    f"{LOOP}{{% capture x %}}{'z' * 10_000}{{% endcapture %}}{{% endfor %}}",
    f"{LOOP}{{{{ customer.long }}}}{{% endfor %}}",
    f"{LOOP}{{% assign x = customer.long | escape | upcase %}}{{% endfor %}}",
    f"{LOOP}{{% assign x = customer.many | reverse %}}{{% endfor %}}",
    "{{ customer.long | replace: 'x', customer.long | size }}",
    "{{ customer.long | replace: '', customer.long | size }}",
    "{{ customer.many | join: customer.long | size }}",
    "{{ customer.many | uniq | size }}",
    "{% assign x = 9 %}" + "{% assign x = x | times: x %}" * 30 + "{{ x }}",
    "{% assign x = customer.long %}" + "{% assign x = x | append: x %}" * 30,
    "{% assign x = customer.many %}" + "{% assign x = x | concat: x %}" * 30,
    "{{ '1e308' | times: 1000.5 | ceil }}",
    "{{ 'nan' | plus: 1.5 | floor }}",
    "{{ '1e400' | times: 2.5 | round }}",
    "{{ '////' | base64_decode }}",
    "{{ 1 | divided_by: 0 }}",
    "{{ customer.first_name | slice: 'a' }}",
]


@pytest.mark.parametrize("text", WILD)
def test_a_template_cannot_run_away(text: str) -> None:
    """What would take long, take much or trip over Python fails with a reason, soon."""
    assert reason(text)


def test_a_width_in_a_date_does_not_widen_it() -> None:
    """A format cannot ask for a field as wide as memory."""
    assert render("{{ 0 | date: '%999999999Y' }}", {}) == "%999999999Y"


def test_a_message_shares_one_budget() -> None:
    """Many small templates of one message cannot do together what one may not do."""
    text = "{% for i in (1..9999) %}{{ i }}{% endfor %}"
    rendering = Rendering({})
    with pytest.raises(TemplateError, match="steps of work"):
        [rendering.render(text) for _ in range(10)]
    assert Rendering({}).render(text)


def test_rendering_leaves_the_data_alone() -> None:
    """Two renderings of one template see the same world."""
    text = "{% increment n %}{% cycle 'a', 'b' %}{% assign event = 1 %}{{ event }}"
    assert render(text, CONTEXT) == render(text, CONTEXT) == "0a1"
    assert CONTEXT["event"] == {"price": 9.5, "items": [{"sku": "a"}, {"sku": "b"}], "n": 3}


PIECES = st.sampled_from([
    "{{", "}}", "{%", "%}", " if ", " for ", " x ", "in ", "customer.first_name", "customer", "|", " date: '%Y' ",
    " endif ", " endfor ", " assign a = ", "(1..3)", "'", '"', "[", "]", "raw", "endraw", "case", "when", "else", "-",
    "capture y", "endcapture", "==", "contains", "liquid", "\n", "comment", "endcomment", ".", "1", "default: 1", ",",
])  # fmt: skip


@settings(deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    """Whatever somebody types is rendered or refused with a reason; nothing else is raised."""
    try:
        render(text, CONTEXT)
    except TemplateError as error:
        refusal = error
    else:
        return
    assert refusal.message


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<p>Hello <b>Ada</b></p><p>Bye</p>", "Hello Ada\n\nBye"),
        ("<!DOCTYPE html><head><title>T</title><style>p{}</style></head><body>Hi<br>you</body>", "Hi\nyou"),
        ("<ul><li>one</li><li>two &amp; three</li></ul>", "- one\n- two & three"),
        ('<a href="https://x.org/a?b=1&amp;c=2">Look</a>', "Look (https://x.org/a?b=1&c=2)"),
        ("<a href='https://x.org'>https://x.org</a> <a href='#top'>up</a>", "https://x.org up"),
        ("<script>if (a < b) {}</script>ok", "ok"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("5 < 6 <and> 7 > 6", "5 < 6 7 > 6"),
        ("a <!-- b", "a"),
        ("<STYLE>x</STYLE>İ<P>y", "İ\n\ny"),
        ("", ""),
    ],
)
def test_html_reads_as_plain_text(text: str, plain: str) -> None:
    """The text beside an HTML message has its words, its lines and its links."""
    assert html.to_text(text) == plain


@pytest.mark.parametrize(
    ("text", "is_html"),
    [
        ("<p>Hi</p>", True),
        ("  <!doctype html>", True),
        ("Hi<br/>you", True),
        ("Hi <a href='x'>", True),
        ("Hi, 1 < 2 and <me>", False),
        ("plain", False),
    ],
)
def test_html_is_known_by_its_tags(text: str, is_html: bool) -> None:
    """A text with the tags of messages is HTML; one with a stray bracket is not."""
    assert html.looks_like_html(text) is is_html


@pytest.mark.parametrize("piece", ["<", "<a", "<!--", "<a href=", "<script>", "</", "<p x", "&", "<style><"])
def test_reading_html_takes_no_longer_for_wild_html(piece: str) -> None:
    """The walk goes forward only, whatever is not closed."""
    html.to_text(piece * 40_000)
    html.strip_tags(piece * 40_000)
