"""Points at which retrain, the trainer and evaluate are killed in `test_killed_training.py`, each after a write."""

BEGUN = ("retrain.claimed", "retrain.submitted")
TAKEN = ("retrain.taken", "aliases.champion", "aliases.challenger", "retrain.rung")
HELD = ("retrain.cleared", "retrain.held")
BROKEN = ("retrain.settled", "retrain.ended")
TRAINER = ("trainer.frozen", "trainer.made", "trainer.settled", "trainer.registered", "trainer.noted", "trainer.saved")
EVALUATE = ("evaluate.claimed", "evaluate.frozen", "evaluate.announced", "evaluate.written", "evaluate.referenced",
            "evaluate.saved", "evaluate.shown", "evaluate.accepted", "evaluate.concluded")  # fmt: skip
ESCALATED = ("evaluate.escalated",)

OWN_POD = ("carrier.fetched", "trainer.made", "trainer.registered")
"""Of driftloop's containers in a team's pod, killed at in `trainers/test_own_pod_whole.py`."""

ALL = {*BEGUN, *TAKEN, *HELD, *BROKEN, *TRAINER, *EVALUATE, *ESCALATED, *OWN_POD}
