"""Network namespaces as resources: those whose files are in a folder of ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.adapter import Adapter
from netkit.kernel.session import Session
from netkit.model import Key, Netns, Resource
from netkit.reconcile.plan import Op


class Namespaces:
    """A file in `folder` that is the remains of a namespace counts as one, so that it goes."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def adapter(self) -> Adapter:
        return Adapter(
            types=(Netns,),
            kinds=frozenset({"netns"}),
            observe=self.observe,
            apply=self.apply,
            owned=self.owned,
            placed=True,
        )

    def observe(self, _session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        return {key: _seen(key[1]) for key in keys if netns.present(key[1])}

    def owned(self, _session: Session, _prefix: str) -> dict[Key, Resource]:
        """All in the folder: a namespace has no mark."""
        paths = netns.inside_folder(self._folder) if self._folder else []
        return {n.key: n for n in map(_seen, paths)}

    def apply(self, _session: Session, ops: Sequence[Op]) -> None:
        for done, op in enumerate(ops):
            try:
                match op.before, op.after:
                    case _, Netns(path=path, mounted=True):
                        netns.create(path)
                    case Netns(path=path), _:
                        netns.remove(path)
            except KernelError as e:
                e.done = done
                raise


def _seen(path: str) -> Netns:
    return Netns(path=path, mounted=netns.exists(path))
