"""Stages of a Dockerfile: what stands before the first FROM, and each FROM with what follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from netkit.errors import InvalidSpec
from runtime.dockerfile.checking import instruction
from runtime.dockerfile.instructions import Arg, From, Instruction, Label
from runtime.dockerfile.parser import Dockerfile


@dataclass(frozen=True, slots=True)
class Stage:
    begin: From
    steps: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.begin.stage


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be built."""

    arguments: tuple[Arg, ...]  # before the first FROM
    stages: tuple[Stage, ...]
    escape: str

    @property
    def steps(self) -> int:
        """How many `Step` lines there are."""
        return len(self.arguments) + sum(1 + len(s.steps) for s in self.stages)


def plan(file: Dockerfile, *, target: str = "", labels: Mapping[str, str] | None = None) -> Plan:
    """Stages up to `target`, a name in any case; the last one gets the labels, sorted by name.

    InstructionFault; InvalidSpec if there is no FROM or no such target.
    """
    arguments: list[Arg] = []
    begins: list[From] = []
    steps: list[list[Instruction]] = []
    for node in file.nodes:
        found = instruction(node)
        if isinstance(found, From):
            begins.append(found)
            steps.append([])
        elif steps:
            steps[-1].append(found)
        elif isinstance(found, Arg):
            arguments.append(found)
        else:
            raise InvalidSpec("no build stage in current context")
    if not steps:
        raise InvalidSpec("file with no FROM instruction")
    stages = [Stage(b, tuple(s)) for b, s in zip(begins, steps, strict=True)]
    if target:
        stages = _until(stages, target)
    if labels:
        stages[-1] = replace(stages[-1], steps=(*stages[-1].steps, *_labels(labels)))
    return Plan(tuple(arguments), tuple(stages), file.escape)


def _until(stages: Sequence[Stage], target: str) -> list[Stage]:
    for index, stage in enumerate(stages):
        if stage.name == target.lower():
            return list(stages[: index + 1])
    raise InvalidSpec(f"failed to reach build target {target} in Dockerfile")


def _labels(labels: Mapping[str, str]) -> list[Label]:
    return [
        Label(source=f"LABEL {name}={value}", pairs=((name, value),), literal=True)
        for name, value in sorted(labels.items())
    ]
