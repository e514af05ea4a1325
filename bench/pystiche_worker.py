"""Runs pystiche on the images of a group, in a separate interpreter: `python pystiche_worker.py PROBLEM.npz`.

It does not import the renderer, since pystiche 1.0.1 needs an older Python: it imports torchvision's `model_urls`,
which 0.13 removed, so that Python 3.10 is the newest. It prints a line of JSON when it is ready, then one for every
line of input: seconds and losses of one evaluation of every image. The problem file gives objective, weights and
start; encoder, losses and optimisation are pystiche's with its default optimiser (torch.optim.LBFGS with a step of 1
and one evaluation a step).
"""

import json
import sys
import time

import numpy as np
import pystiche
import torch
from pystiche import enc, loss, optim
from pystiche.enc.prepostprocessing import Normalize


def encoder_of(problem):
    """pystiche's VGG16 with the problem's weights and normalisation of the input."""
    mle = enc.vgg16_multi_layer_encoder(pretrained=False)
    mle.preprocessing = Normalize(problem["mean"].tolist(), problem["std"].tolist())
    state = mle.state_dict()
    for name in set(state) & set(problem.files):
        value = torch.from_numpy(problem[name])
        state[name] = value.permute(3, 2, 0, 1).contiguous() if value.dim() == 4 else value
    mle.load_state_dict(state, map_names=False)
    return mle


def relative(kind, mle, weights, target):
    """Divides losses of one kind by their targets' mean square, so that a mean of squares becomes a share.

    Args:
        weights: by layer.
    """

    def one(encoder, weight):
        found = kind(encoder)
        found.set_target_image(target)
        found.score_weight = weight / max(float(found._target_repr.square().mean()), 1e-12)
        return found

    return loss.MultiLayerEncodingLoss(mle, list(weights), one, layer_weights=list(weights.values()))


class Optimisation:
    """One image, a step at a call."""

    def __init__(self, mle, objective, content, style, start):
        self._criterion = loss.PerceptualLoss(
            relative(loss.FeatureReconstructionLoss, mle, objective["content"], content),
            relative(loss.GramLoss, mle, objective["style"], style),
        )
        optim.image_optimization(start.clone(), self._criterion, num_steps=1, quiet=True)  # the first time is slower
        self._image, self._loss = start.clone(), None
        self._optimiser = optim.default_image_optimizer(self._image)
        step = self._optimiser.step

        def keeping(closure):
            self._loss = step(closure)
            return self._loss

        self._optimiser.step = keeping

    def evaluate(self):
        """Evaluates the loss once more and takes the step that follows; returns the loss."""
        optim.image_optimization(self._image, self._criterion, self._optimiser, num_steps=1, quiet=True)
        return self._loss


def tensor(picture):
    """Converts H x W x 3 to a tensor 1 x 3 x H x W."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]


def main():
    problem = np.load(sys.argv[1], allow_pickle=False)
    objective = json.loads(str(problem["objective"]))
    mle, style = encoder_of(problem), tensor(problem["style"])
    images = [
        Optimisation(mle, objective, tensor(content), style, tensor(start))
        for content, start in zip(problem["contents"], problem["starts"])  # noqa: B905 (new in Python 3.10)
    ]
    print(json.dumps({"pystiche": pystiche.__version__, "torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        losses = [float(image.evaluate()) for image in images]
        print(json.dumps({"seconds": time.perf_counter() - began, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
