"""# Prepare pairs

Waits, without a worker, until new images with captions lie in the source of a set (`models/pairs/*.yaml`). Lists what
is new as a take, and prepares its images and its captions side by side, a mapped task for each batch. Joins them
again, writes shards, index, losses and pictures, and publishes the take. What a killed run has done is not done again.
Captions and images are then compared with the takes before.
"""

from airflow.sdk import dag, task

from datasets_defs.airflow_values import handed
from datasets_defs.assets import COMMON, PAIRS_PREPARED, about, every, loop_database
from training.pairs.sensor import PairsSensor, pairs_form, publish_take


@task(trigger_rule="none_failed")
def announce(take: dict):
    from training.prepare_pairs import announce

    return announce(take, db=loop_database())


@task(trigger_rule="none_failed")
def compare(take: dict):
    from monitors.prepare_pairs import compare_take

    return compare_take(take, db=loop_database())


@dag(schedule=every(3_600), max_active_runs=1, **COMMON, params=pairs_form(), **about(__doc__), tags=["pipeline"])
def prepare_pairs():
    @task
    def open_takes(pair_sets: list[str]):
        from training.prepare_pairs import open_takes

        return open_takes(handed(pair_sets), db=loop_database())

    @task
    def list_batches(takes: list[dict]):
        from training.prepare_pairs import batches_of_takes

        return batches_of_takes(handed(takes), db=loop_database())

    @task(max_active_tis_per_dagrun=8)
    def prepare_images(batch: dict):
        from training.prepare_pairs import prepare_images

        return prepare_images(batch, db=loop_database())

    @task(max_active_tis_per_dagrun=2)
    def prepare_captions(batch: dict):
        from training.prepare_pairs import prepare_captions

        return prepare_captions(batch, db=loop_database())

    @task(outlets=[PAIRS_PREPARED], trigger_rule="all_done")
    def join(take: dict, *, outlet_events=None):
        from training.prepare_pairs import join

        return publish_take(join(take, db=loop_database()), PAIRS_PREPARED, outlet_events)

    batches = list_batches(takes := open_takes(PairsSensor(task_id="wait_for_pairs").output))
    sides = [prepare_images.expand(batch=batches), prepare_captions.expand(batch=batches)]
    sides >> join.expand(take=takes) >> [announce.expand(take=takes), compare.expand(take=takes)]


prepare_pairs()
