"""Several trainings in step, so that their networks can be stacked."""

from collections.abc import Hashable, Sequence

from miracle_lib.training.stack import Stack, kind, stackable
from miracle_lib.training.stages import Row, Stage
from miracle_lib.training.trainer import Trained, Trainer

LARGEST = 12  # networks in a stack: more gain nothing


def train_together(trainers: Sequence[Trainer]) -> list[Trained]:
    """Train the models of several trainers; epochs that can be stacked are run as one.

    Parameters
    ----------
    trainers : sequence of Trainer
        Of any networks and data. Stages with the same settings and number of mini-batches are
        stacked, if their networks have the same options and no normalisation. All else is trained
        alone.

    Returns
    -------
    list of Trained
        Of each trainer what `Trainer.fit` gives, to rounding.

    Raises
    ------
    MiracleError
        If the loss of any network is not finite.
    """
    runs = [_Run(trainer) for trainer in trainers]
    stacks: dict[tuple[Stage, ...], Stack] = {}
    while waiting := [run for run in runs if run.advance()]:
        groups: dict[Hashable, list[_Run]] = {}
        # A training that has reached a later stage waits for the others.
        turn = min(run.turn for run in waiting)
        for run in waiting:
            if run.turn == turn:
                groups.setdefault(kind(run.stage, run.epoch), []).append(run)
        known, stacks = stacks, {}
        for group in groups.values():
            for start in range(0, len(group), LARGEST):
                part = group[start : start + LARGEST]
                stages = tuple(run.stage for run in part)
                if len(part) == 1:
                    part[0].row = stages[0].run(part[0].epoch)
                    continue
                stacks[stages] = known.get(stages) or Stack(stages)
                rows = stacks[stages].run(part[0].epoch)
                for run, row in zip(part, rows, strict=True):
                    run.row = row
    return [run.trained for run in runs]


class _Run:
    """Training of one model, up to the next epoch that can be stacked."""

    def __init__(self, trainer: Trainer) -> None:
        self.epochs = trainer.epochs()
        self.turn, self.epoch = 0, 0
        self.stage: Stage | None = None
        self.row: Row | None = None
        self.trained: Trained | None = None

    def advance(self) -> bool:
        """Run what cannot be stacked; tell if an epoch is left that can."""
        waits = self.trained is None and self.stage is not None and self.row is None
        while not waits and self.trained is None:
            try:
                stage, self.epoch = self.epochs.send(self.row)
            except StopIteration as end:
                self.trained = end.value
                break
            self.turn += stage is not self.stage
            self.stage, waits = stage, stackable(stage)
            self.row = None if waits else stage.run(self.epoch)
        return waits
