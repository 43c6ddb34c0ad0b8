"""No answered opt-out is lost, none comes of nothing, no attempt gives two, whatever fails and whenever.

UID2_FAULT_SEEDS and UID2_FAULT_LOGOUTS make it longer (`make soak`); UID2_FAULT_FIRST goes on where another run ended.
UID2_FAULT_ROUND logouts see every kind of fault; where they are few, programs are down most of the time.
"""

import contextlib
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from campaign import FAULTS, Books, Campaign, spread_seconds
from fault_stage import running_stage

from uid2.protocol.ids import EpochMillis
from uid2.protocol.salts import parse_salt_metadata

SEEDS = int(os.environ.get("UID2_FAULT_SEEDS", "20"))
FIRST = int(os.environ.get("UID2_FAULT_FIRST", "0"))
LOGOUTS = int(os.environ.get("UID2_FAULT_LOGOUTS", "1000"))
ROUND = int(os.environ.get("UID2_FAULT_ROUND", "1000"))
CALM_LOGOUTS = 100


@pytest.mark.slow
def test_answered_optouts_survive_every_fault(tmp_path: Path, record_property: Any) -> None:
    random = Random(FIRST)
    with running_stage(tmp_path, random) as stage, contextlib.ExitStack() as closing:
        metadata = parse_salt_metadata((stage.state.stores / "salts/metadata.json").read_bytes(), EpochMillis(0))
        books = Books(metadata.first_level)
        campaign = Campaign(stage, books, ROUND)
        closing.callback(campaign.close)
        for seed in range(FIRST, FIRST + SEEDS):
            campaign.run(seed, LOGOUTS)
            print(f"seed {seed}: {books.figures()} {dict(campaign.faults)}", flush=True)
        times = spread_seconds(campaign, CALM_LOGOUTS)
        stage.produce_rest()
        books.read_deltas(stage.bucket)
        # An operator that knows nothing but the files.
        operator = stage.operators[0]
        operator.stop()
        shutil.rmtree(tmp_path / "operator-0/optout")
        operator.start()
        operator.await_ready()
        answered = [attempt.email for attempt in books.acknowledged()]
        assert all(campaign.refused(0, answered))
    figures = books.figures()
    percentiles = {f"p{p}": round(times[min(len(times) - 1, len(times) * p // 100)] * 1000) for p in (50, 99)}
    record_property("optouts_under_faults", {**figures, "faults": dict(campaign.faults), "spread ms": percentiles})
    assert figures["lost"] == 0
    assert figures["entries without cause"] == 0
    assert figures["attempts with two entries"] == 0
    # The faults were there, and did not just keep everything from being answered.
    assert figures["acknowledged"] > figures["attempts"] / 2
    assert figures["acknowledged"] < figures["attempts"]
    assert set(campaign.faults) == set(FAULTS)
