"""# Batch inference

Completes rows of yours, a table or files, for each model whose YAML has a section `batch`: after a change of champion,
and when a person asks. The rows are taken once and cut into shards, a mapped task and a Parquet file each. A shard that
is finished is never asked again; one that was killed is written again, whole, under the same name. What was asked is
compared with the champion's reference, apart from live traffic.
"""

from airflow.sdk import dag, task

from datasets_defs import assets
from datasets_defs.airflow_values import AirflowValues as Outside
from datasets_defs.airflow_values import handed
from datasets_defs.assets import BATCH_COMPLETED, CHAMPION_CHANGED, COMMON, actor, loop_database

ABOUT = {**COMMON, "params": assets.form(), **assets.about(__doc__), "tags": ["pipeline"]}


@task
def open_run(*, dag_run=None, params=None) -> list:
    from serving.batch_inference import open_run

    asked = assets.request(dag_run, params)
    return assets.listed(open_run(asked, actor(dag_run), db=loop_database(), outside=Outside()))


@task
def list_shards(runs) -> list:
    from serving.batch_inference import list_shards

    return list_shards(handed(runs), db=loop_database())


@task(**assets.WRITING)
def ask_shard(shard):
    from serving.batch_inference import ask_shard

    return ask_shard(shard, db=loop_database(), outside=Outside())


@task(trigger_rule="none_failed")
def compare_input(runs):
    from monitors.batch_inference import compare_input

    return compare_input(handed(runs), db=loop_database())


@task(outlets=[BATCH_COMPLETED], trigger_rule="none_failed")
def finish(runs, *, outlet_events=None):
    from serving.batch_inference import finish

    return assets.ring_each(finish(handed(runs), db=loop_database()), BATCH_COMPLETED, outlet_events)


@dag(schedule=assets.on(CHAMPION_CHANGED), **ABOUT)
def batch_inference():
    asked = ask_shard.expand(shard=list_shards(runs := open_run()))
    asked >> compare_input(runs) >> finish(runs)


batch_inference()
