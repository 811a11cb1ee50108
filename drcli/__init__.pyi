from drcli.engine.loaded import load as load
from drcli.functions import compare as compare
from drcli.functions import diagnose as diagnose
from drcli.functions import evaluate as evaluate
from drcli.functions import evaluate_runs as evaluate_runs
from drcli.functions import train as train
from drcli.preparation import prepare as prepare
from drcli.preparation import prepare_from as prepare_from
from drcli.relearning import Relearner as Relearner

__all__: list[str]
__version__: str
