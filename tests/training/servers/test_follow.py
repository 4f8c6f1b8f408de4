"""The ledger's champion is confirmed by every replica's word, and a replica that has forgotten gets it again."""

from datetime import UTC, datetime

import yaml
from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import change_with
from datasets_defs.spec.files import spec_of
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.locks import held
from tests.training.servers.replicated import MODEL, change
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.champions.confirmation import confirmed, put_back
from training.reconcile import mend
from training.registry.registry import Registry
from training.servers.follow import follow


def test_confirmed_by_all_and_held_to_it(engine: Engine, registered: Registry, pair: list[SimulatedVllm]):
    """Both load the champion; one that restarts gets it again by reconcile's next round, and serving beats for it."""
    champion = change(engine, 2, None)
    word = confirmed(Ledger(engine), registered, spec_of(MODEL), champion)
    assert word.reason == "2 of 2 replicas confirmed version 2"
    assert change_with(engine, MODEL, champion.token).is_confirmed
    assert heartbeats(engine)[f"serving:{MODEL}"][1]["loaded_version"] == 2
    loaded = pair[0].label
    pair[1].reset()
    mend(db=engine, actor="test", now=datetime.now(UTC))
    assert [server.label for server in pair] == [loaded, loaded]
    assert [len(server.reloads) for server in pair] == [1, 2]


def test_a_wrong_load_leaves_no_version_confirmed(engine: Engine, registered: Registry, pair: list[SimulatedVllm]):
    """A promotion whose second replica keeps its weights is not confirmed, at once; going back mends the first."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    confirmed(ledger, registered, spec, change(engine, 1, None))
    pair[1].keeps_weights = True
    promoted = change(engine, 2, 1)
    word = confirmed(ledger, registered, spec, promoted)
    assert not word.is_confirmed
    assert "was put back" in word.reason
    assert not change_with(engine, MODEL, promoted.token).is_confirmed
    beat = heartbeats(engine)[f"serving:{MODEL}"][1]
    assert (beat["loaded_version"], "differ by" in beat["load_error"]) == (None, True)
    assert pair[0].label.startswith(f"{MODEL}-v2-")
    former = ledger.change_champion(MODEL, expected=2, to=1, kind="revert", reason="t", actor="t")
    assert put_back(ledger, registered, spec, former) == "2 of 2 replicas confirmed version 1"
    assert {server.label for server in pair} == {pair[0].label}


def test_one_process_at_a_time(engine: Engine, registered: Registry, pair: list[SimulatedVllm]):
    """Who comes while another swaps waits; who comes for a champion of before touches nothing."""
    first = change(engine, 1, None)
    with held(engine, "driftloop servers", MODEL):
        word = follow(engine, registered, spec_of(MODEL), first)
    assert (word.is_confirmed, word.may_change) == (False, True)
    change(engine, 2, 1)
    assert "is not champion any more" in follow(engine, registered, spec_of(MODEL), first).reason
    assert [server.reloads for server in pair] == [[], []]


def test_a_server_that_nobody_can_ask_is_unconfirmed(engine: Engine, registered: Registry, pair: list[SimulatedVllm]):
    """The loop goes on by the registry's alias, and the word that people read says so."""
    path = settings().models_dir / f"{MODEL}.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "serving": {"kind": "external"}}))
    word = confirmed(Ledger(engine), registered, spec_of(MODEL), change(engine, 3, None))
    assert word.is_confirmed
    assert word.reason.startswith("unconfirmed: ")
    assert pair[0].reloads == []
