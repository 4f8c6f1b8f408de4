"""The decisions: back-off, budget, gate, keys, forms. Nothing here touches a network or a clock."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_defs.spec.generation import GenerateSpec, PaceSpec, TextQualitySpec, TopicsSpec
from serving.generation.gate import lix, measured, route, verdict_of
from serving.generation.pace import Spent, next_try, why_no_more
from serving.generation.prompts import Asker, batch_size, render_topics
from serving.generation.replies import ApiReply, ReplyFault, read_reply, retry_after
from serving.generation.review import LATER, PUBLISH_ALL, REJECT_ALL, decided, plainly

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ASKER = Asker(model="m", asked_model="gpt", version=3, endpoint="chat", again="v3")
SPEC = GenerateSpec(topics=TopicsSpec(file="x.csv"), template="About {{ topic }}")


@given(tries=st.integers(1, 5), chance=st.floats(0, 1), asked=st.none() | st.floats(0, 120))
def test_waits_double_and_honour_the_server(tries: int, chance: float, asked: float | None):
    """A wait is between half and whole of 2^(n-1) s, at most the longest, and never shorter than Retry-After."""
    pace = PaceSpec()
    wait = next_try(ApiReply(fault=ReplyFault.RATE_LIMITED, retry_after=asked), tries, pace, chance=chance).wait
    whole = min(2.0 ** (tries - 1), 120)
    assert wait is not None
    assert wait >= max(whole / 2, asked or 0)
    assert wait <= max(whole, asked or 0)


@pytest.mark.parametrize("said", ["3", " 3 ", "Fri, 01 May 2026 12:00:03 GMT"])
def test_retry_after_is_seconds_or_a_date(said: str):
    """Both forms of RFC 9110."""
    assert retry_after({"retry-After": said}, NOW) == 3


@pytest.mark.parametrize("said", ["", "soon", "nan", "inf"])
def test_what_is_no_retry_after_is_none(said: str):
    """Nonsense is as good as no header."""
    assert retry_after({"Retry-After": said}, NOW) is None


@given(st.binary(max_size=300), st.integers(100, 599))
def test_any_bytes_are_a_text_or_a_named_fault(body: bytes, status: int):
    """No answer, whatever it is, raises."""
    reply = read_reply(status, {}, body, NOW)
    assert (reply.text is None) != (reply.fault is None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "text", "error", "usage", "finish_reason", "prompt_tokens"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_a_text_or_a_named_fault(content):
    """Nor does any JSON made of the protocol's own words."""
    import json

    reply = read_reply(200, {}, json.dumps(content).encode(), NOW)
    assert (reply.text is None) != (reply.fault is None)


def test_what_is_on_its_way_counts_against_the_budget():
    """The limit is not passed even if every answer takes its most."""
    pace = PaceSpec(most_tokens=100)
    assert why_no_more(Spent(tokens=50), Spent(tokens=50), pace) is None
    assert why_no_more(Spent(tokens=50), Spent(tokens=51), pace) is not None


def test_ten_thousand_prompts_are_twenty_tasks():
    """And never more than five hundred, however many prompts there are."""
    assert -(-10_000 // batch_size(10_000, 500)) == 20
    assert -(-1_000_000 // batch_size(1_000_000, 500)) == 500


def test_a_prompt_has_one_key_for_all_that_decides_its_answer():
    """Another version, model, prompt, length or system is another key; the same is the same."""

    def key(spec: GenerateSpec = SPEC, topic: str = "a", **asker) -> str:
        changed = Asker(**{**{name: getattr(ASKER, name) for name in Asker.__dataclass_fields__}, **asker})
        return render_topics([{"topic": topic}], spec, changed).texts[0].key

    others = [
        key(), key(topic="b"), key(again="v4"), key(asked_model="other"),
        key(SPEC.model_copy(update={"max_tokens": 9})), key(SPEC.model_copy(update={"system": "s"})),
    ]  # fmt: skip
    assert len(set(others)) == len(others)
    assert key() == key()
    never = SPEC.model_copy(update={"again": "never"})
    assert key(never, again="") == key(never, again="", asked_model="other")


def test_a_template_reaches_nothing_but_its_topic():
    """The sandbox refuses what would lead out of it; that topic gives no prompt."""
    spec = SPEC.model_copy(update={"template": "{{ topic.__class__.__mro__[1].__subclasses__() }}"})
    rendered = render_topics([{"topic": "a"}], spec, ASKER)
    assert rendered.texts == []
    assert sum(rendered.unusable.values()) == 1


def test_lix_rises_with_long_words_and_sentences():
    """Short words in short sentences are easy; the reverse is hard; no words have no LIX."""
    easy, hard = lix("The cat sat. The dog ran. We saw it."), lix("Constitutional considerations notwithstanding " * 20)
    assert easy is not None
    assert hard is not None
    assert easy < 10
    assert hard > 60
    assert lix("12 34 !!") is None


def test_readability_that_cannot_be_measured_is_a_persons():
    """Not knowing publishes nothing."""
    quality = TextQualitySpec(max_lix=50)
    assert route("12 34", "stop", measured("12 34"), quality).route == "review"


@pytest.mark.parametrize(
    "said", ["", "0.9", '{"score": 2}', '{"score": true}', '{"score": NaN}', "{}", '{"score": "1"}']
)
def test_a_judge_that_gives_no_score_gives_none(said: str):
    """What is no number between 0 and 1 is no score."""
    assert verdict_of(said)[0] is None


def test_a_judge_may_talk_around_its_json():
    """The JSON between its words counts."""
    assert verdict_of('Sure:\n```json\n{"score": 0.5, "reason": "so so"}\n```') == (0.5, "so so")


A, B = f"1. {'a' * 32}", f"2. {'b' * 32}"
OPTIONS = [PUBLISH_ALL, REJECT_ALL, LATER, A, B]


@pytest.mark.parametrize(
    ("chosen", "accepted", "rejected"),
    [
        ([PUBLISH_ALL], "ab", ""), ([REJECT_ALL], "", "ab"), ([A], "a", "b"), ([A, B], "ab", ""), ([], "", ""),
        ([LATER], "", ""), ([LATER, PUBLISH_ALL], "", ""), ([PUBLISH_ALL, REJECT_ALL], "", ""),
        ([REJECT_ALL, A], "a", "b"),
    ],
)  # fmt: skip
def test_a_form_says_what_was_ticked(chosen: list[str], accepted: str, rejected: str):
    """What contradicts itself decides nothing."""
    said = decided(OPTIONS, chosen)
    assert "".join(key[0] for key in said.accepted) == accepted
    assert "".join(key[0] for key in said.rejected) == rejected


def test_a_text_has_no_power_over_its_form():
    """Neither Jinja nor Markdown of a text survives."""
    from jinja2 import Environment

    shown = plainly("{{ 7 * 7 }} {% if x %} ![p](http://evil) <script> # h")
    assert "49" not in Environment(autoescape=True).from_string(shown).render()
    assert "![" not in shown
    assert "\\<script\\>" in shown
