"""Every method that a recipe can choose, by extension point. A new method is one small file and one row here.

The rows of surrogates are in `lavatube.train.surrogate_table`: neurons, which networks are made of, have one.
"""

from __future__ import annotations

from collections.abc import Mapping

from lavatube.train.encoders import Binary as BinaryEncoder
from lavatube.train.encoders import Delta, Direct, Latency, Rate
from lavatube.train.gradients.bptt import Bptt
from lavatube.train.gradients.dsr import Dsr
from lavatube.train.gradients.local_tandem import LocalTandem
from lavatube.train.gradients.online import Online
from lavatube.train.gradients.qcfs import Qcfs
from lavatube.train.gradients.rate import RateBased
from lavatube.train.networks.chain import Chain
from lavatube.train.networks.recurrent import Recurrent
from lavatube.train.networks.resnet import BiRealResNet, PreActResNet, ResNet, SewResNet
from lavatube.train.networks.vgg import Vgg
from lavatube.train.norms.estimators import Causal, Estimator, PerStep, Pooled, Running, TimeBasedStatistics
from lavatube.train.objectives.bias_limit import BiasLimit
from lavatube.train.objectives.bkdsnn import Bkdsnn
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.objectives.kdsnn import Kdsnn
from lavatube.train.objectives.lasnn import Lasnn
from lavatube.train.objectives.mpfd import Mpfd
from lavatube.train.objectives.self_distillation import SelfDistillation
from lavatube.train.objectives.self_ensemble import SelfEnsemble
from lavatube.train.objectives.shortcut import Shortcut
from lavatube.train.objectives.tandem import Tandem
from lavatube.train.recipe_model import Strict
from lavatube.train.sparsity.channel_activity import ChannelActivity
from lavatube.train.sparsity.structure_evolution import StructureEvolution
from lavatube.train.surrogate_table import SURROGATES
from lavatube.train.weights.binary import Binary
from lavatube.train.weights.sub_bit import SubBit

Rows = tuple[type[Strict], ...]

GRADIENTS: Rows = (Bptt, RateBased, Online, Dsr, Qcfs, LocalTandem)
TERMS: Rows = (CrossEntropy, SelfDistillation, SelfEnsemble, BiasLimit, Shortcut, Kdsnn, Lasnn, Bkdsnn, Tandem, Mpfd)
ESTIMATORS: tuple[type[Estimator], ...] = (Pooled, Causal, PerStep, Running, TimeBasedStatistics)
WEIGHTS: Rows = (Binary, SubBit)
ARCHITECTURES: Rows = (Chain, Vgg, ResNet, SewResNet, PreActResNet, BiRealResNet, Recurrent)
ENCODERS: Rows = (Direct, BinaryEncoder, Rate, Latency, Delta)
SPARSITY: Rows = (StructureEvolution, ChannelActivity)

EXTENSION_POINTS: Mapping[str, Rows] = {
    "surrogate": SURROGATES,
    "gradient": GRADIENTS,
    "normalization": ESTIMATORS,
    "objective": TERMS,
    "weight": WEIGHTS,
    "network": ARCHITECTURES,
    "encoder": ENCODERS,
    "sparsity": SPARSITY,
}
